"""What the test files of `llrt serve` that serve one plan share: the plan, and how long they take."""
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

from serving import Server, compile_served, thread_for_a_server

# As much and as long as a release asks for, the server on one hardware thread and the clients on another, and times
# are checked too.
LONG = "--long" in sys.argv or os.environ.get("LLCUDA_LONG") == "1"
MINUTES = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else 10 if LONG else 0.2
PROMPTS = ["In the beginning", "And God said,", "The LORD is my", "Blessed are", "And it came to pass", "Thou shalt not", "Behold,", "Moses"]


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
