"""A headless Chromium, driven over its DevTools protocol with nothing but the standard library."""
import base64
import json
import os
import pathlib
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")


class WebSocket:
    """Client side of RFC 6455, texts alone."""

    def __init__(self, url):
        host, path = url.removeprefix("ws://").split("/", 1)
        name, port = host.rsplit(":", 1)
        self.socket = socket.create_connection((name, int(port)), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self.rest += self.socket.recv(4096)
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        assert b" 101 " in head.split(b"\r\n")[0], head

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        size = len(data)
        head = bytes([0x81])
        head += bytes([0x80 | size]) if size < 126 else struct.pack(">BH", 0xFE, size) if size < 65536 else struct.pack(">BQ", 0xFF, size)
        key = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big") if size else b""
        self.socket.sendall(head + mask + masked)

    def _take(self, size):
        while len(self.rest) < size:
            more = self.socket.recv(1 << 16)
            if not more:
                raise ConnectionError("the browser closed the connection")
            self.rest += more
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def receive(self, seconds):
        """The next message, or None when none has come in time."""
        if not self.rest and not select.select([self.socket], [], [], max(0, seconds))[0]:
            return None
        text = b""
        while True:
            first, second = self._take(2)
            size = second & 0x7F
            if size > 125:
                size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
            data = self._take(size)
            if first & 0x0F in (0, 1):
                text += data
                if first & 0x80:
                    return text.decode()

    def close(self):
        self.socket.close()


class Browser:
    """One page. Collects what a page must not do: `violations` of its policy, `errors`, requests to other origins."""

    def __init__(self, width=1280, height=800):
        self.folder = tempfile.mkdtemp(prefix="llcuda-chromium-")
        self.log = open(pathlib.Path(self.folder) / "log", "wb")
        self.process = subprocess.Popen(
            [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
             "--hide-scrollbars", f"--window-size={width},{height}", f"--user-data-dir={self.folder}/profile", "about:blank"],
            stdout=self.log, stderr=self.log, env=dict(os.environ, HOME=self.folder))
        port_file = pathlib.Path(self.folder) / "profile" / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text().count("\n")):
            if self.process.poll() is not None or time.monotonic() > end:
                self.close(keep_log=True)
                raise AssertionError("chromium did not start: " + (pathlib.Path(self.folder) / "log").read_text()[-1000:])
            time.sleep(0.05)
        port = int(port_file.read_text().split("\n")[0])
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        target = next(t for t in json.load(opener.open(f"http://127.0.0.1:{port}/json")) if t["type"] == "page")
        self.socket = WebSocket(target["webSocketDebuggerUrl"])
        self.next_id, self.answers, self.requests, self.errors, self.violations, self.loads = 0, {}, [], [], [], 0
        for domain in ("Page", "Runtime", "Network", "Log", "Audits", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")
        self.size(width, height)

    def close(self, keep_log=False):
        if hasattr(self, "socket"):
            self.socket.close()
        self.process.kill()
        self.process.wait()
        self.log.close()
        if not keep_log:
            shutil.rmtree(self.folder, True)

    def _event(self, message):
        method, params = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", str(params)))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error" and params["entry"]["source"] == "javascript":
            self.errors.append(params["entry"]["text"])
        elif method == "Audits.issueAdded" and params["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.violations.append(json.dumps(params["issue"]["details"]))
        elif method == "Page.loadEventFired":
            self.loads += 1

    def _pump(self, seconds):
        text = self.socket.receive(seconds)
        if text is None:
            return False
        message = json.loads(text)
        if "id" in message:
            self.answers[message["id"]] = message
        else:
            self._event(message)
        return True

    def call(self, method, **params):
        self.next_id += 1
        mine = self.next_id
        self.socket.send(json.dumps({"id": mine, "method": method, "params": params}))
        while mine not in self.answers:
            if not self._pump(60):
                raise AssertionError(f"no answer to {method}")
        answer = self.answers.pop(mine)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def size(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def media(self, **features):
        """media(prefers_color_scheme="dark")"""
        self.call("Emulation.setEmulatedMedia", features=[{"name": k.replace("_", "-"), "value": v} for k, v in features.items()])

    def open(self, url):
        before = self.loads
        self.call("Page.navigate", url=url)
        while self.loads == before:
            if not self._pump(60):
                raise AssertionError(f"{url} did not load")

    def run(self, script):
        """The value of an expression; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{script}: {result['exceptionDetails'].get('exception', {}).get('description')}")
        return result["result"].get("value")

    def wait(self, condition, seconds=30):
        """Until an expression is true; returns its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(condition)):
            if time.monotonic() > end:
                raise AssertionError(f"still not so after {seconds} s: {condition}")
            time.sleep(0.03)
        return value

    def type(self, text):
        self.call("Input.insertText", text=text)

    def key(self, name, modifiers=0):
        """modifiers: 1 Alt, 2 Ctrl, 8 Shift."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowUp": 38, "/": 191}
        text = {"Enter": "\r", "/": "/"}.get(name, name if len(name) == 1 else "")
        common = {"key": name, "code": name if len(name) > 1 else "", "windowsVirtualKeyCode": codes.get(name, ord(name[0].upper())), "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text if not modifiers & 2 else "", **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector):
        """A real click in the middle of what the selector finds."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.run(f"(({{x, y, width, height}}) => ({{x: x + width / 2, y: y + height / 2}}))"
                       f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box["x"], y=box["y"], button="left" if kind != "mouseMoved" else "none", clickCount=1)

    def screenshot(self, path):
        pathlib.Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def tree(self):
        """The accessibility tree: (role, name) of what is not ignored."""
        return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in self.call("Accessibility.getFullAXTree")["nodes"]
                if not n.get("ignored") and "role" in n]
