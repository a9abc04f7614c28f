"""The installed tree: relocatable, small, and free of everything but glibc."""
import json
import os
import re
import shutil
import subprocess
import unittest

from support import BUILD, BUNDLED, ROOT, Case, run

GLIBC = (2, 35)
FORBIDDEN = re.compile(r"LLVM|nvrtc|cudart|cublas|stdc\+\+|libfmt|pcre|boost", re.I)


class Installed(Case):
    def setUp(self):
        super().setUp()
        staged = self.folder / "staged"
        subprocess.run(["cmake", "--install", BUILD, "--prefix", staged, "--strip"], check=True, capture_output=True)
        self.tree = self.folder / "moved here"
        staged.rename(self.tree)

    def elf_files(self):
        return [self.tree / "bin" / "llcc", self.tree / "bin" / "llrt", (self.tree / "lib" / "libllrt.so").resolve()]

    def test_needs_glibc_alone_and_no_newer_than_2_35(self):
        for path in self.elf_files():
            with self.subTest(path.name):
                dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
                needed = re.findall(r"NEEDED.*\[(.+)\]", dynamic)
                self.assertTrue(set(needed) <= {"libc.so.6", "libm.so.6", "libllrt.so.0", "ld-linux-x86-64.so.2"}, needed)
                symbols = subprocess.run(["readelf", "--dyn-syms", "-W", path], capture_output=True, text=True, check=True).stdout
                versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([\d.]+)", symbols)}
                self.assertLessEqual(max(versions), GLIBC)
                self.assertNotRegex("".join(needed), FORBIDDEN)

    def test_the_library_exports_its_c_interface_alone(self):
        table = subprocess.run(["nm", "-D", "--defined-only", self.elf_files()[2]], capture_output=True, text=True, check=True).stdout
        names = [line.split()[-1] for line in table.splitlines()]
        self.assertGreater(len(names), 10)
        self.assertEqual([n for n in names if not n.startswith("llrt_")], [])

    def test_runs_from_its_new_place_with_an_empty_environment(self):
        runtime = sum(p.stat().st_size for p in (self.tree / "lib").rglob("*") if p.is_file() and not p.is_symlink())
        runtime += (self.tree / "bin" / "llrt").stat().st_size
        self.assertLess(runtime, 15 << 20)
        plan = self.compile(BUNDLED)
        done = subprocess.run([self.tree / "bin" / "llrt", "run", plan, "-p", "In the beginning", "-n", "8", "--temp", "0"],
                              env={}, cwd="/", capture_output=True, check=True)
        self.assertGreater(len(done.stdout), 10)
        again = self.folder / "again.llcp"
        subprocess.run([self.tree / "bin" / "llcc", "compile", BUNDLED, "-o", again], env={}, cwd="/", check=True, capture_output=True)
        self.assertEqual(again.read_bytes(), plan.read_bytes())

    def test_the_examples_build_against_it(self):
        plan = self.compile(BUNDLED)
        build = self.folder / "examples"
        for step in (["cmake", "-S", ROOT / "examples", "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={self.tree}"],
                     ["cmake", "--build", build]):
            done = subprocess.run(step, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for name in ("embed_c", "embed_cpp"):
            done = subprocess.run([build / name, plan], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(len(done.stdout), 10)

    @unittest.skipUnless(shutil.which("pkg-config"), "pkg-config is not installed")
    def test_pkg_config(self):
        env = dict(os.environ, PKG_CONFIG_PATH=str(self.tree / "lib" / "pkgconfig"))
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "llrt"], env=env, capture_output=True, text=True, check=True).stdout
        self.assertIn("-lllrt", flags)

    def test_first_token_comes_quickly(self):
        plan = self.compile(BUNDLED)
        shown = json.loads(run("llrt", "run", plan, "-p", "In the", "-n", 1, "--temp", 0, "--json").stdout)
        self.assertGreater(len(shown["text"]), 0)


if __name__ == "__main__":
    unittest.main()
