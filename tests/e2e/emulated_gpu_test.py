"""The whole path of a GPU without one: plans for the emulated target, run on a CUDA driver that is the emulator."""
import asyncio
import json
import os
import re
import unittest

import numpy as np

from library import Library
from references_test import check_greedy
from serving import Server, ask
from support import BUILD, BUNDLED, SHARED, Case, RandomModel, need_shared, read_safetensors, relative_l2, run

DRIVER = BUILD / "libllcuda_fake_driver.so"
SMALL = dict(hidden=64, layers=2, heads=4, kv_heads=2, head_dim=32, ffn=96, vocab=128)


def environment(**extra):
    return {**os.environ, "LLRT_CUDA_DRIVER": str(DRIVER), **{k: str(v) for k, v in extra.items()}}


@unittest.skipUnless(DRIVER.is_file(), f"this build has no {DRIVER.name}")
class EmulatedGpu(Case):
    def setUp(self):
        super().setUp()
        self.ids = np.random.default_rng(3).integers(3, 128, 37).tolist()

    def plan(self, model, *options, name="gpu.llcp"):
        context = () if "--ctx-size" in options else ("--ctx-size", 64)
        return self.compile(model, "--target", "emulated,cpu", *context, *options, name=name)

    def model(self, kind="q8_0", **shape):
        path = self.folder / "model.gguf"
        model = RandomModel(seed=7, **{**SMALL, **shape})
        model.write_gguf(path, kind)
        return model, path

    def gpu_logits(self, plan, *options, **extra):
        os.environ.update({k: str(v) for k, v in {"LLRT_CUDA_DRIVER": DRIVER, **extra}.items()})
        self.addCleanup(lambda: [os.environ.pop(k, None) for k in ("LLRT_CUDA_DRIVER", *extra)])
        return self.logits(plan, self.ids, "--device", "cuda", *options)

    def test_logits_are_those_of_the_reference_kernels(self):
        for kind, bound in (("f16", 2e-3), ("bf16", 2e-3), ("q8_0", 1.5e-2)):
            for family, shape in (("llama", {}), ("qwen2", {"bias": True, "tied": True}), ("mistral", {"window": 9})):
                with self.subTest(kind=kind, family=family):
                    _, path = self.model(kind, family=family, **shape)
                    exact = self.logits(self.compile(path, "--reference-kernels"), self.ids)
                    self.assertLess(relative_l2(self.gpu_logits(self.plan(path)), exact), bound)

    def test_logits_are_those_of_an_independent_implementation(self):
        model, path = self.model("f16", window=0)
        self.assertLess(relative_l2(self.gpu_logits(self.plan(path)), model.logits(self.ids)), 5e-3)

    def test_launches_and_schedules_do_not_change_a_bit(self):
        _, path = self.model()
        plan = self.plan(path)
        graphs = self.gpu_logits(plan)
        for options in (("--no-graphs",), ("--check-launches",), ("--time-launches",)):
            self.assertTrue(np.array_equal(graphs, self.gpu_logits(plan, *options)), options)
        for seed in (1, 2):
            self.assertTrue(np.array_equal(graphs, self.gpu_logits(plan, LLCUDA_EMULATOR_SEED=seed)), seed)

    def test_kv_types(self):
        _, path = self.model()
        exact = self.logits(self.plan(path), self.ids, "--device", "cpu")
        q8 = self.plan(path, "--kv-type", "q8", name="q8.llcp")
        self.assertLess(relative_l2(self.gpu_logits(q8), exact), 3e-2)

    def test_generation(self):
        plan = self.plan(BUNDLED)
        options = ("run", plan, "-p", "In the beginning", "-n", 6, "--temp", 0, "--json")
        cpu = json.loads(run("llrt", *options, "--device", "cpu").stdout)
        gpu = json.loads(run("llrt", *options, "--device", "cuda", env=environment()).stdout)
        self.assertEqual(gpu["ids"], cpu["ids"])

    def test_weights_that_stay_in_their_file(self):
        _, path = self.model()
        embedded = self.gpu_logits(self.plan(path))
        named = self.plan(path, "--weights", "reference", name="named.llcp")
        self.assertTrue(np.array_equal(embedded, self.gpu_logits(named, "--model-dir", self.folder)))

    def test_a_fault_names_the_kernel_and_asks_for_a_restart(self):
        _, path = self.model()
        command = ("run", self.plan(path), "--ids", "5,6", "-n", 2, "--temp", 0, "--device", "cuda")
        env = environment(LLRT_CUDA_FAULT=2)
        done = run("llrt", *command, "--check-launches", env=env, expect=75)
        self.assertRegex(done.stderr.decode(), r"launch 2: kernel \w+_[0-9a-f]{16} \(\w+\) computing %\S+: CUDA_ERROR_ILLEGAL_ADDRESS")
        self.assertIn(b"restart", run("llrt", *command, env=env, expect=75).stderr)

    def test_a_lost_device_fails_the_requests_and_ends_the_server(self):
        plan = self.plan(BUNDLED, "--max-batch", 2, "--ctx-size", 128)
        server = Server(plan, "--device", "cuda", env=environment(LLCUDA_FAKE_LOST_AFTER=6))
        self.addCleanup(server.process.kill)
        body = {"prompt": "In the beginning", "max_tokens": 90, "temperature": 0, "ignore_eos": True}

        async def all_at_once():  # two run, two wait
            return await asyncio.gather(*(ask(server.port, "/v1/completions", {**body, "stream": i % 2 == 0}) for i in range(4)))

        for i, (status, _, answer) in enumerate(asyncio.run(all_at_once())):
            if status == 200:  # a stream that had begun
                self.assertEqual(i % 2, 0)
                error = json.loads(answer.decode().strip().split("\n\n")[-1].removeprefix("data: "))["error"]
            else:
                self.assertEqual(status, 503)
                error = json.loads(answer)["error"]
            self.assertIn("CUDA_ERROR_ILLEGAL_ADDRESS", error["message"])
        self.assertEqual(server.process.wait(30), 75)
        server.stop(expect=75)
        (lost,) = [entry for entry in server.log if entry["event"] == "device_lost"]
        self.assertIn("CUDA_ERROR_ILLEGAL_ADDRESS", lost["error"])

    def test_too_little_memory_is_told_with_what_to_turn(self):
        _, path = self.model()
        command = ("run", self.plan(path), "--ids", "5", "-n", 1, "--device", "cuda")
        done = run("llrt", *command, env=environment(LLCUDA_FAKE_MEMORY=1 << 20), expect=None)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"--ctx-size", done.stderr)

    def test_a_plan_is_proved_to_fit_when_it_is_compiled(self):
        _, path = self.model("f16", vocab=2048, ffn=1024)
        options = ("--ctx-size", 512, "--max-batch", 8)

        def compiled(budget, *more, expect=0):
            done = run("llcc", "compile", path, "--target", "emulated,cpu", *more, "--gpu-memory", budget, "-o",
                       self.folder / "fit.llcp", expect=expect)
            return done.stderr.decode()

        needs = json.loads(run("llrt", "doctor", self.plan(path, *options), "--json").stdout)["plan"]["gpu"]["targets"][0]
        compiled(needs["total_bytes"], *options)
        refused = compiled(needs["total_bytes"] - 1, *options, expect=71)
        self.assertIn("8 sequences of 512 tokens", refused)
        # What is said to fit does; a page more does not.
        small = needs["total_bytes"] - needs["kv_pool_bytes"] // 3
        knobs = dict(re.findall(r"(--(?:ctx-size|max-batch|kv-type)) (\w+)", compiled(small, *options, expect=71).split("it fits with")[1]))
        self.assertEqual(set(knobs), {"--ctx-size", "--max-batch", "--kv-type"})
        compiled(small, "--ctx-size", knobs["--ctx-size"], "--max-batch", 8)
        compiled(small, "--ctx-size", int(knobs["--ctx-size"]) + 32, "--max-batch", 8, expect=71)
        compiled(small, "--ctx-size", 512, "--max-batch", knobs["--max-batch"])
        compiled(small, "--ctx-size", 512, "--max-batch", int(knobs["--max-batch"]) + 1, expect=71)
        compiled(small, *options, "--kv-type", knobs["--kv-type"])
        # The device is asked for the same bytes.
        env = environment(LLCUDA_FAKE_MEMORY=needs["total_bytes"])
        command = ("run", self.plan(path, *options), "--ids", "5", "-n", 1, "--device", "cuda")
        run("llrt", *command, env=env)
        done = run("llrt", *command, env={**env, "LLCUDA_FAKE_MEMORY": str(needs["total_bytes"] - 1)}, expect=71)
        self.assertIn(b"--ctx-size", done.stderr)
        # Where no knob is enough, none is named.
        self.assertIn("fewer bits", compiled(needs["reserve_bytes"], *options, expect=71))
        self.assertIn("such as 14.5GiB", compiled("much", *options, expect=64))
        run("llcc", "compile", path, "--target", "cpu", "--gpu-memory", "1GiB", "-o", self.folder / "cpu.llcp", expect=64)

    def test_other_devices_and_drivers(self):
        _, path = self.model()
        gpu = self.compile(path, "--target", "emulated", "--ctx-size", 64)
        command = ("run", gpu, "--ids", "5", "-n", 1, "--device", "cuda")
        done = run("llrt", *command, env=environment(LLCUDA_FAKE_SM=86), expect=69)
        self.assertIn(b"sm_86", done.stderr)
        self.assertIn(b"no CUDA driver", run("llrt", *command, env=environment(LLRT_CUDA_DRIVER=self.folder / "none.so"), expect=69).stderr)
        self.assertIn(b"12.0", run("llrt", *command, env=environment(LLCUDA_FAKE_DRIVER=11080), expect=69).stderr)
        self.assertIn(b"no device", run("llrt", *command, env=environment(LLCUDA_FAKE_DEVICES=0), expect=69).stderr)
        self.assertIn(b"cpu", run("llrt", "run", gpu, "--ids", "5", "-n", 1, "--device", "cpu", expect=69).stderr)

    def test_doctor(self):
        _, path = self.model()
        plan = self.plan(path)
        def doctor(**extra):
            return json.loads(run("llrt", "doctor", plan, "--json", env=environment(**extra)).stdout)

        facts = doctor()
        self.assertEqual([d["name"] for d in facts["gpu"]["devices"]], ["emulated GPU"])
        self.assertEqual(facts["gpu"]["driver"], "13.0")
        (target,), (device,) = facts["plan"]["gpu"]["targets"], facts["plan"]["gpu"]["devices"]
        self.assertEqual((device["runs"], device["fits_in_device_memory"]), ("emulated", True))
        self.assertGreater(target["weight_bytes"] + target["kv_pool_bytes"], 1000)
        self.assertFalse(doctor(LLCUDA_FAKE_MEMORY=1 << 16)["plan"]["gpu"]["devices"][0]["fits_in_device_memory"])
        self.assertIn("sm_86", doctor(LLCUDA_FAKE_SM=86)["plan"]["gpu"]["devices"][0]["reason"])
        absent = doctor(LLRT_CUDA_DRIVER=self.folder / "none.so")
        self.assertIsNone(absent["gpu"]["driver"])
        self.assertIn("none.so", absent["gpu"]["reason"])
        text = run("llrt", "doctor", plan, env=environment()).stdout.decode()
        self.assertRegex(text, r"device +emulated GPU, architecture sm_0")
        self.assertIn("plan: gpu", text)

    def test_dump_of_every_launch(self):
        _, path = self.model()
        plan, folder = self.plan(path), self.folder / "dump" / "ed"
        plain = self.gpu_logits(plan)
        self.assertTrue(np.array_equal(plain, self.gpu_logits(plan, "--dump-tensors", folder)))
        files = sorted(folder.iterdir())
        self.assertTrue(files and files[0].name.startswith("00000-"), files)
        tensors, rows = read_safetensors(files[-1]), len(self.ids)
        *_, logits, shortlists = sorted(tensors)
        self.assertTrue(np.array_equal(tensors[logits], plain))
        self.assertFalse(tensors[shortlists].any())  # nobody asked for them
        self.assertTrue(all(re.fullmatch(r"\d{4} \w+ %\S+", name) for name in tensors), list(tensors))
        self.assertGreater(len(tensors), 10)
        self.assertTrue(all(np.isfinite(v).all() and len(v) == rows for v in tensors.values() if v.dtype == np.float32))
        self.assertTrue(any(v.dtype == np.uint8 for v in tensors.values()))
        cpu = ("--ids", "5", "-n", 1, "--dump-tensors", self.folder / "none")
        self.assertIn(b"only GPUs", run("llrt", "run", plan, *cpu, "--device", "cpu", expect=69).stderr)
        (self.folder / "file").touch()
        self.assertIn(b"cannot make the folder", run("llrt", "run", plan, "--ids", "5", "-n", 1, "--device", "cuda", "--dump-tensors",
                                                     self.folder / "file" / "x", env=environment(), expect=73).stderr)

    def test_times_of_launches(self):
        _, path = self.model()
        done = run("llrt", "run", self.plan(path), "--ids", "5,6", "-n", 3, "--temp", 0, "--ignore-eos", "--device", "cuda",
                   "--time-launches", env=environment())
        self.assertRegex(done.stderr.decode(), re.compile(r"^\S+: \d+ steps of [0-9.]+ us$", re.M))


@need_shared
@unittest.skipUnless(DRIVER.is_file(), f"this build has no {DRIVER.name}")
class References(Case):
    """Logits of transformers in float32, by prompts, chunks, single tokens and batches."""

    @classmethod
    def setUpClass(cls):
        os.environ["LLRT_CUDA_DRIVER"] = str(DRIVER)
        cls.addClassCleanup(os.environ.pop, "LLRT_CUDA_DRIVER")
        cls.library = Library(BUILD / "libllrt.so")

    def open(self, folder, *options):
        plan = self.compile(folder, "--target", "emulated,cpu", "--ctx-size", 96, "--max-batch", 3, *options)
        model = self.library.open(plan, "cuda")
        self.addCleanup(model.close)
        return model

    def session(self, model):
        session = model.session()
        self.addCleanup(session.close)
        return session

    def check(self, name):
        folder = SHARED / "models" / name
        reference = read_safetensors(folder / "reference.safetensors")
        ids, want = reference["input_ids"].reshape(-1)[:48], reference["logits"][:48]
        for kv, bound in (("f16", 5e-3), ("q8", 3e-2)):
            model = self.open(folder, "--kv-type", kv)
            whole = self.session(model).prefill(ids)
            self.assertLessEqual(relative_l2(whole, want), bound, kv)
            pieces = self.session(model)
            got = np.concatenate([pieces.prefill(part) for part in np.split(ids, (1, 3, 12, 29))])
            np.testing.assert_array_equal(whole, got)
            batch = [self.session(model) for _ in range(3)]
            starts = (5, 11, 20)
            for session, start in zip(batch, starts):
                session.prefill(ids[:start])
            for step in range(4):
                rows = model.decode(batch, [ids[start + step] for start in starts])
                np.testing.assert_array_equal(rows, [whole[start + step] for start in starts])
            rms = float(np.sqrt(np.mean((whole.astype(np.float64) - want) ** 2)))
            if kv == "f16" and "greedy_ids" in reference:
                greedy = reference["greedy_ids"].reshape(-1)
                one = self.session(model)
                rows = list(one.prefill(greedy[:48]))
                rows += [model.decode([one], [token])[0] for token in greedy[48:-1]]
                check_greedy(self, rows, greedy, 48, rms)


for name in ("llama-gqa", "llama-mha-tied", "llama3-rope", "mistral-swa", "qwen2-bias", "kjv-7m"):
    setattr(References, "test_" + name.replace("-", "_"), lambda self, m=name: self.check(m))


if __name__ == "__main__":
    unittest.main()
