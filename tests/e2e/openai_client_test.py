"""The official `openai` Python client against llrt serve. It is installed from PyPI into the build folder, once."""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from serving import KJV, Server, compile_served
from support import BUILD

VENV = BUILD / "venv"


def interpreter():
    """Path of an interpreter with the package, or why there is none."""
    python = VENV / "bin" / "python"
    has = lambda: python.exists() and subprocess.run([python, "-c", "import openai"], capture_output=True).returncode == 0
    if has():
        return python, None
    done = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True)
    if done.returncode == 0:
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", "openai"], capture_output=True, text=True)
    return (python, None) if has() else (None, f"the openai package cannot be installed: {(done.stdout + done.stderr).strip()[-300:]}")


class OpenAiClient(unittest.TestCase):
    def test_the_official_client(self):
        python, reason = interpreter()
        if python is None:
            self.skipTest(reason)
        folder = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-openai-"))
        self.addCleanup(shutil.rmtree, folder, True)
        with Server(compile_served(folder, max_batch=16), "-t", 1, "--deterministic") as server:
            script = pathlib.Path(__file__).with_name("openai_client.py")
            reference = [str(KJV / "reference.json")] if KJV.is_dir() else []
            done = subprocess.run([python, script, server.url, *reference], capture_output=True, text=True, timeout=600)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            server.wait_for(lambda m: m["llrt:kv_pages_used"] == 0)


if __name__ == "__main__":
    unittest.main()
