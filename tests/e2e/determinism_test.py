"""Same input, same bytes: whatever the path, the working directory, the number of threads or the chunking."""
import os
import subprocess
import unittest

import numpy as np

from support import BUILD, BUNDLED, Case, RandomModel, bf16_levels, relative_l2, run


class Compile(Case):
    def test_two_compiles_are_identical_from_any_path(self):
        first = self.compile(BUNDLED, name="a.llcp").read_bytes()
        deep = self.folder / "some" / "where else"
        deep.mkdir(parents=True)
        copy = deep / BUNDLED.name
        copy.write_bytes(BUNDLED.read_bytes())
        os.utime(copy, (1, 1))
        subprocess.run([BUILD / "llcc", "compile", copy.name, "-o", "b.llcp"], cwd=deep, check=True, capture_output=True,
                       env={"HOME": "/nonexistent", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PATH": "/usr/bin"})
        self.assertEqual(first, (deep / "b.llcp").read_bytes())

    def test_one_processor_gives_the_same_bytes(self):
        first = self.compile(BUNDLED, name="a.llcp").read_bytes()
        second = self.folder / "b.llcp"
        subprocess.run(["taskset", "-c", str(min(os.sched_getaffinity(0))), BUILD / "llcc", "compile", BUNDLED, "-o", second],
                       check=True, capture_output=True)
        self.assertEqual(first, second.read_bytes())

    def test_the_printed_graph_compiles_to_the_same_plan(self):
        text = run("llcc", "compile", BUNDLED, "--emit", "ir").stdout
        graph = self.folder / "graph.llir"
        graph.write_bytes(text)
        plan = self.folder / "from-text.llcp"
        run("llcc", "compile", graph, "--weights", BUNDLED, "-o", plan)
        self.assertEqual(self.compile(BUNDLED).read_bytes(), plan.read_bytes())


class Results(Case):
    def test_logits_do_not_depend_on_threads_or_chunks(self):
        ids = np.random.default_rng(0).integers(0, 4096, 150)
        for options in ((), ("--kv-type", "q8"), ("--reference-kernels",)):
            with self.subTest(options):
                plan = self.compile(BUNDLED, *options)
                for mode in (), ("--deterministic",):
                    want = self.logits(plan, ids, "-t", 1, *mode)
                    for threads in (2, 3, 5):
                        np.testing.assert_array_equal(want, self.logits(plan, ids, "-t", threads, *mode))
                for part in 67, 1:
                    np.testing.assert_array_equal(want[:part], self.logits(plan, ids[:part], "--deterministic"))

    def test_large_products_whose_threads_share_what_is_prepared(self):
        model = RandomModel(seed=2, layers=1, hidden=2048, heads=16, kv_heads=2, head_dim=128, ffn=2048, vocab=96)
        source = self.folder / "model.gguf"
        model.write_gguf(source, "q8_0")
        plan = self.compile(source)
        for length in (150, 70):
            ids = np.random.default_rng(1).integers(0, model.vocab, length)
            want = self.logits(plan, ids, "-t", 1)
            for threads in (2, 3, 5):
                np.testing.assert_array_equal(want, self.logits(plan, ids, "-t", threads))
            self.assertLessEqual(relative_l2(want, self.logits(plan, ids, "--deterministic")), 6e-2)

    def test_weights_by_reference_give_the_same_logits(self):
        ids = list(range(50))
        embedded, referenced = self.compile(BUNDLED), self.compile(BUNDLED, "--weights", "reference", name="small.llcp")
        self.assertLess(referenced.stat().st_size, embedded.stat().st_size / 4)
        (self.folder / BUNDLED.name).write_bytes(BUNDLED.read_bytes())
        np.testing.assert_array_equal(self.logits(embedded, ids), self.logits(referenced, ids))
        broken = bytearray(BUNDLED.read_bytes())
        broken[-1000] ^= 1
        (self.folder / BUNDLED.name).write_bytes(broken)
        done = run("llrt", "run", referenced, "-p", "x", "-n", 1, expect=65)
        self.assertIn(BUNDLED.name.encode(), done.stderr)

    def test_scalar_level_agrees_with_the_simd_levels(self):
        plan = self.compile(RandomModel(hidden=64, ffn=96).write_hf(self.folder / "hf"))
        ids = list(range(30))
        for isa, bound in bf16_levels(3e-3):
            got, want = self.logits(plan, ids, "--isa", isa), self.logits(plan, ids, "--isa", "scalar")
            self.assertLessEqual(relative_l2(got, want), bound, isa)


if __name__ == "__main__":
    unittest.main()
