"""llrt serve: clients that leave or are slow, load, memory, shutdown, hours. --long, --minutes N: serving.py."""
import asyncio
import hashlib
import http.client
import json
import random
import signal
import socket
import struct
import time
import unittest

from serving import (
    LONG, MINUTES, PROMPTS, Served, Server, ask, events, greedy, main, percentile, read_body, say, send,
    stream_text,
)

SERVED = Served()
setUpModule = SERVED.set_up


class Clients(unittest.TestCase):
    def test_disconnects_free_every_page(self):
        count = 5000 if LONG else 300
        with SERVED.one("--queue", 200) as server:
            idle = server.idle_resources()
            chance = random.Random(2)

            async def leave():
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                body = json.dumps(greedy(chance.choice(PROMPTS) * chance.randrange(1, 20), 400, ignore_eos=True, n=chance.randrange(1, 3),
                                         stream=chance.random() < 0.7)).encode()
                head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                data = head + body
                cut = len(data) if chance.random() < 0.8 else chance.randrange(len(data))
                writer.write(data[:cut])
                try:
                    await asyncio.wait_for(reader.read(chance.randrange(1, 3000)), chance.random() * 0.2)
                except asyncio.TimeoutError:
                    pass
                if chance.random() < 0.5:  # a reset instead of a farewell
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.close()

            async def all_():
                left = iter(range(count))

                async def some():
                    for _ in left:
                        await leave()
                await asyncio.gather(*[some() for _ in range(24)])
            asyncio.run(all_())
            last = time.monotonic()
            # The connections first: where the machine is slow, some wait to be accepted when their clients have gone already.
            server.wait_for(lambda m: m["llrt:connections"] == 1 and all(m["llrt:" + name] == 0 for name in (
                "kv_pages_used", "sequences_running", "sequences_waiting", "queued_sequences", "requests_preparing")), 30)
            took = time.monotonic() - last
            say(f"disconnects: {count}, every page free {took * 1e3:.0f} ms after the last")
            if LONG:
                self.assertLess(took, 1)
            self.assertGreater(server.metrics()["llrt:client_disconnects_total"], count // 3)
            want = asyncio.run(stream_text(server.port, greedy(PROMPTS[0])))
            self.assertEqual(asyncio.run(stream_text(server.port, greedy(PROMPTS[0]))), want)
            self.assertEqual(server.idle_resources()[1:], idle[1:], "files and threads are as before")

    def test_silent_and_slow_sockets(self):
        silent, slow, probes, limit = (1000, 200, 500, 10) if LONG else (300, 60, 60, 3)
        with SERVED.one("--header-timeout", limit, "--idle-timeout", limit) as server:
            async def all_():
                quiet = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(silent)]
                trickle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(slow)]
                for _, w in quiet[: silent // 2]:
                    w.write(b"G")  # one byte, then nothing
                times = []

                async def drip(i, w):
                    await asyncio.sleep(i / slow)
                    for c in b"GET /health HTTP/1.1\r\n"[:limit]:
                        w.write(bytes([c]))
                        await asyncio.sleep(1)
                drips = [asyncio.create_task(drip(i, w)) for i, (_, w) in enumerate(trickle)]
                for _ in range(probes):
                    begin = time.monotonic()
                    _, writer, status, _ = await send(server.port, "GET", "/health")
                    times.append(time.monotonic() - begin)
                    self.assertEqual(status, 200)
                    writer.close()
                    await asyncio.sleep(limit / 2 / probes)
                if LONG:  # elsewhere a slow machine may need longer for the probes than the sockets' time
                    self.assertGreaterEqual(server.metrics()["llrt:connections"], silent + slow, "they are there all the time")
                await asyncio.gather(*drips)
                closed = await asyncio.gather(*[asyncio.wait_for(r.read(10_000), 3 * limit) for r, _ in quiet + trickle])
                for _, w in quiet + trickle:
                    w.close()
                return times, closed
            times, closed = asyncio.run(all_())
            self.assertEqual(len(closed), silent + slow, "each is closed by its deadline")
            self.assertTrue(all(c == b"" or c.startswith(b"HTTP/1.1 408 ") for c in closed))
            say(f"health with {silent} silent and {slow} slow sockets: p50 {percentile(times, .5) * 1e3:.1f} ms, "
                f"p99 {percentile(times, .99) * 1e3:.1f} ms, longest {max(times) * 1e3:.1f} ms")
            if LONG:
                self.assertLess(percentile(times, .99), 0.05)

    def test_slow_readers_wait_alone(self):
        with Server(SERVED.plan, "-t", 1, "--log-level", 0, "--stall-timeout", 2, "--ping-interval", 0) as server:
            before = server.resources()[0]

            async def all_():
                slow = []
                for _ in range(20):
                    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=16)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                    writer.transport.pause_reading()
                    body = json.dumps(greedy("And", 1500, ignore_eos=True, stream=True, logprobs=20, n=2)).encode()
                    writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                    slow.append((reader, writer))
                got = await stream_text(server.port, greedy(PROMPTS[0], 60))
                await asyncio.sleep(0.5)
                return slow, got
            slow, got = asyncio.run(all_())
            self.assertEqual(got, asyncio.run(stream_text(server.port, greedy(PROMPTS[0], 60))))
            server.wait_for(lambda m: m["llrt:kv_pages_used"] == 0, 60)
            # 44 to 48 MB were seen on the fastest machine so far, less on others: what is on its way to 20 clients.
            self.assertLess(server.resources()[0] - before, 64 << 20)

    def test_overload_is_refused_at_once(self):
        """As many clients as fit, each with one request after another; then ten times as many requests as that ended."""
        seconds, queue, tokens = (30, 32, 128) if LONG else (2, 16, 32)
        with SERVED.one("--queue", queue) as server:
            answers, refused = [], []

            async def one():
                begin = time.monotonic()
                status, headers, data = await ask(server.port, "/v1/completions", greedy("And", tokens, ignore_eos=True))
                answers.append(status)
                if status == 429:
                    refused.append(time.monotonic() - begin)
                    self.assertGreaterEqual(int(headers["retry-after"]), 1)
                    self.assertEqual(json.loads(data)["error"]["type"], "rate_limit_error")
                elif status == 200:
                    self.assertEqual(json.loads(data)["usage"]["completion_tokens"], tokens)

            async def rate_of(load):
                """Requests in a second, by the tokens generated once the load is there."""
                task = asyncio.create_task(load(time.monotonic() + seconds + 1))
                await asyncio.sleep(1)
                before, begin = server.metrics()["llrt:step_rows_total"], time.monotonic()
                await asyncio.sleep(seconds)
                rows, took = server.metrics()["llrt:step_rows_total"] - before, time.monotonic() - begin
                await task
                return rows / tokens / took

            async def closed(end):
                async def client():
                    while time.monotonic() < end:
                        await one()
                await asyncio.gather(*[client() for _ in range(queue)])

            async def open_(end):
                chance, due, tasks = random.Random(3), time.monotonic(), []
                while due < end:
                    await asyncio.sleep(max(0, due - time.monotonic()))
                    tasks.append(asyncio.create_task(one()))
                    due += chance.expovariate(max(10 * peak, 100))
                await asyncio.gather(*tasks)

            peak = asyncio.run(rate_of(closed))
            self.assertEqual(set(answers), {200})
            answers.clear()
            good = asyncio.run(rate_of(open_))
            counts = {s: answers.count(s) for s in set(answers)}
            say(f"overload: peak {peak:.1f} requests/s; at ten times that {good:.1f}/s ({good / peak:.3f}), answers {counts}, "
                f"429 after p50 {percentile(refused, .5) * 1e3:.1f} ms, p99 {percentile(refused, .99) * 1e3:.1f} ms, "
                f"longest {max(refused) * 1e3:.1f} ms")
            self.assertEqual(set(counts), {200, 429})
            if LONG:
                self.assertLess(percentile(refused, .99), 0.01)
                self.assertGreater(good, 0.95 * peak)


class Memory(unittest.TestCase):
    def test_a_quarter_of_the_pages_is_enough(self):
        """Requests of all lengths with pages for a quarter of the 16 that could run: the same tokens, nobody starves."""
        # Long enough that a fast server is not done with one before a slow client has sent the next ones.
        count, longest = (64, 1000) if LONG else (24, 240)
        chance = random.Random(4)
        bodies = [greedy(" ".join(chance.choices(PROMPTS, k=chance.randrange(1, 60))), chance.randrange(longest // 2, longest),
                         ignore_eos=True) for _ in range(count)]

        async def all_(port):
            async def one(body):
                begin = time.monotonic()
                return await stream_text(port, body), time.monotonic() - begin
            return await asyncio.gather(*[one(b) for b in bodies])

        with SERVED.one("--deterministic", "--queue", 64) as server:
            want = asyncio.run(all_(server.port))
            page = server.get("/props")[2]["kv_page_size"]
            prompts = [len(server.post("/tokenize", {"content": b["prompt"]})[2]["tokens"]) + 1 for b in bodies]
        lengths = [n + b["max_tokens"] for n, b in zip(prompts, bodies)]
        pages = 16 * sum(lengths) // len(lengths) // 4 // page
        self.assertGreaterEqual(pages * page, max(lengths), "each fits alone")
        with SERVED.one("--deterministic", "--queue", 64, "--kv-pages", pages) as server:
            got = asyncio.run(all_(server.port))
            preemptions = server.metrics()["llrt:preemptions_total"]
            server.wait_for(lambda m: m["llrt:kv_pages_used"] == 0)
        self.assertEqual([text for text, _ in got], [text for text, _ in want])
        self.assertGreater(preemptions, 0)
        times = [t for _, t in got]
        say(f"a quarter of the pages ({pages} of {page} tokens): {preemptions:.0f} preemptions, all after {max(times):.1f} s instead of "
            f"{max(t for _, t in want):.1f} s, longest {max(times) / percentile(times, .5):.1f} times the median")
        self.assertLess(max(times), 10 * percentile(times, .5))


class Shutdown(unittest.TestCase):
    def test_sigterm_finishes_what_was_accepted(self):
        for round_ in range(20 if LONG else 3):
            server = SERVED.one()
            want = asyncio.run(stream_text(server.port, greedy(PROMPTS[0], 150, ignore_eos=True)))

            async def one(i, accepted):
                try:
                    reader, writer, status, headers = await send(server.port, "POST", "/v1/completions",
                                                                 greedy(PROMPTS[0], 150, ignore_eos=True, stream=i % 2 == 0))
                except (ConnectionError, asyncio.IncompleteReadError):
                    return None  # not accepted
                accepted.set()
                body = await read_body(reader, headers)
                writer.close()
                if status != 200:
                    self.assertIn(status, (503, 429))
                    return None
                if i % 2 == 0:
                    return "".join(c["text"] for e in events(body) for c in e["choices"])
                return json.loads(body)["choices"][0]["text"]

            async def all_():
                accepted = asyncio.Event()
                tasks = [asyncio.create_task(one(i, accepted)) for i in range(24)]
                await asyncio.wait_for(accepted.wait(), 60)  # a busy machine may take its time
                await asyncio.sleep(0.01 * round_)
                server.process.send_signal(signal.SIGTERM)
                return await asyncio.gather(*tasks)
            texts = [t for t in asyncio.run(all_()) if t is not None]
            self.assertEqual(set(texts), {want[0]}, "no accepted answer is cut")
            self.assertEqual(server.stop(), 0)

    def test_a_second_signal_ends_at_once(self):
        server = Server(SERVED.plan, "-t", 1)

        async def all_():
            reader, writer, status, _ = await send(server.port, "POST", "/v1/completions", greedy("And", 2000, ignore_eos=True, stream=True))
            for _ in range(2):
                server.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.05)
            await reader.read()
        asyncio.run(all_())
        self.assertEqual(server.stop(expect=None), 0)

    def test_draining_servers_say_so(self):
        server = Server(SERVED.plan, "-t", 1)
        address = ("127.0.0.1", server.port)
        half = socket.create_connection(address)
        half.sendall(b"GET /health HTTP/1.1\r\n")
        # Enough to be at work until the server has been asked.
        keep = [http.client.HTTPConnection(*address) for _ in range(8)]
        for connection in keep:
            connection.request("POST", "/v1/completions", json.dumps(greedy("And", 500, ignore_eos=True, stream=True)),
                               {"Content-Type": "application/json"})
        answers = [connection.getresponse() for connection in keep]
        server.process.send_signal(signal.SIGTERM)
        for _ in range(1000):
            try:
                socket.create_connection(address).close()
            except ConnectionRefusedError:
                break
            except ConnectionResetError:
                pass  # it waited to be accepted when the server stopped listening
            time.sleep(0.002)
        half.sendall(b"Host: localhost\r\n\r\n")
        self.assertTrue(half.recv(1000).startswith(b"HTTP/1.1 503 "))
        for answer in answers:
            self.assertEqual(answer.status, 200)
            self.assertTrue(answer.read().endswith(b"data: [DONE]\n\n"))
        for connection in (half, *keep):
            connection.close()
        server.stop()


class Soak(unittest.TestCase):
    def test_streams_for_long(self):
        """Every stream's text by its hash; memory, files, threads and pages as at the start."""
        seconds = 60 * MINUTES
        with SERVED.one("--deterministic", "--queue", 200) as server:
            hash_of = lambda text: hashlib.sha256(text.encode()).digest()
            want = {p: hash_of(asyncio.run(stream_text(server.port, greedy(p, 120, ignore_eos=True)))[0]) for p in PROMPTS}
            idle, pages = server.idle_resources(), server.metrics()["llrt:kv_pages_free"]
            wrong, begun, finished, memory = [], 0, 0, []
            start = time.monotonic()

            async def one(i):
                nonlocal begun, finished
                while time.monotonic() < start + seconds:
                    prompt = PROMPTS[(i + begun) % len(PROMPTS)]
                    begun += 1
                    text, finish = await stream_text(server.port, greedy(prompt, 120, ignore_eos=True))
                    if hash_of(text) != want[prompt] or finish != "length":
                        wrong.append((prompt, text))
                    finished += 1

            async def watch():
                while time.monotonic() < start + seconds:
                    memory.append((time.monotonic() - start, server.resources()[0]))
                    await asyncio.sleep(min(5, seconds / 10))

            async def all_():
                await asyncio.gather(watch(), *[one(i) for i in range(64)])
            before = server.metrics()["llrt:step_rows_total"]
            asyncio.run(all_())
            took = time.monotonic() - start
            self.assertEqual(wrong[:1], [])
            self.assertEqual(finished, begun)
            rows = server.metrics()["llrt:step_rows_total"] - before
            self.assertEqual(rows, 120 * finished, "no token is generated twice or lost on the way")
            server.wait_for(lambda m: m["llrt:kv_pages_free"] == pages)
            self.assertEqual(server.idle_resources()[1:], idle[1:], "files and threads are as before")
            early = next(m for t, m in memory if t >= seconds / 5)
            late = max(m for t, m in memory if t >= seconds / 5)
            say(f"soak: 64 streams, {took:.0f} s, {finished} answers, {rows / took:.0f} tokens/s, resident {early >> 10} KiB after a "
                f"fifth of the time, then {late >> 10} KiB at most; idle {idle[0] >> 10} KiB")
            if seconds >= 60:
                self.assertLessEqual(late - early, 1 << 20)


if __name__ == "__main__":
    main()
