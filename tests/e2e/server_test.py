"""llrt serve: answers, what the API says, keys and TLS."""
import asyncio
import ctypes
import http.client
import json
import os
import re
import socket
import ssl
import time
import unittest

from serving import KJV, PROMPTS, Served, Server, ask, events, greedy, main, stream_text
from support import ROOT, run

SERVED = Served()
setUpModule = SERVED.set_up


class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(SERVED.plan, "-t", 1, "--deterministic")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    @unittest.skipUnless(KJV.is_dir(), "the reference model is not at hand")
    def test_greedy_answers_are_the_references(self):
        reference = json.loads((KJV / "reference.json").read_text())
        for case in reference["chat"]:
            n = len(case["greedy_ids"])
            status, _, body = self.server.post("/v1/chat/completions", {
                "messages": case["messages"], "max_tokens": n, "temperature": 0, "return_token_ids": True})
            self.assertEqual(status, 200, body)
            self.assertEqual(body["choices"][0]["token_ids"], case["greedy_ids"])
            self.assertEqual(body["choices"][0]["message"]["content"], case["greedy_text"])
            self.assertEqual(body["usage"]["prompt_tokens"], len(case["prompt_ids"]))
            self.assertEqual(self.server.post("/apply-template", {"messages": case["messages"]})[2]["prompt"], case["prompt"])
        case = reference["completion"]
        for prompt in (case["prompt"], case["prompt_ids"]):
            body = self.server.post("/v1/completions", greedy(prompt, len(case["greedy_ids"]), return_token_ids=True))[2]
            self.assertEqual(body["choices"][0]["token_ids"], case["greedy_ids"])
            self.assertEqual(body["choices"][0]["text"], case["greedy_text"])
        for case in reference["tokenize"]:
            body = self.server.post("/tokenize", {"content": case["text"]})[2]
            self.assertEqual(body["tokens"], case["ids"])
            self.assertEqual(self.server.post("/detokenize", {"tokens": case["ids"]})[2]["content"], case["decoded"])

    def test_64_streams_give_what_each_gives_alone(self):
        alone = {p: asyncio.run(stream_text(self.server.port, greedy(p))) for p in PROMPTS}

        async def together():
            return await asyncio.gather(*[stream_text(self.server.port, greedy(PROMPTS[i % len(PROMPTS)])) for i in range(64)])
        for i, got in enumerate(asyncio.run(together())):
            self.assertEqual(got, alone[PROMPTS[i % len(PROMPTS)]])

    def test_streamed_and_whole_answers_agree(self):
        for extra in ({}, {"n": 3, "seed": 5, "temperature": 1}, {"stop": [",", "of the"]}, {"logprobs": 3}, {"echo": True, "logprobs": 1}):
            body = {**greedy("And God", 24), **extra}
            whole = self.server.post("/v1/completions", body)[2]["choices"]
            parts = events(asyncio.run(ask(self.server.port, "/v1/completions", {**body, "stream": True}))[2])
            for choice in whole:
                mine = [c for e in parts for c in e["choices"] if c["index"] == choice["index"]]
                self.assertEqual("".join(c["text"] for c in mine), choice["text"], extra)
                self.assertEqual(mine[-1]["finish_reason"], choice["finish_reason"])
                if choice["logprobs"]:
                    for key in ("tokens", "token_logprobs", "text_offset"):
                        self.assertEqual([x for c in mine if c["logprobs"] for x in c["logprobs"][key]], choice["logprobs"][key], key)

    def test_seeds_repeat_and_differ(self):
        ask_ = lambda seed: self.server.post("/v1/completions", {"prompt": "And", "max_tokens": 24, "temperature": 1.5, "seed": seed})[2]["choices"][0]["text"]
        self.assertEqual(ask_(7), ask_(7))
        self.assertNotEqual(ask_(7), ask_(8))

    def test_sampling_fields_are_taken(self):
        for extra in ({"top_k": 5}, {"min_p": 0.2}, {"typical_p": 0.5}, {"repetition_penalty": 1.3}, {"repeat_penalty": 1.3, "repeat_last_n": 8},
                      {"dry_multiplier": 0.8, "dry_sequence_breakers": ["\n"]}, {"xtc_probability": 0.5}, {"mirostat": 1}, {"mirostat": 2},
                      {"presence_penalty": 1, "frequency_penalty": -1}, {"logit_bias": {"5": -100, "7": 3.5}}, {"min_tokens": 5}):
            status, _, body = self.server.post("/v1/completions", {"prompt": "And", "max_tokens": 8, "temperature": 0.9, **extra})
            self.assertEqual(status, 200, (extra, body))
        banned = self.server.post("/v1/completions", greedy("And", 1, return_token_ids=True))[2]["choices"][0]["token_ids"][0]
        other = self.server.post("/v1/completions", greedy("And", 1, return_token_ids=True, logit_bias={str(banned): -100}))[2]["choices"][0]["token_ids"][0]
        self.assertNotEqual(banned, other)
        text = self.server.post("/v1/completions", greedy("And", 30, ignore_eos=True, stop_token_ids=[other]))[2]["choices"][0]
        self.assertIn(text["finish_reason"], ("stop", "length"))

    def test_the_prompt_cache_is_counted(self):
        prompt = " ".join(PROMPTS * 12)
        first = self.server.post("/v1/completions", greedy(prompt, 1, cache_salt="a"))[2]["usage"]
        again = self.server.post("/v1/completions", greedy(prompt, 1, cache_salt="a"))[2]["usage"]
        other = self.server.post("/v1/completions", greedy(prompt, 1, cache_salt="b"))[2]["usage"]
        self.assertEqual(first["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertGreater(again["prompt_tokens_details"]["cached_tokens"], again["prompt_tokens"] // 2)
        self.assertEqual(other["prompt_tokens_details"]["cached_tokens"], 0)

    def test_several_prompts(self):
        choices = self.server.post("/v1/completions", greedy(PROMPTS[:3], 8, n=2))[2]["choices"]
        self.assertEqual([c["index"] for c in choices], list(range(6)))
        for i, c in enumerate(choices):
            self.assertEqual(c["text"], self.server.post("/v1/completions", greedy(PROMPTS[i // 2], 8))[2]["choices"][0]["text"])

    def test_errors_name_the_field(self):
        for path, body, status, param in (
                ("/v1/completions", {}, 400, "prompt"), ("/v1/completions", {"prompt": "a", "n": 9}, 400, "n"),
                ("/v1/completions", {"prompt": "a", "suffix": "b"}, 501, "suffix"),
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_object"}}, 501, "response_format"),
                ("/v1/chat/completions", {"messages": "hi"}, 400, "messages"),
                ("/v1/completions", {"prompt": "a " * 5000}, 400, "prompt")):
            got, _, answer = self.server.post(path, body)
            self.assertEqual((got, answer["error"]["param"], answer["error"]["code"]), (status, param, status), answer)
            self.assertEqual(set(answer["error"]) & {"message", "type", "param", "code"}, {"message", "type", "param", "code"})
        self.assertEqual(self.server.get("/nothing")[0], 404)
        self.assertEqual(self.server.get("/v1/completions")[0], 405)
        self.assertEqual(self.server.request("POST", "/v1/completions", b"{}", {"Content-Type": "text/plain"})[0], 415)
        self.assertEqual(self.server.request("POST", "/v1/completions", b"{}", {"Content-Encoding": "gzip"})[0], 415)

    def test_facts(self):
        self.assertEqual(self.server.get("/health")[2], {"status": "ok"})
        models = self.server.get("/v1/models")[2]
        self.assertEqual(models["object"], "list")
        name = models["data"][0]["id"]
        self.assertEqual(self.server.get("/v1/models/" + name)[2]["id"], name)
        self.assertEqual(self.server.get("/v1/models/other")[0], 404)
        self.assertIn("im_start", self.server.get("/props")[2]["chat_template"])
        self.assertIn("version", self.server.get("/version")[2])
        self.assertEqual(self.server.request("HEAD", "/health")[2], b"")
        api = self.server.get("/openapi.json")[2]
        self.assertIn("temperature", api["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"])

    def test_metrics(self):
        before = self.server.metrics()
        self.server.post("/v1/completions", greedy("And", 10))
        after = self.server.metrics()
        grown = lambda name: after[name] - before[name]
        self.assertEqual(grown("vllm:generation_tokens_total"), 10)
        self.assertEqual(grown("llrt:step_rows_total"), 10)
        self.assertEqual(grown("vllm:e2e_request_latency_seconds_count"), 1)
        self.assertEqual(grown('vllm:request_success_total{finished_reason="length"}'), 1)
        self.assertGreaterEqual(grown("llrt:steps_total"), 10)
        for line in self.server.get("/metrics")[2].decode().splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) [a-zA-Z0-9_:]+ .+|[a-zA-Z0-9_:]+\{[^{}]*\} [-+0-9.e]+)$')

    def test_request_ids_come_back(self):
        self.assertEqual(self.server.get("/health", **{"X-Request-Id": "abc-1"})[1]["X-Request-Id"], "abc-1")
        strange = self.server.get("/health", **{"X-Request-Id": "a b<script>"})[1]["X-Request-Id"]
        self.assertRegex(strange, r"^[0-9a-f]+$")

    def test_timeouts_end_an_answer(self):
        status, _, body = self.server.post("/v1/completions", greedy("And", 2000, ignore_eos=True, timeout=0.2))
        self.assertEqual(status, 408, body)

    def test_no_prompt_text_in_the_log(self):
        self.server.post("/v1/completions", greedy("Zerubbabel secret", 3, user="Zerubbabel"))
        self.server.request("POST", "/v1/completions?Zerubbabel", b"{Zerubbabel", {"Content-Type": "application/json"})
        self.assertNotIn("Zerubbabel", json.dumps(self.server.log))


class Guarded(unittest.TestCase):
    def test_every_route_but_health_needs_a_key_and_a_known_host(self):
        keys = SERVED.folder / "keys"
        keys.write_text("# keys\nfirst\nsecond\n")
        env = dict(os.environ, LLRT_API_KEY="third")
        with Server(SERVED.plan, "-t", 1, "--api-key-file", keys, env=env) as server:
            api = server.get("/openapi.json", Authorization="Bearer first")[2]
            routes = [(m.upper(), p.replace("{name}", "x")) for p, ms in api["paths"].items() for m in ms]
            self.assertGreater(len(routes), 15)
            for method, path in routes:
                body = b"{}" if method == "POST" else None
                public = path in ("/", "/web/x", "/health", "/v1/health", "/ping")
                self.assertEqual(server.request(method, path, body)[0] != 401, public, path)
                self.assertEqual(server.request(method, path, body, {"Authorization": "Bearer firs"})[0] != 401, public, path)
                for key in ("first", "second", "third"):
                    self.assertNotIn(server.request(method, path, body, {"Authorization": "Bearer " + key})[0], (401, 403), path)
                self.assertNotIn(server.request(method, path, body, {"X-Api-Key": "second"})[0], (401, 403), path)
                for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
                    self.assertEqual(server.request(method, path, body, {**headers, "Authorization": "Bearer first"})[0], 403, (path, headers))
                answer = server.request(method, path, body, {"Authorization": "Bearer first"})
                self.assertNotIn("Access-Control-Allow-Origin", answer[1])
            self.assertEqual(server.request("OPTIONS", "/v1/models", headers={"Origin": "https://evil.example"})[0], 403)

    def test_cors_when_configured(self):
        with Server(SERVED.plan, "-t", 1, "--allow-origin", "https://good.example", "--allow-host", "api.example") as server:
            status, headers, _ = server.request("OPTIONS", "/v1/completions", headers={"Origin": "https://good.example", "Access-Control-Request-Method": "POST"})
            self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (204, "https://good.example"))
            self.assertEqual(server.get("/health", Host="api.example")[0], 200)
            self.assertEqual(server.get("/health", Host="other.example")[0], 403)

    def test_refuses_to_serve_others_without_a_key(self):
        done = run("llrt", "serve", SERVED.plan, "--host", "0.0.0.0", "--port", 0, expect=64)
        self.assertIn(b"API key", done.stderr)
        (SERVED.folder / "empty").write_text("# nothing\n")
        run("llrt", "serve", SERVED.plan, "--port", 0, "--api-key-file", SERVED.folder / "empty", expect=64)
        run("llrt", "serve", SERVED.plan, "--port", 0, "--api-key-file", SERVED.folder / "missing", expect=66)
        run("llrt", "serve", SERVED.folder / "missing.llcp", "--port", 0, expect=66)
        with Server(SERVED.plan, "-t", 1) as server:
            run("llrt", "serve", SERVED.plan, "--port", server.port, expect=73)
        with Server(SERVED.plan, "-t", 1, "--host", "0.0.0.0", "--insecure-no-auth") as server:
            self.assertEqual(server.get("/health")[0], 200)

    def test_unix_socket(self):
        path = SERVED.folder / "socket"
        for _ in range(2):  # the second one finds what the first left
            with Server(SERVED.plan, "-t", 1, "--unix-socket", path) as server:
                self.assertEqual(path.stat().st_mode & 0o077, 0)
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(str(path))
                    s.sendall(b"GET /health HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
                    self.assertTrue(s.recv(1000).startswith(b"HTTP/1.1 200"))
        self.assertFalse(path.exists())


class Encrypted(unittest.TestCase):
    CERTIFICATE, KEY = ROOT / "tests/data/tls/certificate.pem", ROOT / "tests/data/tls/key.pem"

    def setUp(self):
        try:
            ctypes.CDLL("libssl.so.3")
        except OSError as e:
            self.skipTest(f"OpenSSL 3 is not here: {e}")

    def connect(self, port, least=None, timeout=20):
        context = ssl.create_default_context(cafile=self.CERTIFICATE)
        if least:
            context.maximum_version = least
        return context.wrap_socket(socket.create_connection(("localhost", port), timeout=timeout), server_hostname="localhost")

    def test_answers_and_streams(self):
        body = greedy("And God", 60, ignore_eos=True)
        with Server(SERVED.plan, "-t", 1, "--host", "localhost", "--ssl-cert-file", self.CERTIFICATE, "--ssl-key-file", self.KEY,
                    "--header-timeout", 1) as server:
            self.assertTrue(server.addresses[0].startswith("https://"), server.addresses)
            texts = []
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                with self.connect(server.port, version) as s:
                    for stream in (False, True):
                        data = json.dumps({**body, "stream": stream}).encode()
                        request = (f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                                   f"Connection: {'close' if stream else 'keep-alive'}\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data
                        for at in range(0, len(request), 50):  # in many records
                            s.sendall(request[at:at + 50])
                        answer = http.client.HTTPResponse(s)
                        answer.begin()
                        self.assertEqual(answer.status, 200)
                        text = answer.read()
                        texts.append("".join(c["text"] for e in events(text) for c in e["choices"]) if stream else
                                     json.loads(text)["choices"][0]["text"])
                    self.assertEqual(s.recv(1), b"", "ends with a farewell, or this would be an error")
            self.assertEqual(len(set(texts)), 1)
            # A large answer: the model's description, many times in one connection.
            with self.connect(server.port) as s:
                for _ in range(20):
                    s.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    answer = http.client.HTTPResponse(s)
                    answer.begin()
                    self.assertIn("paths", json.loads(answer.read()))
            with self.assertRaises(ssl.SSLError):
                self.connect(server.port, ssl.TLSVersion.TLSv1_1)
            # No TLS, and TLS that never gets anywhere.
            for hello in (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x00\xff" + b"\x00" * 300, b"\x16"):
                with socket.create_connection(("localhost", server.port), timeout=20) as s:
                    s.sendall(hello)
                    try:
                        while part := s.recv(1000):
                            self.assertNotIn(b"HTTP", part)
                    except ConnectionResetError:
                        pass
            # A client that leaves in the middle.
            s = self.connect(server.port)
            data = json.dumps(greedy("And", 1500, ignore_eos=True, stream=True)).encode()
            s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
            s.recv(1000)
            s.close()
            end = time.monotonic() + 20
            while True:
                with self.connect(server.port) as s:
                    s.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
                if re.search(r"^llrt:kv_pages_used\{[^}]*\} 0$", text, re.M):
                    break
                self.assertLess(time.monotonic(), end, text)

    def test_what_does_not_fit_is_refused(self):
        (SERVED.folder / "no.pem").write_text("nothing")
        for certificate, key, code in ((self.CERTIFICATE, None, 64), (SERVED.folder / "missing.pem", self.KEY, 66), (self.CERTIFICATE, SERVED.folder / "missing.pem", 66),
                                       (SERVED.folder / "no.pem", self.KEY, 65), (self.CERTIFICATE, SERVED.folder / "no.pem", 65), (self.CERTIFICATE, self.CERTIFICATE, 65)):
            more = ["--ssl-key-file", key] if key else []
            run("llrt", "serve", SERVED.plan, "--port", 0, "--ssl-cert-file", certificate, *more, expect=code)


if __name__ == "__main__":
    main()
