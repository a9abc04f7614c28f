"""llrt run --chat in a terminal of its own (a pty), and in pipes."""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
import fcntl
import unittest

from serving import KJV
from support import BUILD, BUNDLED, RandomModel, run

UP, DOWN, RIGHT, LEFT, HOME, DELETE, ALT_ENTER = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[H", "\x1b[3~", "\x1b\r"
CTRL = {c: chr(ord(c) & 0x1F) for c in "ABCDEFHJKLNPUWZ"}


def setUpModule():
    global FOLDER, PLAN
    FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-chat-"))
    unittest.addModuleCleanup(shutil.rmtree, FOLDER, True)
    PLAN = FOLDER / "chat.llcp"
    run("llcc", "compile", BUNDLED, "-o", PLAN, "--max-batch", 1)


class Terminal:
    """A program on a pty; `screen` is what it wrote without escape sequences."""

    def __init__(self, *options, env=None, columns=80, plan=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm", "LC_ALL": "C.UTF-8", "XDG_STATE_HOME": str(FOLDER / "state"), **(env or {})})
            program = str(BUILD / "llrt")
            os.execv(program, [program, "run", str(plan or PLAN), "--chat", *map(str, options)])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.raw = ""
        self.partial = b""
        self.code = None

    def pump(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:
            data = b""
        self.partial += data
        text = self.partial.decode(errors="ignore")
        self.partial = b""
        self.raw += text
        return bool(data)

    @property
    def screen(self):
        return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", self.raw).replace("\r", "")

    def wait(self, text, since=0, seconds=60):
        """Until `text` is on the screen behind `since`; returns where it ends."""
        end = time.monotonic() + seconds
        while (found := self.screen.find(text, since)) < 0:
            if time.monotonic() > end:
                raise AssertionError(f"{text!r} did not come:\n{self.screen[since:]!r}")
            self.pump(0.05)
        return found + len(text)

    def type(self, text, busy=False):
        if CTRL["C"] in text and not busy:
            self.prompt()
        os.write(self.fd, text.encode())

    def prompt(self, seconds=60):
        """Until a line is being read: before, Ctrl-C is a signal."""
        end = time.monotonic() + seconds
        while self.raw.rfind("\x1b[?2004h") <= self.raw.rfind("\x1b[?2004l"):
            if time.monotonic() > end:
                raise AssertionError(f"no prompt came:\n{self.screen[-500:]!r}")
            self.pump(0.05)

    def ask(self, text, end="\r"):
        """Types a message and waits for its answer; returns the answer."""
        start = len(self.screen)
        self.type(text + end)
        at = self.wait("first after", start)
        self.wait("> ", at)
        return self.screen[start:at].rsplit("\n", 1)[0]

    def close(self):
        """Exit status once the program has ended."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            self.pump(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"it does not end:\n{self.screen[-500:]!r}")


class Talking(unittest.TestCase):
    def start(self, *options, **more):
        terminal = Terminal(*options, **more)
        terminal.wait("/help shows")
        terminal.wait("> ")
        return terminal

    def test_a_conversation_has_the_answers_of_the_template(self):
        saved = FOLDER / "talk.json"
        saved.unlink(missing_ok=True)
        t = self.start("-n", 24)
        t.ask("Who made heaven and earth?")
        t.ask("And then?")
        t.type(f"/save {saved}\r")
        t.wait("saved")
        t.type(f"/save {saved}\r")
        t.wait("File exists")
        t.type("/quit\r")
        self.assertEqual(t.close(), 0)
        messages = json.loads(saved.read_text())["messages"]
        self.assertEqual([m["role"] for m in messages], ["user", "assistant", "user", "assistant"])
        self.assertEqual([messages[0]["content"], messages[2]["content"]], ["Who made heaven and earth?", "And then?"])
        # The answers are those of one message through a pipe, and of the whole prompt as text.
        piped = run("llrt", "run", PLAN, "--chat", "-n", 24, stdin=b"Who made heaven and earth?\n").stdout.decode()
        self.assertEqual(messages[1]["content"], piped)
        prompt = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages[:3]) + "<|im_start|>assistant\n"
        whole = run("llrt", "run", PLAN, "-n", 24, "-p", prompt).stdout.decode()
        self.assertEqual(messages[3]["content"], whole)
        self.assertIn("tokens/s", t.screen)

    def test_ctrl_c_stops_the_answer_and_twice_leaves(self):
        # Slow: else the answer may be over before Ctrl-C.
        t = self.start("--temp", 1, "--isa", "scalar")
        t.type("Tell me everything of the kings of Israel, and of Judah.\r")
        start = t.wait("Judah.\n")
        while len(t.screen) < start + 20:
            self.assertNotIn("first after", t.screen)
            t.pump(0.05)
        t.type(CTRL["C"], busy=True)
        at = t.wait("> ", t.wait("stopped", start))
        t.type("/set count 3\r")
        t.wait("> ", t.wait("count 3\n", at))
        t.ask("Go on.")
        t.type(CTRL["C"])
        t.wait("again leaves")
        t.type(CTRL["C"])
        self.assertEqual(t.close(), 0)

    def test_ctrl_c_takes_back_what_was_entered(self):
        t = self.start()
        t.type("nonsense" + CTRL["C"])
        t.wait("> ", t.wait("nonsense"))
        t.type(CTRL["D"])
        self.assertEqual(t.close(), 0)
        self.assertNotIn("first after", t.screen)

    def test_editing(self):
        t = self.start("-n", 1, "--no-history")
        for keys, want in [
                ("helo" + LEFT + "l", "hello"), ("ello" + HOME + "h", "hello"), ("ello" + CTRL["A"] + "h" + CTRL["E"] + "!", "hello!"),
                ("hexllo" + LEFT * 3 + "\x7f", "hello"), ("hexllo" + LEFT * 4 + DELETE, "hello"), ("hexllo" + LEFT * 4 + CTRL["D"], "hello"),
                ("junk" + CTRL["U"] + "hello", "hello"), ("hello junk" + CTRL["W"] + "x", "hello x"), ("hello" + LEFT * 3 + CTRL["K"], "he"),
                ("añ€𝄞b" + LEFT + "\x7f\x7f", "añb"), ("日本語" + LEFT * 2 + "x", "日x本語"), ("one two" + "\x1bb" + "x", "one xtwo"),
                ("a" + ALT_ENTER + "b", "a\nb"), ("a\\\rb", "a\nb"), ("a" + CTRL["J"] + "b" + UP + "x", "ax\nb"), ("\x1b[200~x\r\ny\tz\x1b[201~!", "x\ny\tz!"),
                ("//slash", "/slash"), ("\x1b[99~\x1b[1;2Pok", "ok"), ("w" * 300 + LEFT * 200 + "x", "w" * 100 + "x" + "w" * 200)]:
            t.type("/clear\r")
            t.ask(keys)
            name = FOLDER / f"edit{len(list(FOLDER.iterdir()))}.json"
            start = len(t.screen)
            t.type(f"/save {name}\r")
            t.wait("saved", start)
            self.assertEqual(json.loads(name.read_text())["messages"][0]["content"], want, repr(keys))
        t.type(CTRL["D"])
        self.assertEqual(t.close(), 0)

    def test_history_outlives_the_program(self):
        state = FOLDER / "history-state"
        env = {"XDG_STATE_HOME": str(state)}
        t = self.start("-n", 1, env=env)
        t.ask("first message")
        t.ask("second" + ALT_ENTER + "line \\ x")
        t.type(CTRL["D"])
        t.close()
        file = state / "llrt" / "history"
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(file.read_bytes(), b"first message\nsecond\\nline \\\\ x\n")
        # Damaged and foreign bytes do no harm.
        with open(file, "ab") as f:
            f.write(b"\xff\xfe\\\n\n\x00third\n")
        t = self.start("-n", 1, env=env)
        start = len(t.screen)
        t.type(UP)
        t.wait("third", start)
        t.type(UP + UP + UP)
        t.wait("> second", start)
        t.type(UP + UP)
        t.wait("first message", start)
        t.type("\r")
        t.wait("first after", start)
        t.type(CTRL["D"])
        self.assertEqual(t.close(), 0)
        blocked = FOLDER / "file"
        blocked.write_text("")
        t = self.start("-n", 1, env={"XDG_STATE_HOME": str(blocked)})
        t.ask("hi")
        t.type(CTRL["D"])
        self.assertEqual(t.close(), 0)

    def test_commands(self):
        t = self.start("-n", 4, "--temp", 1, "--seed", 3)
        for command, words in [
                ("/help", "Alt-Enter"), ("/nothing", "there is no /nothing"), ("/set", "repeat_penalty"), ("/set temperature 101", "of 0 to 100"), ("/set temperature hot", "of 0 to 100"),
                ("/set top_k 1.5", "whole number"), ("/set colour red", "no setting colour"), ("/regen", "no message to answer"), ("/save", "takes the name"),
                ("/save /nowhere/x", "cannot create"), ("/system", "no system message"), ("/system Be brief.", "new conversation")]:
            start = len(t.screen)
            t.type(command + "\r")
            t.wait(words, start)
        t.type("/set temperature 0\r/set count 6\r")
        t.ask("Hello")
        start = len(t.screen)
        t.type("/regen\r")
        t.wait("6 tokens", start)
        name = FOLDER / "commands.md"
        t.type(f"/save {name}\r")
        t.wait("saved", start)
        text = name.read_text()
        self.assertTrue(text.startswith("**system**\n\nBe brief.\n\n**user**\n\nHello\n\n**assistant**\n\n"), text)
        self.assertEqual(text.count("**assistant**"), 1)
        t.type("/exit\r")
        self.assertEqual(t.close(), 0)

    def test_no_colours_where_they_are_not_wanted(self):
        for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            t = self.start("-n", 1, env=env)
            t.ask("hi")
            t.type(CTRL["D"])
            t.close()
            self.assertNotIn("\x1b[2m", t.raw)
            self.assertNotIn("\x1b[1m", t.raw)

    def test_what_is_typed_ahead_is_the_next_message(self):
        t = self.start("-n", 30, "--no-history")
        t.type("one\rtwo\r")
        at = t.wait("first after")
        t.wait("> two", at)
        t.wait("first after", at)
        t.type(CTRL["D"])
        self.assertEqual(t.close(), 0)

    def test_a_full_context_is_said(self):
        plan = FOLDER / "short.llcp"
        run("llcc", "compile", BUNDLED, "-o", plan, "--max-batch", 1, "--ctx-size", 48)
        t = self.start("--no-history", plan=plan, env={"COLUMNS": "80"})
        t.type("word " * 60 + "\r")
        t.wait("the context holds 48")
        t.ask("short")
        t.type(CTRL["D"])
        self.assertEqual(t.close(), 0)

    def test_the_terminal_is_left_as_it_was(self):
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        process = subprocess.Popen([str(BUILD / "llrt"), "run", str(PLAN), "--chat", "--no-history"], stdin=slave, stdout=slave, stderr=slave)
        out = b""
        while b"> " not in out:
            out += os.read(master, 4096)
        self.assertNotEqual(termios.tcgetattr(slave), before)
        os.write(master, CTRL["D"].encode())
        self.assertEqual(process.wait(30), 0)
        self.assertEqual(termios.tcgetattr(slave), before)
        os.close(master)
        os.close(slave)


class Pipes(unittest.TestCase):
    def test_one_message_one_answer_and_nothing_else(self):
        env = dict(os.environ, TERM="xterm")
        by_option = run("llrt", "run", PLAN, "--chat", "-n", 12, "-p", "In the beginning", env=env)
        by_pipe = run("llrt", "run", PLAN, "--chat", "-n", 12, stdin=b"In the beginning\n", env=env)
        self.assertEqual(by_option.stdout, by_pipe.stdout)
        self.assertGreater(len(by_option.stdout), 10)
        self.assertNotIn(b"\x1b", by_option.stdout + by_option.stderr)
        self.assertNotEqual(run("llrt", "run", PLAN, "--chat", "-n", 12, "-p", "In the beginning", "--system", "Speak of kings.").stdout, b"")

    @unittest.skipUnless(KJV.is_dir(), "the reference model is not at hand")
    def test_the_references_answers(self):
        plan = FOLDER / "reference.llcp"
        run("llcc", "compile", KJV, "-o", plan, "--max-batch", 1)
        for case in json.loads((KJV / "reference.json").read_text())["chat"]:
            if [m["role"] for m in case["messages"]] != ["user"]:
                continue
            got = run("llrt", "run", plan, "--chat", "-n", len(case["greedy_ids"]), "-p", case["messages"][0]["content"]).stdout.decode()
            self.assertEqual(got, case["greedy_text"])

    def test_what_cannot_be_is_said(self):
        for options in (("--chat", "--json"), ("--chat", "--ids", "1"), ("--system", "x"), ("--no-history",), ("--chat", "--ignore-eos")):
            run("llrt", "run", PLAN, *options, stdin=b"x", expect=64)
        model = RandomModel().write_hf(FOLDER / "bare")
        plan = FOLDER / "bare.llcp"
        run("llcc", "compile", model, "-o", plan)
        self.assertIn(b"no tokenizer", run("llrt", "run", plan, "--chat", "-p", "x", expect=69).stderr)


if __name__ == "__main__":
    unittest.main()
