"""Measures llrt serve, alone and beside a llama-server: server_figures.py [FIGURE...] [--peer PATH] [--python PATH] [--rounds N]

FIGURE, all of them unless some are named:
  prefix     time to first token of 100 tokens behind 1,000 that an earlier request had, against the 100 alone
  steps      steps of the device for each token generated, 16 streams
  long       time between tokens of 15 streams while prompts of 1,500 tokens arrive
  aggregate  tokens/s of 16 streams, the same load (LLCUDA_SHARED/tools/load.py) on both servers in turn;
--model FILE and --context N: another model than kjv-7m, and its longest sequence.
Results are printed as lines of a table; docs/performance/serving.md keeps them. Nothing here passes or fails.
--python: an interpreter that has aiohttp, for load.py.
"""
import argparse
import asyncio
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from serving import KJV, Server, percentile, read_body, send
from support import SHARED, run


class Peer:
    """A running llama-server."""

    def __init__(self, program, model, threads, slots, context):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [program, "-m", model, "-t", str(threads), "-tb", str(threads), "-np", str(slots), "-c", str(slots * context), "-fa", "on",
             "--host", "127.0.0.1", "--port", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        self.process.kill()
        raise SystemExit(f"{program} did not get ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


async def tokens_of(port, prompt, count, **more):
    """Times, from the request on, at which the tokens of a streamed answer came."""
    begin, times = time.perf_counter(), []
    reader, writer, status, headers = await send(port, "POST", "/v1/completions", {
        "prompt": prompt, "max_tokens": count, "temperature": 0, "stream": True, "ignore_eos": True, "return_token_ids": True, **more})
    if status != 200:
        raise SystemExit(f"{status}: {await read_body(reader, headers)}")
    async for line in reader:
        if line.startswith(b"data: {") and b'"token_ids":[' in line:
            times += [time.perf_counter() - begin] * len(json.loads(line[6:])["choices"][0]["token_ids"])
        if line.startswith(b"data: [DONE]"):
            break
    writer.close()
    return times


def words(server, count, at):
    """So many token ids of the validation text from a place in it on."""
    if not words.ids:
        words.ids = server.post("/tokenize", {"content": (KJV / "valid.txt").read_text()})[2]["tokens"]
    at %= len(words.ids) - count
    return words.ids[at:at + count]


words.ids = []


def prefix(server, rounds):
    ratios, alone, behind = [], [], []
    first = lambda prompt: asyncio.run(tokens_of(server.port, prompt, 1))[0]
    for i in range(rounds):
        shared, other, suffix = words(server, 1000, 1300 * i), words(server, 100, 1300 * i + 30), words(server, 100, 1300 * i + 60)
        salted = words(server, 100, 1300 * i + 90)
        first(shared + other)
        behind.append(first(shared + suffix))
        alone.append(first(salted))
        ratios.append(behind[-1] / alone[-1])
    print(f"prefix: first token of 100 tokens alone {statistics.median(alone) * 1e3:.1f} ms, behind 1,000 shared ones "
          f"{statistics.median(behind) * 1e3:.1f} ms, ratio {statistics.median(ratios):.2f} (median of {rounds})")


def steps(server, rounds):
    async def all_(offset):
        async def one(i):
            for k in range(rounds):
                await tokens_of(server.port, prompts[(offset + i + 16 * k) % len(prompts)], 128)
        await asyncio.gather(*[one(i) for i in range(16)])
    prompts = [words(server, 40 + i % 100, 190 * i) for i in range(100)]
    before = server.metrics()
    begin = time.perf_counter()
    asyncio.run(all_(0))
    took, after = time.perf_counter() - begin, server.metrics()
    grown = lambda name: after[name] - before[name]
    rows, count = grown("llrt:step_rows_total"), grown("llrt:steps_total")
    print(f"steps: 16 streams, {rows:.0f} tokens in {count:.0f} steps: {rows / count:.2f} a step, {rows / took:.0f} tokens/s, "
          f"device {grown('llrt:device_seconds_total') / took:.1%} and host {grown('llrt:host_seconds_total') / took:.1%} of the time")


def long(server, rounds):
    async def gaps_of(prompt, sink):
        times = await tokens_of(server.port, prompt, 600)
        sink += [(t, t + begin, b - t) for t, b in zip(times, times[1:])]

    async def all_(arrivals):
        nonlocal begin
        begin, sink, windows = time.perf_counter(), [], []
        streams = [asyncio.create_task(gaps_of(p, sink)) for p in prompts]

        async def arrive():
            for i in range(arrivals):
                await asyncio.sleep(0.5)
                at = time.perf_counter()
                first = (await tokens_of(server.port, words(server, 1500, 1700 * i), 1, cache_prompt=False))[0]
                windows.append((at, at + first))
        arriving = asyncio.create_task(arrive())
        await asyncio.gather(*streams)
        arriving.cancel()
        return sink, windows
    begin = 0
    prompts = [words(server, 60, 900 * i) for i in range(15)]
    for p in prompts:  # the same cached prompts in both runs
        asyncio.run(tokens_of(server.port, p, 1))
    for _ in range(rounds):
        quiet, _ = asyncio.run(all_(0))
        busy, windows = asyncio.run(all_(100))
        inside = [g for _, t, g in busy if any(a <= t <= b for a, b in windows)]
        p99 = lambda values: percentile(values, .99) * 1e3
        plain = [g for _, _, g in quiet]
        print(f"long: between tokens of 15 streams p50 {percentile(plain, .5) * 1e3:.1f}, p99 {p99(plain):.1f} ms; with {len(windows)} prompts of "
              f"1,500 tokens one after another p50 {percentile([g for _, _, g in busy], .5) * 1e3:.1f}, p99 {p99([g for _, _, g in busy]):.1f} ms, "
              f"while one is read p99 {p99(inside):.1f} ms: {p99(inside) / p99(plain):.2f} times; "
              f"first token after {statistics.median(b - a for a, b in windows) * 1e3:.0f} ms")


def aggregate(folder, a):
    model = a.model or KJV / "gguf" / "kjv-7m-Q8_0.gguf"
    plan = folder / "aggregate.llcp"
    run("llcc", "compile", model, "-o", plan, "--max-batch", 16, *(["--ctx-size", a.context] if a.context else []))
    load = [a.python, str(SHARED / "tools" / "load.py")]
    more = ["--streams", "16", "--prompt-words", a.words, "--tokens", "128", "--rounds", a.requests, "--text", str(KJV / "valid.txt")]
    for _ in range(a.rounds):
        with Server(plan, "-t", a.threads, "--log-level", 0, "--queue", 64) as server:
            print("llrt         ", subprocess.run([*load, server.url, *map(str, more)], capture_output=True, text=True, check=True).stdout.strip(), flush=True)
        if a.peer:
            with Peer(a.peer, str(model), a.threads, 16, a.context or 1024) as server:
                print("llama-server ", subprocess.run([*load, server.url, *map(str, more)], capture_output=True, text=True, check=True).stdout.strip(), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("figures", nargs="*")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--peer")
    p.add_argument("--python", default=sys.executable)
    p.add_argument("--model", type=pathlib.Path)
    p.add_argument("--context", type=int)
    p.add_argument("--words", type=int, default=200)
    p.add_argument("--requests", type=int, default=3, help="of each stream in a round of `aggregate`")
    a = p.parse_args()
    if not KJV.is_dir():
        raise SystemExit(f"the reference model is not at {KJV}")
    with tempfile.TemporaryDirectory(prefix="llcuda-figures-") as name:
        folder = pathlib.Path(name)
        figures = a.figures or ["prefix", "steps", "long", "aggregate"]
        if set(figures) - {"aggregate"}:
            run("llcc", "compile", a.model or KJV, "-o", folder / "served.llcp", "--max-batch", 16, *(["--ctx-size", a.context] if a.context else []))
            with Server(folder / "served.llcp", "-t", a.threads, "--log-level", 0) as server:
                for figure in figures:
                    if figure != "aggregate":
                        {"prefix": prefix, "steps": steps, "long": long}[figure](server, a.rounds)
        if "aggregate" in figures:
            aggregate(folder, a)


main()
