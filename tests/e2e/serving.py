"""What the tests of `llrt serve` share: a server to start, small clients over plain sockets, how long a test takes."""
import asyncio
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from support import BUILD, BUNDLED, SHARED, run

KJV = SHARED / "models" / "kjv-7m"
# As much and as long as a release asks for, the server on one hardware thread and the clients on another, and times
# are checked too.
LONG = "--long" in sys.argv or os.environ.get("LLCUDA_LONG") == "1"
MINUTES = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else 10 if LONG else 0.2
PROMPTS = ["In the beginning", "And God said,", "The LORD is my", "Blessed are", "And it came to pass", "Thou shalt not", "Behold,", "Moses"]


def served_model():
    """The model to serve: trained weights in bf16 where they are at hand, else the bundled quantized ones."""
    return KJV if KJV.is_dir() else BUNDLED


def thread_for_a_server():
    """Puts this process, the clients, on one hardware thread; returns what starts a server on another one."""
    threads = sorted(os.sched_getaffinity(0))
    if len(threads) < 2:
        return ()
    os.sched_setaffinity(0, {threads[-1]})
    return ("taskset", "-c", str(threads[0]))


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Server:
    """A running `llrt serve`. Its log is read, so that it never waits for us."""

    def __init__(self, plan, *options, port=0, env=None, wrapper=()):
        command = [*wrapper, str(BUILD / "llrt"), "serve", str(plan), *map(str, options)]
        if "--unix-socket" not in command:
            command += ["--port", str(port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=env)
        self.log, self.ready, self.addresses = [], threading.Event(), []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if not self.ready.wait(30) or self.process.poll() is not None:
            self.process.kill()
            raise AssertionError("llrt serve did not get ready:\n" + "\n".join(map(str, self.log)))

    def _read(self):
        for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"event": "text", "text": line.decode(errors="replace")}
            self.log.append(entry)
            if entry["event"] == "listening":
                self.addresses = entry["addresses"]
            if entry["event"] == "ready":
                self.ready.set()
        self.ready.set()

    @property
    def port(self):
        return int(self.addresses[0].rsplit(":", 1)[1])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self, expect=0):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.reader.join(10)
        self.process.stderr.close()
        if expect is not None and code != expect:
            raise AssertionError(f"llrt serve ended with {code}, expected {expect}:\n" + "\n".join(map(str, self.log[-20:])))
        return code

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            return self.stop()
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def request(self, method, path, body=None, headers=None, timeout=60):
        """Status, headers and body of one request; the body parsed when it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            all_headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, data, {**all_headers, **(headers or {})})
            response = connection.getresponse()
            text = response.read()
            if text and "json" in response.headers.get("Content-Type", ""):
                text = json.loads(text)
            return response.status, response.headers, text
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    def post(self, path, body, **headers):
        return self.request("POST", path, body, headers)

    def metrics(self):
        """name or name{labels beyond model and engine} -> value."""
        values = {}
        for line in self.get("/metrics")[2].decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = re.sub(r'model_name="[^"]*",engine="0",?', "", name).replace("{}", "")
                values[name] = float(value)
        return values

    def resources(self):
        """Resident bytes, open files and threads of the process."""
        root = pathlib.Path("/proc") / str(self.process.pid)
        status = (root / "status").read_text()
        return (int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) << 10, len(os.listdir(root / "fd")),
                int(re.search(r"Threads:\s+(\d+)", status)[1]))

    def idle_resources(self):
        """The same when nobody but us is connected."""
        self.wait_for(lambda m: m["llrt:connections"] <= 1)
        time.sleep(0.2)
        return self.resources()

    def wait_for(self, condition, seconds=10):
        """Polls the metrics until the condition holds; fails after so long."""
        end = time.monotonic() + seconds
        while not condition(values := self.metrics()):
            if time.monotonic() > end:
                raise AssertionError(f"still not so after {seconds} s: "
                                     f"{ {k: v for k, v in values.items() if k.startswith('llrt:') and '_bucket' not in k} }")
            time.sleep(0.05)
        return values


async def send(port, method, path, body=None, headers=()):
    """Opens a connection and sends a request; returns reader, writer, status and headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    writer.write((head + "".join(f"{h}\r\n" for h in headers) + "\r\n").encode() + data)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    return reader, writer, int(lines[0].split()[1]), {k.lower(): v for k, v in (l.split(": ", 1) for l in lines[1:] if l)}


async def read_body(reader, headers):
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


async def ask(port, path, body):
    """One request on a connection of its own: status, headers, bytes of the body."""
    reader, writer, status, headers = await send(port, "POST", path, body)
    try:
        return status, headers, await read_body(reader, headers)
    finally:
        writer.close()


def events(body):
    """The objects of a stream of server-sent events; fails unless it ends in [DONE]."""
    parts = [p for p in body.decode().split("\n\n") if p and not p.startswith(":")]
    assert parts and parts[-1] == "data: [DONE]", f"the stream ends in {parts[-1:]}"
    return [json.loads(p.removeprefix("data: ")) for p in parts[:-1]]


async def stream_text(port, body, path="/v1/completions"):
    """Text of a streamed completion, and why it ended."""
    status, _, data = await ask(port, path, {**body, "stream": True})
    assert status == 200, (status, data)
    text, finish = "", None
    for event in events(data):
        for choice in event.get("choices", []):
            text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            finish = choice["finish_reason"] or finish
    return text, finish


def compile_served(folder, max_batch=16, **options):
    plan = folder / "served.llcp"
    extra = [str(x) for k, v in options.items() for x in ("--" + k.replace("_", "-"), v)]
    run("llcc", "compile", served_model(), "-o", plan, "--max-batch", max_batch, *extra)
    return plan


class Served:
    """Of a test file: `setUpModule = SERVED.set_up`."""
    folder = plan = None
    pinned = ()

    def set_up(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-serve-"))
        unittest.addModuleCleanup(shutil.rmtree, self.folder, True)
        self.plan = compile_served(self.folder)
        self.pinned = thread_for_a_server() if LONG else ()

    def one(self, *options, **more):
        """A server of one thread, that logs no requests; on a hardware thread of its own where times are checked."""
        return Server(self.plan, "-t", 1, "--log-level", 0, *options, wrapper=self.pinned, **more)


def say(text):
    print(text, file=sys.stderr, flush=True)


def greedy(prompt, tokens=40, **more):
    return {"prompt": prompt, "max_tokens": tokens, "temperature": 0, **more}


def main():
    """Of a test file: --long (or LLCUDA_LONG=1); --minutes N, of the soak test."""
    arguments = [a for i, a in enumerate(sys.argv) if a not in ("--long", "--minutes") and sys.argv[i - 1] != "--minutes"]
    unittest.main(argv=arguments)
