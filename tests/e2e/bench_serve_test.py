"""llrt bench serve: against our server, and against stand-ins for others that do what the format allows, or fail."""
import html.parser
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import xml.etree.ElementTree
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from serving import Server, compile_served
from support import BUILD, run


class Stand(ThreadingHTTPServer):
    """A server that answers as `reply(handler, body)` writes it; keeps the requests' bodies."""
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, reply, models=b'{"data":[{"id":"stand-in"}]}'):
        stand = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(models)))
                self.end_headers()
                self.wfile.write(models)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stand.lock:
                    stand.bodies.append((self.path, dict(self.headers), body))
                    stand.now += 1
                    stand.most = max(stand.most, stand.now)
                try:
                    reply(self, body)
                finally:
                    with stand.lock:
                        stand.now -= 1
                self.close_connection = True

        self.lock, self.bodies, self.now, self.most = threading.Lock(), [], 0, 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_):
        """Clients that have what they want close while more is written."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


def head(handler, chunked=False, status=200, more=()):
    handler.send_response(status)
    handler.send_header("Content-Type", "text/event-stream")
    if chunked:
        handler.send_header("Transfer-Encoding", "chunked")
    for name, value in more:
        handler.send_header(name, value)
    handler.end_headers()


def piece(text, **choice):
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **choice}]}


def stream(lines, end="\n", chunked=False):
    """A reply of server-sent events. Bytes are sent as they are, numbers are seconds to wait."""
    def reply(handler, _):
        head(handler, chunked)
        for line in lines:
            if isinstance(line, (int, float)):
                time.sleep(line)
                continue
            data = line if isinstance(line, bytes) else f"data: {line if isinstance(line, str) else json.dumps(line)}{end}{end}".encode()
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
            handler.wfile.flush()
        if chunked:
            handler.wfile.write(b"0\r\n\r\n")
    return reply


def bench(url, *options, expect=0, env=None):
    done = run("llrt", "bench", "serve", url, "--json", *options, expect=expect, env=env)
    return json.loads(done.stdout) if expect == 0 else done.stderr.decode()


class OtherServers(unittest.TestCase):
    def test_every_way_to_stream_is_read(self):
        role = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}
        for name, lines, counted in [
                ("usage", [role, piece("a"), piece("b"), piece("c"), end, usage, "[DONE]"], ("server", 9, 7)),
                ("no usage", [role, piece("a"), piece("b"), piece("c"), end, "[DONE]"], ("chunks", 3, 0)),
                ("no [DONE]", [piece("a"), piece("b"), piece("c", finish_reason="stop")], ("chunks", 3, 0)),
                ("comments", [b": ping\n\n", role, b": OPENROUTER PROCESSING\n\n", piece("a"), b"event: x\nid: 5\n", piece("b"), b"retry: 1\n\n", piece("c"), end, "[DONE]"],
                 ("chunks", 3, 0))]:
            for newline in ("\n", "\r\n", "\r"):
                for chunked in (False, True):
                    with Stand(stream(lines, newline, chunked)) as server:
                        level = bench(server.url, "--chat", "-c", 2, "-n", 4)["levels"][0]
                        self.assertEqual(level["errors"], {}, (name, newline, chunked, level["first_error"]))
                        self.assertEqual(level["requests"]["answered"], 4)
                        self.assertEqual((level["tokens"]["counted_by"], level["tokens"]["output"], level["tokens"]["prompt"]),
                                         (counted[0], 4 * counted[1], 4 * counted[2]), (name, newline, chunked))
                        self.assertEqual(level["tokens"]["chunks"], 12)
                        self.assertEqual(level["between_ms"]["count"], 8)

    def test_failures_are_counted_by_kind(self):
        def turns(*replies):
            left = list(replies)
            return lambda handler, body: left.pop(0)(handler, body)

        def status(code, body):
            def reply(handler, _):
                head(handler, status=code, more=[("Content-Length", str(len(body)))])
                handler.wfile.write(body)
            return reply
        good = stream([piece("a"), "[DONE]"])
        kinds = [(status(429, b'{"error":{"message":"too many"}}'), "status 429"), (status(500, b"<html>"), "status 500"),
                 (stream([piece("a"), {"error": {"message": "lost"}}]), "error event"), (stream([piece("a")]), "closed"),
                 (stream(["[DONE]"]), "no text"), (stream(["{nonsense"]), "malformed"), (stream([piece("a"), 5, "[DONE]"]), "timeout"),
                 (lambda handler, _: handler.wfile.write(b"SSH-2.0\r\n\r\n"), "malformed"), (lambda handler, _: None, "closed")]
        with Stand(turns(good, *[k[0] for k in kinds], good)) as server:
            report = bench(server.url, "-c", 1, "-n", len(kinds) + 1, "--timeout", 1)
        level = report["levels"][0]
        self.assertEqual(level["errors"], {"closed": 2, "error event": 1, "malformed": 2, "no text": 1, "status 429": 1, "status 500": 1, "timeout": 1})
        self.assertEqual(level["first_error"], "status 429: too many")
        self.assertEqual(level["requests"], {"ended": len(kinds) + 1, "answered": 1, "most_at_once": 1})

    def test_times_are_those_of_the_server(self):
        with Stand(stream([0.3, piece("a"), 0.1, piece("b"), 0.1, piece("c"), "[DONE]"])) as server:
            level = bench(server.url, "-c", 4, "-n", 8, "--slo-first", 200)["levels"][0]
            self.assertGreaterEqual(level["first_token_ms"]["p50"], 300)
            self.assertGreaterEqual(level["between_ms"]["p50"], 100)
            self.assertGreaterEqual(level["per_token_ms"]["p50"], 100)
            self.assertGreaterEqual(level["end_to_end_ms"]["p50"], 500)
            self.assertGreaterEqual(level["seconds"], 1)
            self.assertEqual((level["goodput"]["requests"], level["goodput"]["share"]), (0, 0))
            # What is measured is the server's waiting, not the client's work.
            self.assertLess(level["client_load"], 0.5)
            self.assertEqual(bench(server.url, "-c", 1, "-n", 1, "--slo-total", 60000)["levels"][0]["goodput"]["share"], 1)

    def test_loops_and_lengths(self):
        slow = stream([0.2, piece("a"), "[DONE]"])
        with Stand(slow) as server:
            levels = bench(server.url, "-c", "1,5", "-n", 10, "--prompt-words", "uniform:3,6", "--output-tokens", "lognormal:50,1",
                           "--shared-prefix", "0.5", "--warmup", 0, "--temp", "0.5", "--extra", '{"ignore_eos": null, "top_k": 3}')["levels"]
            self.assertEqual([l["streams"] for l in levels], [1, 5])
            self.assertEqual([l["requests"]["most_at_once"] for l in levels], [1, 5])
            self.assertGreaterEqual(server.most, 5)  # a thread of the stand-in ends a moment after its answer
            bodies = [b for _, _, b in server.bodies]
            self.assertEqual(len({b["prompt"] for b in bodies}), 20)
            self.assertEqual({len(b["prompt"].split()) for b in bodies}, {3, 4, 5, 6})
            self.assertEqual(len({tuple(b["prompt"].split()[:2]) for b in bodies}), 1)
            self.assertGreater(len({b["max_tokens"] for b in bodies}), 10)
            for b in bodies:
                self.assertEqual((b["model"], b["temperature"], b["top_k"], b["stream"], "ignore_eos" in b), ("stand-in", 0.5, 3, True, False))
        with Stand(slow) as server:
            # Requests come when it is their time, not when others are answered.
            level = bench(server.url, "--rate", 100, "-n", 30, "--warmup", 0)["levels"][0]
            self.assertEqual((level["requests_per_second_asked"], level["requests"]["answered"]), (100, 30))
            self.assertGreater(server.most, 5)

    def test_key_and_model(self):
        with Stand(stream([piece("a"), "[DONE]"])) as server:
            key = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-key-")) / "key"
            self.addCleanup(shutil.rmtree, key.parent, True)
            key.write_text("from-file\n")
            report = bench(server.url + "/v1/", "-n", 1, "--model", "mine", "--chat", env=dict(os.environ, LLRT_API_KEY="from-env"))
            self.assertEqual(report["model"], "mine")
            bench(server.url, "-n", 1, "--api-key-file", key)
            (path, headers, body), (_, by_file, _) = server.bodies[0], server.bodies[-1]
            self.assertEqual((path, headers["Authorization"], body["model"]), ("/v1/chat/completions", "Bearer from-env", "mine"))
            self.assertEqual(by_file["Authorization"], "Bearer from-file")
            self.assertNotIn("from-env", json.dumps(report))

    def test_what_cannot_be_measured_is_said(self):
        with Stand(lambda handler, _: head(handler, status=401, more=[("Content-Length", "0")])) as server:
            self.assertIn("status 401", bench(server.url, expect=66))
        with Stand(stream([]), models=b'{"data":[]}') as server:
            self.assertIn("--model names one", bench(server.url, expect=66))
        self.assertIn("cannot connect", bench("http://127.0.0.1:1", expect=66))
        self.assertIn("TLS", bench("https://127.0.0.1:1", expect=64))
        for option in (("-c", 0), ("-c", "x"), ("--prompt-words", "0"), ("--rate", "0"), ("--rate", 1, "-c", 1), ("--shared-prefix", 2),
                       ("--extra", "[]"), ("--chart", "x.png"), ("--text", "/dev/null/x")):
            code = run("llrt", "bench", "serve", "http://127.0.0.1:1", *option, expect=None).returncode
            self.assertIn(code, (64, 66), option)
        self.assertEqual(run("llrt", "bench", expect=64).stdout, b"")

    def test_interrupted_it_reports_what_there_is(self):
        with Stand(stream([0.05, piece("a"), "[DONE]"])) as server:
            process = subprocess.Popen([str(BUILD / "llrt"), "bench", "serve", server.url, "--json", "-c", "2", "-n", "100000"], stdout=subprocess.PIPE)
            while len(server.bodies) < 6:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        report = json.loads(out)
        self.assertTrue(report["interrupted"])
        self.assertGreater(report["levels"][0]["requests"]["answered"], 0)


class OurServer(unittest.TestCase):
    def test_load_on_llrt_serve(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-bench-"))
        self.addCleanup(shutil.rmtree, folder, True)
        with Server(compile_served(folder, max_batch=8), "-t", 1) as server:
            before = server.metrics()
            page = folder / "load.html"
            report = bench(server.url, "-c", "1,8", "-n", 16, "-p", "uniform:5,30", "-o", 12, "--chart", page)
            after = server.metrics()
            self.assertEqual([l["errors"] for l in report["levels"]], [{}, {}])
            for level in report["levels"]:
                self.assertEqual(level["tokens"]["counted_by"], "server")
                self.assertEqual(level["tokens"]["output"], 16 * 12)
                self.assertEqual(level["first_token_ms"]["count"], 16)
                for figures in (level["first_token_ms"], level["between_ms"], level["end_to_end_ms"]):
                    self.assertLessEqual(0 < figures["p50"] <= figures["p95"] <= figures["p99"], figures["max"] + 1)
            # 33 requests with the warm-up.
            self.assertEqual(after["llrt:step_rows_total"] - before["llrt:step_rows_total"], 33 * 12)

            class Page(html.parser.HTMLParser):
                tags = []

                def handle_starttag(self, tag, attributes):
                    self.tags.append(tag)
                    assert not {"src", "href"} & {k for k, _ in attributes}, attributes
            Page().feed(page.read_text())
            self.assertEqual((Page.tags.count("svg"), Page.tags.count("tr"), "script" in Page.tags), (1, 3, False))
            picture = folder / "load.svg"
            done = run("llrt", "bench", "serve", server.url, "--rate", "20,40", "-n", 8, "-o", 4, "--chart", picture)
            self.assertEqual(xml.etree.ElementTree.parse(picture).getroot().tag, "{http://www.w3.org/2000/svg}svg")
            self.assertEqual(len(done.stdout.decode().splitlines()), 1 + 2 + 2)


if __name__ == "__main__":
    unittest.main()
