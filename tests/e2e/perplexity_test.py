"""Perplexity of kjv-7m against transformers and against llama.cpp's values for each block type."""
import unittest

from support import SHARED, Case, need_shared

PEER = {"Q8_0": 20.8198, "Q4_K_M": 21.0741, "Q4_0": 21.1674}  # llama-perplexity -c 512 -b 512 on the same files


@need_shared
class Perplexity(Case):
    TEXT = SHARED / "models" / "kjv-7m" / "valid.txt"

    def test_bf16_weights(self):
        folder = SHARED / "models" / "kjv-7m"
        self.assertAlmostEqual(self.perplexity(self.compile(folder), self.TEXT), 20.833, delta=0.02)

    def test_block_types(self):
        for name, peer in PEER.items():
            with self.subTest(name):
                path = SHARED / "models" / "kjv-7m" / "gguf" / f"kjv-7m-{name}.gguf"
                fast = self.perplexity(self.compile(path), self.TEXT)
                self.assertLessEqual(abs(fast / peer - 1), 0.005)

    def test_reference_kernels(self):
        path = SHARED / "models" / "kjv-7m" / "gguf" / "kjv-7m-Q4_K_M.gguf"
        exact = self.perplexity(self.compile(path, "--reference-kernels"), self.TEXT)
        self.assertLessEqual(abs(exact / PEER["Q4_K_M"] - 1), 0.003)


if __name__ == "__main__":
    unittest.main()
