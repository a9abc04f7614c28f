"""llrt serve: requests that are malformed or mean harm. --long: as many as a release asks for."""
import asyncio
import json
import random
import re
import socket
import unittest

from serving import LONG, PROMPTS, Served, Server, greedy, main, read_body, stream_text
from support import ROOT

SERVED = Served()
setUpModule = SERVED.set_up


def unescape(text):
    return re.sub(r"\\(x..|.)", lambda m: {"r": "\r", "n": "\n", "t": "\t"}.get(m[1]) or (chr(int(m[1][1:], 16)) if m[1][0] == "x" else m[1]),
                  text).encode("latin-1")


def raw(port, data, piece=None):
    """All that comes back for some bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
        try:
            for at in range(0, len(data), piece or len(data)):
                s.sendall(data[at:at + (piece or len(data))])
        except OSError:
            pass
        out = b""
        try:
            while part := s.recv(65536):
                out += part
        except ConnectionResetError:
            pass
        return out


class Malformed(unittest.TestCase):
    def test_malformed_requests_are_answered_once_and_closed(self):
        with Server(SERVED.plan, "-t", 1) as server:
            cases = [l.split("\t") for l in (ROOT / "tests/data/http/malformed.txt").read_text().splitlines() if not l.startswith("#")]
            self.assertGreaterEqual(len(cases), 80)
            second = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for name, status, data in cases:
                for piece in (None, 3):
                    out = raw(server.port, unescape(data) + second, piece)
                    self.assertTrue(out.startswith(f"HTTP/1.1 {status} ".encode()), (name, out[:200]))
                    self.assertEqual(out.count(b"HTTP/1."), 1, name)
                    self.assertIn(b"Connection: close", out, name)
            self.assertEqual(server.get("/health")[0], 200)
            self.assertEqual(server.metrics()["llrt:malformed_requests_total"], 2 * len(cases))


def hostile_values(field):
    """Values that the schema of a field does not allow, and some that it does."""
    kinds = [None, True, -1, 0, 3, 1.5, 1e308, -1e308, 2 ** 31, 2 ** 63, 2 ** 64, -2 ** 63 - 1, "", "x", "x" * 5000, "\x00\x1f\u202e\ud7ff", [], [[]], [None], [1e9],
             ["a"] * 2000, {}, {"a": {}}, {"": None}, {"type": "x"}]
    for bound in ("minimum", "maximum"):
        if bound in field:
            kinds += [field[bound], field[bound] - 1, field[bound] + 1, field[bound] * 10 + 0.5]
    if "maxLength" in field:
        kinds += ["y" * min(field["maxLength"] + 1, 100_000)]
    if "maxItems" in field:
        kinds += [[{}] * (field["maxItems"] + 1), ["z"] * (field["maxItems"] + 1), [1] * (field["maxItems"] + 1)]
    return kinds


def hostile_bodies(api, chance):
    """(path, bytes) without end: every field out of range, then random mixtures, nesting and bytes that are no UTF-8."""
    posts = [(p, m["post"]["requestBody"]["content"]["application/json"]["schema"]) for p, m in api["paths"].items() if "post" in m]
    base = {"messages": [{"role": "user", "content": "a"}], "prompt": "a", "tokens": [5], "max_tokens": 2}
    single = []
    for path, schema in posts:
        good = {k: v for k, v in base.items() if k in schema["properties"]}
        if "content" in schema["properties"]:
            good = {"content": "a"}
        for name, field in schema["properties"].items():
            for value in hostile_values(field):
                body = json.dumps({**good, name: value}).encode()
                single.append((path, body))
            single.append((path, json.dumps({**good, name: 0}).encode().replace(b'": 0', b'": NaN')))
            single.append((path, json.dumps({**good, name: "@"}).encode().replace(b"@", b"\xff\xc0\x80")))
            single.append((path, json.dumps({**good, name: "@"}).encode().replace(b'"@"', b"[" * 5000)))
            for sub, below in field.get("properties", {}).items():
                single += [(path, json.dumps({**good, name: {sub: v}}).encode()) for v in hostile_values(below)]
        single += [(path, b) for b in (b"", b"null", b"[]", b'"x"', b"{", b'{"a":', b"\xef\xbb\xbf{}", b"{}" * 3, b'{"a":1e999}', b'{"a":' * 100_000, b"\x00" * 100)]
    chance.shuffle(single)
    yield from single
    while True:
        path, schema = chance.choice(posts)
        body = {k: v for k, v in base.items() if k in schema["properties"]}
        for name in chance.sample(list(schema["properties"]), min(4, len(schema["properties"]))):
            body[name] = chance.choice(hostile_values(schema["properties"][name]))
        data = bytearray(json.dumps(body).encode())
        for _ in range(chance.randrange(3)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        yield path, bytes(data)


class Hostile(unittest.TestCase):
    def test_hostile_requests_hurt_nobody(self):
        count = 5000 if LONG else 1500
        with SERVED.one() as server:
            api = server.get("/openapi.json")[2]
            want = {p: asyncio.run(stream_text(server.port, greedy(p, 60))) for p in PROMPTS[:4]}
            seen, wrong, canaries = {}, [], 0
            chance = random.Random(1)
            bodies = hostile_bodies(api, chance)

            async def attack():
                for _ in range(count // 4):
                    path, body = next(bodies)
                    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 22)
                    try:
                        writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode()
                        status = int(head.split()[1])
                        headers = {k.lower(): v for k, v in (l.split(": ", 1) for l in head.split("\r\n")[1:] if l)}
                        answer = await asyncio.wait_for(read_body(reader, headers), 120)
                    finally:
                        writer.close()
                    seen[status] = seen.get(status, 0) + 1
                    if status not in (200, 400, 408, 413, 429, 501):
                        wrong.append((status, path, body[:300], answer[:300]))
                    if status != 200:
                        error = json.loads(answer)["error"]
                        if set(error) < {"message", "type", "param", "code"} or error["code"] != status:
                            wrong.append((path, body[:300], answer))

            async def canary(prompt, done):
                nonlocal canaries
                while not done.is_set():
                    got = await stream_text(server.port, greedy(prompt, 60, priority=-5))
                    if got != want[prompt]:
                        wrong.append(("canary", prompt, got))
                    canaries += 1

            async def all_():
                done = asyncio.Event()
                watch = [asyncio.create_task(canary(p, done)) for p in want]
                await asyncio.gather(*[attack() for _ in range(4)])
                done.set()
                await asyncio.gather(*watch)
            asyncio.run(all_())
            self.assertEqual(wrong[:3], [], seen)
            self.assertGreater(seen.get(400, 0), count // 3, seen)
            self.assertGreater(canaries, 4)
            server.wait_for(lambda m: m["llrt:kv_pages_used"] == 0)
            self.assertIsNone(server.process.poll())


if __name__ == "__main__":
    main()
