"""Logits against transformers in float32, for every reference model of a supported family."""
import json
import math
import unittest

import numpy as np

from support import SHARED, Case, bf16_levels, need_shared, read_safetensors, relative_l2, run

# model -> largest relative L2 error of the fast kernels with f16 KV, and of level amx, which rounds tokens of bf16 weights
MODELS = {"llama-gqa": (3e-3, 2e-2), "llama-mha-tied": (3e-3, 2e-2), "llama3-rope": (3e-3, 2e-2), "mistral-swa": (3e-3, 2e-2),
          "qwen2-bias": (3e-3, 2e-2), "kjv-7m": (1e-3, 3e-3)}


def check_greedy(test, got, want_ids, start, rms_error):
    """Greedy choices equal until the gap between the two best logits is below four times the RMS error."""
    for t in range(start, len(want_ids)):
        row = got[t - 1]
        second, best = np.partition(row, -2)[-2:]
        if best - second < 4 * rms_error:
            return t - start
        test.assertEqual(int(row.argmax()), int(want_ids[t]), f"token {t}")
    return len(want_ids) - start


@need_shared
class References(Case):
    def check(self, name, *bounds):
        folder = SHARED / "models" / name
        reference = read_safetensors(folder / "reference.safetensors")
        ids, want = reference["input_ids"].reshape(-1), reference["logits"]
        exact = self.compile(folder, "--reference-kernels", name="exact.llcp")
        fast = self.compile(folder, name="fast.llcp")
        exact_logits = self.logits(exact, ids)
        self.assertLessEqual(relative_l2(exact_logits, want), 1e-5)
        fast_logits = self.logits(fast, ids)
        plans = {"f16": fast} | {kv: self.compile(folder, "--kv-type", kv, name=f"{kv}.llcp") for kv in ("f32", "q8")}
        for isa, bound in bf16_levels(*bounds):
            for kv, plan in plans.items():
                # Two independent errors where amx rounds tokens too: llama-gqa reached 3.02e-2.
                most = bound if kv != "q8" else math.hypot(3e-2, bound) if isa == "amx" else 3e-2
                with self.subTest(isa=isa, kv=kv):
                    self.assertLessEqual(relative_l2(self.logits(plan, ids, "--isa", isa), want), most)
        if "greedy_ids" in reference:
            greedy = reference["greedy_ids"].reshape(-1)
            rms = float(np.sqrt(np.mean((fast_logits.astype(np.float64) - exact_logits) ** 2)))
            check_greedy(self, self.logits(fast, greedy), greedy, len(ids), rms)
            # the same through the generation loop, one token a step
            done = run("llrt", "run", exact, "--ids", ",".join(map(str, ids)), "-n", len(greedy) - len(ids), "--temp", 0,
                       "--ignore-eos", "--json")
            self.assertEqual(json.loads(done.stdout)["ids"], greedy[len(ids):].tolist())


for model, limits in MODELS.items():
    setattr(References, "test_" + model.replace("-", "_"), lambda self, m=model, b=limits: self.check(m, *b))


@need_shared
class Quantized(Case):
    def test_fast_kernels_stay_close_to_the_reference_kernels(self):
        ids = read_safetensors(SHARED / "models" / "kjv-7m" / "reference.safetensors")["input_ids"].reshape(-1)
        for path in sorted((SHARED / "models" / "kjv-7m" / "gguf").glob("*.gguf")):
            with self.subTest(path.name):
                exact = self.logits(self.compile(path, "--reference-kernels"), ids)
                self.assertLessEqual(relative_l2(self.logits(self.compile(path), ids), exact), 1.5e-2)


@need_shared
class Unsupported(Case):
    def test_other_architectures_are_named_and_refused(self):
        for name in ("mixtral-moe", "gemma1", "gemma2", "gpt-oss", "phi3-fused", "qwen3-qknorm", "olmo2", "stablelm2"):
            with self.subTest(name):
                plan = self.folder / "x.llcp"
                done = run("llcc", "compile", SHARED / "models" / name, "-o", plan, expect=69)
                self.assertIn(b"supported", done.stderr)
                self.assertFalse(plan.exists())


if __name__ == "__main__":
    unittest.main()
