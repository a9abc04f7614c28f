#!/usr/bin/env python3
"""Checks and measures llcuda on the GPU of this machine, within a given time; tools/gpu-check.sh makes the folder it runs in.

Needs python3 with numpy, and what it checks: llcc finds an NVRTC here. Each part has its own limit, so that one that hangs
does not take the others with it; results are written after every part, as results.md and results.json.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "e2e")]

from library import Library  # noqa: E402
from support import read_safetensors, relative_l2, write_safetensors  # noqa: E402

REFERENCES = ("llama-gqa", "llama-mha-tied", "llama3-rope", "mistral-swa", "qwen2-bias", "kjv-7m")
# Perplexity: llama.cpp's values by weight type (llama-perplexity -c 512, files of its quantizer without an importance matrix); transformers' for the folder.
PERPLEXITY = {"kjv-7m": 20.8332} | {
    f"kjv-7m-{kind}.gguf": value for kind, value in {
        "F32": 20.8313, "F16": 20.8313, "BF16": 20.8313, "Q8_0": 20.8198, "Q6_K": 20.8595, "Q5_K_M": 20.8825, "Q5_1": 20.8851, "Q5_0": 20.9584,
        "Q4_K_M": 21.0741, "IQ4_NL": 21.0811, "IQ4_XS": 21.1083, "Q4_0": 21.1674, "Q4_1": 21.2092, "Q3_K_M": 21.4559, "Q2_K": 24.0985}.items()}
LARGE = ("llama-3.2-1b", "llama-3.1-8b", "llama-3.2-3b", "qwen2.5-7b")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
DEPTH = 4096
# Tokens a second of llama.cpp d32676d on an H100 80GB HBM3 by instructions: decode at batch 1, prompts of 2048.
PEER = {("llama-3.2-1b", "sm_75"): (760, 35128), ("llama-3.2-1b", "native"): (868, 43388),
        ("llama-3.2-3b", "sm_75"): (380, 16553), ("llama-3.2-3b", "native"): (417, 19074),
        ("llama-3.1-8b", "sm_75"): (240, 8629), ("llama-3.1-8b", "native"): (260, 9765),
        ("qwen2.5-7b", "sm_75"): (246, 8845), ("qwen2.5-7b", "native"): (263, 10023)}
NVRTC_LIBRARIES = re.compile(r"nvrtc|nvJitLink|ptxjit|cudart|cublas|LLVM", re.I)


class Failed(Exception):
    """What was checked does not hold."""


class Skipped(Exception):
    """It could not be checked here, for the reason given."""


def text_of(raw):
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""


class Checks:
    def __init__(self, args):
        self.args = args
        self.tree, self.models, self.out = args.tree, args.models, args.out
        self.begin = time.monotonic()
        self.end = self.begin + args.seconds
        self.results = {"parts": {}, "bandwidth": {}, "speed": [], "start_up": []}
        self.limit = self.end
        self.sm = 0
        self.running = set()
        self.large = {}  # (model, isa) -> plan, filled while other parts run
        self.large_done = threading.Event()
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(args.work / "cache"),
                            "LLCUDA_CHECK_MODEL": str(self.models / "kjv-7m-Q8_0.gguf")}

    # ---- Running programs ----

    def left(self):
        return min(self.limit, self.end) - time.monotonic()

    def run(self, *command, expect=0, limit=None, until=None, env=None, lines=40):
        """A process of its own group, ended after `limit` seconds, at `until`, or with the part. Exit code, stdout, stderr."""
        limit = min(limit or 1e9, self.left() if until is None else until - time.monotonic())
        if limit <= 0:
            raise subprocess.TimeoutExpired(command, 0)
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, start_new_session=True, env={**self.environment, **(env or {})})
        self.running.add(process)
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise subprocess.TimeoutExpired(command, limit, out, err) from None
        finally:
            self.running.discard(process)
        out, err = text_of(out), text_of(err)
        if expect is not None and process.returncode != expect:
            tail = "\n".join((out + err).strip().splitlines()[-lines:])
            raise Failed(f"{' '.join(map(str, command))}: exit {process.returncode}, expected {expect}\n{tail}")
        return process.returncode, out, err

    def llcc(self, *args, **more):
        return self.run(self.tree / "bin" / "llcc", *args, **more)

    def llrt(self, *args, **more):
        return self.run(self.tree / "bin" / "llrt", *args, **more)

    def gpu_check(self, *args, **more):
        return self.run(self.args.check, "--gtest_brief=1", *args, **more)

    def child(self, name, *args):
        """A function below in a process of its own, so that a lost device does not outlive it; the JSON it prints."""
        _, out, _ = self.run(sys.executable, __file__, "--tree", self.tree, "--child", name, *args)
        return json.loads(out)

    # ---- Parts ----

    def part(self, name, seconds, function, *args):
        needed = ("device", "bandwidth", "large plans")
        if self.args.only and not name.startswith((*needed, *self.args.only)):
            return
        if time.monotonic() >= self.end:
            self.note(name, {"status": "no time left"})
            return
        begin = time.monotonic()
        self.limit = begin + seconds
        entry = {}
        try:
            entry = {"status": "passed", **(function(*args) or {})}
        except Skipped as e:
            entry = {"status": "skipped", "reason": str(e)}
        except Failed as e:
            entry = {"status": "failed", "reason": str(e)}
        except subprocess.TimeoutExpired as e:
            tail = (text_of(e.stdout) + text_of(e.stderr)).strip()[-1500:]
            entry = {"status": "cut off", "reason": f"{' '.join(map(str, e.cmd))[:300]} ran past {e.timeout:.0f} s\n{tail}"}
        except Exception as e:  # a fault of this script must not cost the parts behind it
            entry = {"status": "failed", "reason": f"{type(e).__name__}: {e}"}
        entry["seconds"] = round(time.monotonic() - begin, 1)
        self.note(name, entry)

    def note(self, name, entry):
        self.results["parts"][name] = entry
        shown = {k: v for k, v in entry.items() if k in ("status", "seconds", "reason", "summary")}
        print(f"== {name}: {shown.pop('status')} {' '.join(str(v) for v in shown.values())}"[:1800], flush=True)
        self.write()

    def write(self):
        (self.out / "results.json").write_text(json.dumps(self.results, indent=1, default=str) + "\n")
        (self.out / "results.md").write_text(markdown(self.results))

    def isas(self):
        return (["sm_75"] if self.sm > 75 else []) + ["native"]

    def target(self, isa):
        if self.args.target:
            return ["--target", self.args.target]
        return ["--target", f"sm_{self.sm}", *(["--isa", isa] if isa != "native" else [])]

    def device(self):
        if self.args.target:
            return {"summary": f"none: plans for {self.args.target}"}
        fields = "name,driver_version,memory.total,compute_cap,clocks.max.sm,clocks.max.memory,power.limit"
        _, out, _ = self.run("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0")
        facts = dict(zip(fields.split(","), (v.strip() for v in out.strip().split(","))))
        self.sm = int(facts["compute_cap"].replace(".", ""))
        if self.sm < 75:
            raise Failed(f"{facts['name']} is sm_{self.sm}, expected sm_75 or newer")
        _, version, _ = self.llrt("--version", expect=None)
        libc = os.confstr("CS_GNU_LIBC_VERSION")
        self.results["device"] = {**facts, "llrt": version.strip(), "libc": libc, "processors": os.cpu_count()}
        _, doctor, _ = self.llrt("doctor", "--json")
        (self.out / "doctor.json").write_text(doctor)
        return {"summary": f"{facts['name']}, driver {facts['driver_version']}"}

    def bandwidth(self):
        self.need_gpu()
        _, out, _ = self.gpu_check("--gtest_filter=DeviceBandwidth.*")
        found = re.search(r"streaming read (\d+) GB/s, copy (\d+) GB/s .*device ([\d.]+) GB/s", out)
        if not found:
            raise Failed(out[-800:])
        values = dict(zip(("read_gb_s", "copy_gb_s", "host_to_device_gb_s"), map(float, found.groups())))
        self.results["bandwidth"] = values
        return {**values, "summary": f"read {values['read_gb_s']:.0f}, copy {values['copy_gb_s']:.0f}, host to device {values['host_to_device_gb_s']:.1f} GB/s"}

    def need_gpu(self):
        if self.sm == 0:
            raise Skipped("needs a GPU")

    def tests(self):
        """Names of gpu_check's tests."""
        names, suite = [], ""
        for line in self.gpu_check("--gtest_list_tests")[1].splitlines():
            if line and not line.startswith(" "):
                suite = line.split()[0]
            elif line.strip() and suite.endswith("."):
                names.append(suite + line.split()[0])
        return names

    def numerics(self, isa):
        self.need_gpu()
        failed, lost = [], []
        names = [n for n in self.tests() if "Bandwidth" not in n and n.endswith(isa)]
        for name in names:
            try:
                code, out, err = self.gpu_check(f"--gtest_filter={name}", expect=None, limit=60)
            except subprocess.TimeoutExpired:
                if self.left() <= 0:
                    raise
                lost.append(f"{name}: ran past 60 s")
                continue
            if code != 0 or "SKIPPED" in out:
                failed.append(name.rsplit("/", 1)[-1])
                with open(self.out / "numerics.log", "a") as log:
                    log.write(f"==== {name}: exit {code}\n{out[-6000:]}{err[-2000:]}\n")
        if failed or lost:
            raise Failed(f"{len(names)} families, wrong: {', '.join(failed + lost)}")
        return {"summary": f"{len(names)} families and suites"}

    def plan(self, model, isa, *options, name=None):
        """Compiled once. `model`: a file or folder."""
        path = self.args.work / f"{name or pathlib.Path(model).name}-{isa}.llcp"
        if not path.exists():
            self.llcc("compile", model, "-o", path, *self.target(isa), *options)
        return path

    def parity(self, isa):
        worst, bad = {}, []
        for name in REFERENCES:
            folder = self.models / name
            if not folder.is_dir():
                continue
            for kv, bound in (("f16", 5e-3), ("q8", 3e-2)):
                plan = self.plan(folder, isa, "--ctx-size", 96, "--max-batch", 3, "--kv-type", kv, name=f"{name}-{kv}")
                found = self.child("parity", plan, folder / "reference.safetensors", bound)
                worst[f"{name} {kv}"] = found["relative_l2"]
                bad += [f"{name} {kv}: {b}" for b in found["wrong"]]
        if not worst:
            raise Skipped("no reference models in the folder")
        if bad:
            raise Failed("\n".join(bad))
        f16 = max(v for k, v in worst.items() if k.endswith("f16"))
        return {"relative_l2": worst, "summary": f"relative L2 at most {f16:.2e} (f16 KV)"}

    def perplexity(self, isa):
        text, rows, bad = self.models / "kjv-7m" / "valid.txt", {}, []
        for name, want in PERPLEXITY.items():
            model = self.models / name
            if not model.exists():
                continue
            plan = self.plan(model, isa, name=f"{name}-ppl")
            _, out, _ = self.llrt("perplexity", plan, "-f", text, "--json", "--device", "cuda")
            got = json.loads(out)["perplexity"]
            rows[name] = [got, want]
            if not abs(got / want - 1) <= 5e-3:
                bad.append(f"{name}: {got:.4f}, expected {want:.4f} within 0.5 %")
        if bad:
            raise Failed("; ".join(bad))
        return {"perplexity": rows, "summary": ", ".join(f"{n} {g:.4f} ({w:.4f})" for n, (g, w) in rows.items())}

    def logits(self, plan, ids, *options):
        out = self.args.work / "logits.safetensors"
        self.llrt("logits", plan, "--ids", ids, "-o", out, *options)
        return read_safetensors(out)["logits"]

    def processor(self, isa):
        """The same plan's CPU programs, and the scalar reference kernels."""
        ids = self.args.work / "ids.safetensors"
        write_safetensors(ids, {"input_ids": np.random.default_rng(1).integers(0, 4096, 200).astype(np.int32)})
        rows, bad = {}, []
        for name in [n for n in PERPLEXITY if n.endswith(".gguf")]:
            model = self.models / name
            if not model.exists():
                continue
            both = self.args.work / f"{name}-{isa}-both.llcp"
            target = self.target(isa)
            self.llcc("compile", model, "-o", both, "--target", target[1] + ",cpu", *target[2:])
            exact = self.args.work / f"{name}-exact.llcp"
            if not exact.exists():
                self.llcc("compile", model, "-o", exact, "--reference-kernels")
            gpu = self.logits(both, ids, "--device", "cuda")
            rows[name] = [relative_l2(gpu, self.logits(both, ids, "--device", "cpu")), relative_l2(gpu, self.logits(exact, ids))]
            if not max(rows[name]) <= 2e-2:
                bad.append(f"{name}: {rows[name]}, expected at most 2e-2")
            for options in (("--no-graphs",), ("--check-launches",), ("--time-launches",)):
                other = self.logits(both, ids, "--device", "cuda", *options)
                if not np.array_equal(gpu, other):
                    bad.append(f"{name}: other bits with {options[0]}, relative L2 {relative_l2(other, gpu):.2e}")
        if bad:
            raise Failed("; ".join(bad))
        return {"relative_l2": rows, "summary": "; ".join(f"{n}: CPU {a:.1e}, reference kernels {b:.1e}" for n, (a, b) in rows.items())
                + "; graphs, plain, checked and timed launches give the same bits"}

    def small(self):
        models = [m for m in (self.models / "kjv-7m-Q8_0.gguf", self.models / "kjv-7m") if m.exists()]
        if not models:
            raise Skipped("no kjv-7m in the folder")
        return models[0]

    def fault(self):
        plan = self.plan(self.small(), self.isas()[0], name="small")
        command = ("run", plan, "--ids", "5,6", "-n", 2, "--temp", 0, "--device", "cuda")
        _, _, named = self.llrt(*command, "--check-launches", env={"LLRT_CUDA_FAULT": "2"}, expect=75)
        _, _, graph = self.llrt(*command, env={"LLRT_CUDA_FAULT": "2"}, expect=75)
        if not re.search(r"launch 2: kernel \w+ \(\w+\)", named):
            raise Failed(f"the error names no kernel: {named}")
        return {"checked": named.strip()[-400:], "graph": graph.strip()[-400:], "summary": "exit 75: " + named.strip()[-200:]}

    def other_target(self):
        self.need_gpu()
        target = "t4" if self.sm != 75 else "sm_80"
        plan = self.args.work / "other.llcp"
        self.llcc("compile", self.small(), "-o", plan, "--target", target)
        _, _, err = self.llrt("run", plan, "--ids", "5", "-n", 1, "--device", "cuda", expect=69)
        if f"sm_{self.sm}" not in err or ("sm_75" if target == "t4" else "sm_80") not in err:
            raise Failed(f"expected the plan's targets and the device found: {err}")
        return {"summary": err.strip()[-300:]}

    def libraries(self):
        plan = self.plan(self.small(), self.isas()[0], name="small")
        found = self.child("libraries", plan)
        wrong = [l for l in found["libraries"] if NVRTC_LIBRARIES.search(l)]
        if wrong:
            raise Failed(f"loaded while decoding: {', '.join(wrong)}")
        self.llrt("run", plan, "--ids", "5", "-n", 4, "--device", "cuda", env={"CUDA_DISABLE_PTX_JIT": "1", "CUDA_DISABLE_JIT": "1"})
        return {**found, "summary": f"{len(found['libraries'])} libraries, no compiler among them; runs with the driver's JIT disabled"}

    # ---- Large models ----

    def large_plan(self, model, isa):
        return self.args.work / f"{model}-{isa}.llcp"

    def prepare_large(self):
        """In the background: random weights of real shapes, and their plans."""
        try:
            for model in self.args.large:
                source = self.args.work / f"{model}.gguf"
                begin = time.monotonic()
                if not all(self.large_plan(model, isa).exists() for isa in self.isas()) and not source.exists():
                    self.run(sys.executable, HERE / "synth_gguf.py", model, "Q4_K_M", source, until=self.end)
                made = time.monotonic() - begin
                for isa in self.isas():
                    plan = self.large_plan(model, isa)
                    if plan.exists():
                        self.large[model, isa] = plan
                        continue
                    begin = time.monotonic()
                    code, _, err = self.llcc("compile", source, "-o", plan, *self.target(isa), "--ctx-size", DEPTH + 256, "--max-batch",
                                             max(BATCHES), "-q", expect=None, until=self.end)
                    entry = {"model_seconds": round(made, 1), "compile_seconds": round(time.monotonic() - begin, 1)}
                    if code != 0:
                        entry["error"] = err[-1500:]
                    else:
                        self.large[model, isa] = plan
                    self.results.setdefault("large", {})[f"{model} {isa}"] = entry
        except Exception as e:
            self.results.setdefault("large", {})["error"] = f"{type(e).__name__}: {e}"[-1500:]
        finally:
            self.large_done.set()

    def wait_for_large(self):
        self.large_done.wait(max(0, self.left()))
        made = self.results.get("large", {})
        wrong = {k: v for k, v in made.items() if k == "error" or "error" in v}
        if wrong or not self.large_done.is_set():
            raise Failed(f"plans made: {len(self.large)} {json.dumps(wrong)[:1500]}")
        return {"summary": ", ".join(f"{k} {v['compile_seconds']} s" for k, v in made.items())}

    def bench(self, model, isa, *options):
        read = self.results["bandwidth"].get("read_gb_s", 0)
        _, out, _ = self.llrt("bench", self.large[model, isa], "--device", "cuda", "--read-bandwidth", read, "-o", "json", *options)
        rows = json.loads(out)["rows"]
        for row in rows:
            self.results["speed"].append({"model": model, "isa": isa, "options": " ".join(map(str, options)), **row})
        return {row["test"]: row["tokens_per_second"] for row in rows}

    def speed(self, model, isa):
        if (model, isa) not in self.large:
            raise Skipped("no plan")
        rates = self.bench(model, isa, "-p", "512,2048", "-n", 128, "-r", 4)
        decode, prompt = rates["tg128"], rates["pp2048"]
        peer = PEER.get((model, isa))
        against = f" ({decode / peer[0]:.2f}x and {prompt / peer[1]:.2f}x llama.cpp on an H100)" if peer else ""
        return {"summary": f"decode {decode:.1f} tok/s, pp2048 {prompt:.0f} tok/s{against}"}

    def batches(self, model, isa):
        if (model, isa) not in self.large:
            raise Skipped("no plan")
        rates = self.bench(model, isa, "-p", 0, "-n", 32, "-r", 2, "-b", ",".join(map(str, BATCHES)))
        steps = {b: 1e3 * b / rates["tg32" + (f" x{b}" if b > 1 else "")] for b in BATCHES}
        return {"step_ms": steps, "summary": "ms a step: " + ", ".join(f"{b}: {ms:.2f}" for b, ms in steps.items())}

    def depth(self, model, isa):
        if (model, isa) not in self.large:
            raise Skipped("no plan")
        rates = self.bench(model, isa, "-p", 0, "-n", 32, "-r", 2, "-d", DEPTH)
        return {"summary": f"decode {rates[f'tg32 @ d{DEPTH}']:.1f} tok/s after {DEPTH} tokens"}

    def launches(self, model, isa):
        """Where the time goes, kernel by kernel, and what graphs save."""
        if (model, isa) not in self.large:
            raise Skipped("no plan")
        plan = self.large[model, isa]
        bench = ("bench", plan, "--device", "cuda", "-r", 1, "-o", "json")
        _, _, err = self.llrt(*bench, "-p", 512, "-n", 32, "-b", "1,8,32", "--time-launches")
        with open(self.out / "launches.txt", "a") as log:
            log.write(f"==== {model} {isa}\n{err}\n")
        source = self.args.work / f"{model}.gguf"
        if source.exists():
            _, tiles, _ = self.llcc("compile", source, *self.target(isa), "--ctx-size", DEPTH + 256, "--max-batch", max(BATCHES), "--print-tiles")
            with open(self.out / "tiles.txt", "a") as log:
                log.write(f"==== {model} {isa}\n{tiles}\n")
        _, out, _ = self.llrt(*bench, "-p", 0, "-n", 64, "--no-graphs")
        plain = json.loads(out)["rows"][0]["tokens_per_second"]
        return {"plain_tokens_per_second": plain, "summary": f"without graphs decode {plain:.1f} tok/s; launches.txt"}

    def first_output(self, *command):
        """Seconds from the start of a process to its first byte of output."""
        begin = time.monotonic()
        with subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                              start_new_session=True, env=self.environment) as process:
            self.running.add(process)
            try:
                ready, _, _ = select.select([process.stdout], [], [], max(0, self.left()))
                seconds = time.monotonic() - begin
                _, err = process.communicate(timeout=max(1, self.left()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            finally:
                self.running.discard(process)
        if not ready or process.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))}: exit {process.returncode}\n{text_of(err)[-1500:]}")
        return seconds

    def start_up(self, model, isa):
        if (model, isa) not in self.large:
            raise Skipped("no plan")
        plan = self.large[model, isa]
        with open(plan, "rb") as file:  # into the page cache
            while file.read(1 << 26):
                pass
        command = (self.tree / "bin" / "llrt", "run", plan, "--ids", "5", "-n", 2, "--temp", 0, "--ignore-eos", "--device", "cuda")
        seconds = [self.first_output(*command) for _ in range(5)]
        size = plan.stat().st_size
        link = self.results["bandwidth"].get("host_to_device_gb_s")
        upload = size / 1e9 / link if link else float("nan")
        entry = {"model": model, "isa": isa, "seconds": sorted(seconds)[2], "upload_seconds": upload, "limit_seconds": 1.5 * upload + 0.6, "plan_bytes": size}
        self.results["start_up"].append(entry)
        summary = f"{entry['seconds']:.2f} s; upload at the link's rate {upload:.2f} s, limit {entry['limit_seconds']:.2f} s"
        if entry["seconds"] > entry["limit_seconds"]:
            raise Failed(summary)
        return {"summary": summary}

    def sanitizer(self, tool, seconds):
        """As many families as the time allows, with the code that earlier parts compiled."""
        self.need_gpu()
        if shutil.which("compute-sanitizer") is None:
            raise Skipped("no compute-sanitizer on the PATH")
        options = ["--tool", tool, "--error-exitcode", "9", "--print-limit", "5"]
        if tool == "memcheck":
            options += ["--leak-check", "no"]
        done, findings = [], []
        isa = self.isas()[0]
        names = [n for n in self.tests() if n.endswith(isa) and "Numerics" in n]
        plan = self.plan(self.small(), isa, name="small")
        programs = [("llrt run", [self.tree / "bin" / "llrt", "run", plan, "--ids", "5,6,7", "-n", "3", "--temp", "0", "--device", "cuda"])]
        programs += [(n.rsplit("/", 1)[-1], [self.args.check, "--gtest_brief=1", f"--gtest_filter={n}"]) for n in names]
        for name, command in programs:
            try:
                code, out, err = self.run("compute-sanitizer", *options, *command, expect=None, limit=max(10, seconds / 3))
            except subprocess.TimeoutExpired as e:
                text = text_of(e.stdout) + text_of(e.stderr)
                if "ERROR SUMMARY" in text or re.search(r"========= (Invalid|Uninit|Error: Race|Barrier)", text):
                    findings.append(name)
                if self.left() <= 0:
                    break
                continue
            if code == 0:
                done.append(name)
                continue
            findings.append(f"{name} (exit {code})")
            with open(self.out / "sanitizer.log", "a") as log:
                log.write(f"==== {tool} {name}: exit {code}\n{out[-5000:]}{err[-1000:]}\n")
        if findings:
            raise Failed(f"{len(done)} of {len(programs)} programs clean; findings in {', '.join(findings)}")
        return {"clean": done, "summary": f"{len(done)} of {len(programs)} programs within the time, no finding"}

    def all(self):
        """The order: what a later part needs first, then what matters most."""
        self.part("device", 30, self.device)
        if self.results["parts"]["device"]["status"] != "passed":
            return
        threading.Thread(target=self.prepare_large, daemon=True).start()
        self.part("bandwidth", 60, self.bandwidth)
        for isa in self.isas():
            self.part(f"parity {isa}", 60, self.parity, isa)
        for isa in self.isas():
            self.part(f"numerics {isa}", 120, self.numerics, isa)
        for isa in self.isas():
            self.part(f"perplexity {isa}", 90, self.perplexity, isa)
            self.part(f"processor {isa}", 90, self.processor, isa)
        for name in ("fault", "other_target", "libraries"):
            self.part(name, 30, getattr(self, name))
        self.part("large plans", 150, self.wait_for_large)
        self.part("bandwidth", 60, self.bandwidth)  # again: the machine was busy before
        for isa in self.isas():
            for model in self.args.large:
                self.part(f"speed {model} {isa}", 40, self.speed, model, isa)
        for model in self.args.large:
            self.part(f"start-up {model}", 20, self.start_up, model, self.isas()[0])
        for model in self.args.large[:2]:
            self.part(f"launches {model}", 25, self.launches, model, self.isas()[0])
        for model in self.args.large:
            self.part(f"batches {model}", 30, self.batches, model, self.isas()[0])
        seconds = 120 if self.args.only else 30
        for tool in ("memcheck", "racecheck", "synccheck", "initcheck"):
            self.part(f"sanitizer {tool}", seconds, self.sanitizer, tool, seconds)
        for model in self.args.large:
            self.part(f"depth {model}", 20, self.depth, model, self.isas()[0])


# ---- In processes of their own ----


def child_parity(library, plan, reference, bound):
    """Prompts, chunks, single tokens and batches against the reference's logits; greedy answers where they are given."""
    tensors = read_safetensors(reference)
    ids, want = tensors["input_ids"].reshape(-1)[:48], tensors["logits"].reshape(-1, tensors["logits"].shape[-1])[:48]
    model, wrong = library.open(plan, "cuda"), []
    whole = model.session().prefill(ids)
    error = relative_l2(whole, want)
    if not error <= float(bound):
        wrong.append(f"relative L2 {error:.2e}, expected at most {bound}")
    pieces = model.session()
    chunks = np.concatenate([pieces.prefill(part) for part in np.split(ids, (1, 3, 12, 29))])
    if not np.array_equal(chunks, whole):
        wrong.append(f"chunks change bits, relative L2 {relative_l2(chunks, whole):.2e}")
    batch, starts = [model.session() for _ in range(3)], (5, 11, 20)
    for session, start in zip(batch, starts):
        session.prefill(ids[:start])
    for step in range(6):
        rows = model.decode(batch, [ids[start + step] for start in starts])
        expected = np.stack([whole[start + step] for start in starts])
        if not np.array_equal(rows, expected):
            wrong.append(f"a batch changes bits at step {step}, relative L2 {relative_l2(rows, expected):.2e}")
            break
    compared = 0
    if "greedy_ids" in tensors:
        greedy = tensors["greedy_ids"].reshape(-1)
        rms = float(np.sqrt(np.mean((whole.astype(np.float64) - want) ** 2)))
        one = model.session()
        row = one.prefill(greedy[:48])[-1]
        for token in greedy[48:]:
            second, best = np.partition(row, -2)[-2:]
            if best - second < 4 * rms:
                break
            if int(row.argmax()) != int(token):
                wrong.append(f"greedy token {compared} is {int(row.argmax())}, expected {int(token)}")
                break
            compared += 1
            row = model.decode([one], [token])[0]
    return {"relative_l2": error, "greedy": compared, "wrong": wrong}


def child_libraries(library, plan):
    model = library.open(plan, "cuda")
    session = model.session()
    session.prefill([5, 6, 7])
    model.decode([session], [8])
    with open("/proc/self/maps") as maps:
        found = sorted({line.split()[-1] for line in maps if ".so" in line})
    ours = [f for f in found if "python" not in f and "numpy" not in f and "/lib-dynload/" not in f]
    return {"libraries": ours}


CHILDREN = {"parity": child_parity, "libraries": child_libraries}


# ---- The report ----


def markdown(results):
    lines = ["# GPU check", ""]
    device, bandwidth = results.get("device", {}), results["bandwidth"]
    if device:
        lines += [f"{device['name']}, driver {device['driver_version']}, {device['memory.total']}, compute capability {device['compute_cap']}.", ""]
    if bandwidth:
        lines += [f"Streaming read {bandwidth['read_gb_s']:.0f} GB/s, copy {bandwidth['copy_gb_s']:.0f} GB/s (read plus write), "
                  f"pinned host to device {bandwidth['host_to_device_gb_s']:.1f} GB/s.", ""]
    rows = collections.defaultdict(dict)
    for row in results["speed"]:
        rows[row["model"], row["isa"]][row["test"]] = row
    if rows:
        lines += ["| model | instructions | decode tok/s | of read bandwidth | against the peer | pp512 tok/s | pp2048 tok/s | against the peer |",
                  "|---|---|---:|---:|---:|---:|---:|---:|"]
        for (model, isa), tests in rows.items():
            if "tg128" not in tests or "pp2048" not in tests:
                continue
            decode, prompt, short = tests["tg128"], tests["pp2048"]["tokens_per_second"], tests["pp512"]["tokens_per_second"]
            peer = PEER.get((model, isa))
            lines.append(f"| {model} | {isa} | {decode['tokens_per_second']:.1f} | {100 * decode['share_of_read_bandwidth']:.0f} % | "
                         + (f"{decode['tokens_per_second'] / peer[0]:.2f}x" if peer else "") + f" | {short:.0f} | {prompt:.0f} | "
                         + (f"{prompt / peer[1]:.2f}x" if peer else "") + " |")
        lines += ["", "| model | instructions | " + " | ".join(f"{b}" for b in BATCHES) + " |  (ms a step, by batch)", "|---|---|" + "---:|" * len(BATCHES)]
        for (model, isa), tests in rows.items():
            steps = [tests.get("tg32" + (f" x{b}" if b > 1 else "")) for b in BATCHES]
            if all(steps):
                lines.append(f"| {model} | {isa} | " + " | ".join(f"{1e3 * b / s['tokens_per_second']:.2f}" for b, s in zip(BATCHES, steps)) + " |")
        lines.append("")
    lines += ["| part | result | seconds | |", "|---|---|---:|---|"]
    for name, entry in results["parts"].items():
        note = str(entry.get("summary") or entry.get("reason") or "").replace("\n", " ").replace("|", "/")[:400]
        lines.append(f"| {name} | {entry['status']} | {entry.get('seconds', '')} | {note} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=pathlib.Path, default=HERE, help="folder with bin/ and lib/ (default: where this file lies)")
    parser.add_argument("--check", type=pathlib.Path, help="the program gpu_check (default: in the tree)")
    parser.add_argument("--models", type=pathlib.Path, default=HERE / "models", help="reference models")
    parser.add_argument("--large", nargs="*", default=list(LARGE), help="shapes to make and time; none: no speeds")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu-check"), help="folder for the results")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "llcuda-gpu-check", help="folder for plans and models")
    parser.add_argument("--only", nargs="+", help="beginnings of the names of the parts to run (default: all)")
    parser.add_argument("--seconds", type=float, default=1800, help="end by then, whatever is left to do")
    parser.add_argument("--target", help=argparse.SUPPRESS)  # of plans where there is no GPU, for tests of this file
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, *rest = args.child
        print(json.dumps(CHILDREN[name](Library(args.tree / "lib" / "libllrt.so.0"), *rest)))
        return 0
    args.check = args.check or args.tree / "bin" / "gpu_check"
    for folder in (args.out, args.work):
        folder.mkdir(parents=True, exist_ok=True)
    checks = Checks(args)
    checks.all()
    for process in list(checks.running):  # what still runs in the background
        os.killpg(process.pid, signal.SIGKILL)
    checks.write()
    print((args.out / "results.md").read_text())
    statuses = [p["status"] for p in checks.results["parts"].values()]
    sys.stdout.flush()
    os._exit(1 if "failed" in statuses else 0)  # without waiting for the thread in the background


if __name__ == "__main__":
    main()
