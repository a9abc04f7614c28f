"""Damaged model and plan files: an error that names what is wrong, or a valid result; no crash, no hang, no partial output."""
import random
import subprocess
import time
import unittest

from support import BUILD, BUNDLED, Case, RandomModel, run, write_gguf

CLEAN = (0, 65, 69)


class Damage(Case):
    def check(self, command, path, data):
        path.write_bytes(data)
        output = self.folder / "out.llcp"
        done = run(*[str(path) if a is None else a for a in command], *(("-o", output) if command[1] == "compile" else ()),
                   expect=None, timeout=60)
        self.assertIn(done.returncode, CLEAN, done.stderr[-500:])
        if done.returncode:
            self.assertGreater(len(done.stderr.strip()), 10)
            self.assertFalse(output.exists(), "partial output")
        output.unlink(missing_ok=True)
        return done.returncode

    def damage(self, command, path, data, metadata_bytes, samples):
        """Truncates `data` and changes bytes of its first metadata_bytes, at evenly spread and random places."""
        chance = random.Random(5)
        cuts = {0, 1, 3, 4, len(data) - 1, metadata_bytes} | {chance.randrange(len(data)) for _ in range(samples // 2)}
        for cut in sorted(cuts):
            self.assertIn(self.check(command, path, data[:cut]), (65, 69), f"cut at {cut}")
        step = max(1, metadata_bytes // samples)
        for at in range(0, metadata_bytes, step):
            changed = bytearray(data)
            changed[at] ^= chance.randrange(1, 256)
            self.check(command, path, bytes(changed))

    def test_gguf(self):
        path = self.folder / "model.gguf"
        size = RandomModel(hidden=32, heads=2, kv_heads=1, ffn=32, vocab=40, layers=1).write_gguf(path)
        self.damage(["llcc", "compile", None], path, path.read_bytes(), size, 300)

    def test_gguf_with_a_tokenizer(self):
        self.damage(["llcc", "compile", None], self.folder / "model.gguf", BUNDLED.read_bytes(), 160_000, 60)

    def test_safetensors(self):
        folder = RandomModel(hidden=32, heads=2, kv_heads=1, ffn=32, vocab=40, layers=1).write_hf(self.folder / "hf")
        path = folder / "model.safetensors"
        data = path.read_bytes()
        command = ["llcc", "compile", str(folder)]
        self.damage(command, path, data, 8 + int.from_bytes(data[:8], "little"), 200)
        path.write_bytes(data)
        config = (folder / "config.json").read_bytes()
        self.damage(command, folder / "config.json", config, len(config) - 1, 100)

    def test_plan(self):
        plan = self.compile(RandomModel(hidden=32, heads=2, kv_heads=1, ffn=32, vocab=40, layers=1).write_hf(self.folder / "hf"))
        data = plan.read_bytes()
        path = self.folder / "damaged.llcp"
        chance = random.Random(6)
        for cut in sorted({0, 1, 8, 4095, 4096, len(data) - 1} | {chance.randrange(len(data)) for _ in range(60)}):
            self.assertEqual(self.check(["llrt", "verify", None], path, data[:cut]), 65, f"cut at {cut}")
        for at in [*range(0, 512, 3), *(chance.randrange(len(data)) for _ in range(200))]:
            changed = bytearray(data)
            changed[at] ^= chance.randrange(1, 256)
            self.assertIn(self.check(["llrt", "verify", None], path, bytes(changed)), (65, 69), f"byte {at}")

    def test_inspect_takes_any_architecture(self):
        path = self.folder / "model.gguf"
        write_gguf(path, {"general.architecture": "something-new", "something-new.depth": 3}, {"a.weight": (0, (2, 4), b"\0" * 32)})
        self.assertIn(b"something-new", run("llcc", "inspect", path).stdout)
        done = run("llcc", "compile", path, "-o", self.folder / "x.llcp", expect=69)
        self.assertIn(b"something-new", done.stderr)
        self.assertIn(b"llama", done.stderr)

    def test_what_people_mistake_for_a_model(self):
        for name, data in {"pointer.gguf": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
                           "page.gguf": b"<!DOCTYPE html><html>", "empty.gguf": b"", "zip.gguf": b"PK\3\4" + b"\0" * 100}.items():
            with self.subTest(name):
                self.assertIn(self.check(["llcc", "compile", None], self.folder / name, data), (65, 69))
        done = run("llcc", "compile", self.folder / "missing.gguf", "-o", self.folder / "x.llcp", expect=66)
        self.assertIn(b"missing.gguf", done.stderr)


class Killed(Case):
    def test_kill_9_leaves_the_old_plan_or_the_new_one(self):
        plan = self.compile(RandomModel().write_hf(self.folder / "hf"))
        old = plan.read_bytes()
        new = self.compile(BUNDLED, name="new.llcp").read_bytes()
        for delay in [0.002 * i for i in range(30)]:
            plan.write_bytes(old)
            process = subprocess.Popen([BUILD / "llcc", "compile", BUNDLED, "-o", plan], stderr=subprocess.DEVNULL)
            time.sleep(delay)
            process.kill()
            process.wait()
            self.assertIn(plan.read_bytes(), (old, new))
        self.compile(BUNDLED)
        self.assertEqual(plan.read_bytes(), new)
        self.assertEqual([p.name for p in self.folder.iterdir() if "tmp" in p.name], [], "temporaries are swept")


if __name__ == "__main__":
    unittest.main()
