#!/usr/bin/env python3
"""Measures llrt and its peers on the same GGUF files with the same threads, in turns, and prints a table in Markdown.

Peers are programs with llama-bench's options: --peer NAME=PROGRAM (several), else llama-bench on the PATH. Every round runs
each program once for each file, in turn, so that what else the machine does falls on all of them; the medians are printed.
Streaming read is measured by llrt bench between the repetitions of each row, and shares are of that.

  tools/bench-peers.sh --bin build/release --peer llama.cpp=$HOME/llama.cpp/build/bin/llama-bench model-Q4_K_M.gguf
"""
import argparse
import json
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

EXTRA = {"q8": ["-ctk", "q8_0", "-ctv", "q8_0", "-fa", "1"], "f16": ["-fa", "1"]}


def say(text):
    print(text, file=sys.stderr, flush=True)


def output_of(command):
    say("  " + " ".join(map(str, command)))
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


class Ours:
    """llrt at one instruction set level (None: the best)."""

    def __init__(self, arguments, folder, isa):
        self.arguments, self.folder, self.isa = arguments, folder, isa
        self.name = "llrt" if isa is None else f"llrt {isa}"
        self.bandwidths, self.facts = [], {}

    def plan_of(self, model):
        plan = self.folder / (model.stem + ".llcp")
        if not plan.exists():
            a = self.arguments
            context = a.depth + a.prompt + a.generate + 64
            output_of([a.bin / "llcc", "compile", model, "-o", plan, "-q", "--kv-type", a.kv_type, "--ctx-size", context,
                       "--max-batch", max(a.batch, 1)])
        return plan

    def bench(self, model, *options):
        a = self.arguments
        level = [] if self.isa is None else ["--isa", self.isa]
        facts = json.loads(output_of([a.bin / "llrt", "bench", self.plan_of(model), "-t", a.threads, "-r", 1, "-o", "json",
                                      *level, *options]))
        self.bandwidths.append(facts["read_bandwidth_gb_s"])
        self.facts[model] = facts
        return facts["rows"]

    def run(self, model):
        a, rows = self.arguments, {}
        runs = [("-p", a.prompt, "-n", a.generate)]
        if a.batch > 1:
            runs.append(("-p", 0, "-n", a.generate, "-b", a.batch))
        if a.depth > 0:
            runs.append(("-p", 0, "-n", a.generate, "-d", a.depth))
        for options in runs:
            for row in self.bench(model, *options):
                rows[row["test"]] = (row["tokens_per_second"], row["share_of_read_bandwidth"])
        return rows


class Peer:
    """A program with llama-bench's options and CSV."""

    def __init__(self, arguments, name, program):
        self.arguments, self.name, self.program = arguments, name, program

    def bench(self, model, *options):
        a = self.arguments
        text = output_of([self.program, "-m", model, "-t", a.threads, "-r", 1, "-o", "json", *EXTRA[a.kv_type], *options])
        return json.loads(text[text.index("["):])

    def run(self, model):
        a, rows = self.arguments, {}
        for row in self.bench(model, "-p", a.prompt, "-n", a.generate):
            name = f"pp{row['n_prompt']}" if row["n_prompt"] > 0 else f"tg{row['n_gen']}"
            rows[name] = (row["avg_ts"], None)
        return rows


def machine(arguments, ours):
    cpu = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())
    facts = next(iter(ours.facts.values()), {})
    return (f"{cpu}, {arguments.threads} threads, {facts.get('isa', '?')}, KV {arguments.kv_type}, medians of {arguments.rounds} "
            f"rounds in turns; streaming read {statistics.median(ours.bandwidths):.1f} GB/s measured in the same runs.")


def table(results, programs):
    """Lines of Markdown from {model: {program: {test: [(tokens/s, share of the read bandwidth)]}}}."""
    lines = ["| model | test | " + " | ".join(f"{p.name}, tokens/s" for p in programs) + " | of streaming read | " +
             " | ".join(f"against {p.name}" for p in programs[1:]) + " |",
             "|---|---|" + "---:|" * (2 * len(programs))]
    for model, by_program in results.items():
        tests = list(by_program[programs[0].name])
        for index, test in enumerate(tests):
            rates = [statistics.median(r for r, _ in by_program[p.name][test]) if test in by_program[p.name] else None
                     for p in programs]
            of_read = statistics.median(s for _, s in by_program[programs[0].name][test])
            share = f"{100 * of_read:.0f} %" if test.startswith("tg") else ""
            lines.append("| " + " | ".join([model.stem if index == 0 else "", test, *(f"{r:.1f}" if r else "" for r in rates),
                                            share, *(f"{rates[0] / r:.2f}x" if r else "" for r in rates[1:])]) + " |")
    return lines


def arguments_of(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path, metavar="MODEL.gguf")
    parser.add_argument("--bin", type=pathlib.Path, default=None, help="folder of llcc and llrt (default: on the PATH)")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PROGRAM")
    parser.add_argument("--isa", action="append", default=[], help="our levels too, the first column: the best (several)")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--generate", type=int, default=32)
    parser.add_argument("-b", "--batch", type=int, default=8, help="sessions of our batch row; 1: no such row")
    parser.add_argument("-d", "--depth", type=int, default=0, help="our row at that depth; 0: no such row")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--kv-type", choices=sorted(EXTRA), default="f16")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="file for the table (default: stdout)")
    a = parser.parse_args(words)
    for model in a.models:
        if not model.is_file():
            parser.error(f"{model} is no file")
    if a.bin is None:
        found = shutil.which("llrt")
        if found is None:
            parser.error("llrt is not on the PATH: name its folder with --bin")
        a.bin = pathlib.Path(found).parent
    if not a.peer and shutil.which("llama-bench"):
        a.peer = ["llama.cpp=" + shutil.which("llama-bench")]
    for peer in a.peer:
        if not re.fullmatch(r"[^=]+=.+", peer):
            parser.error(f"--peer is '{peer}', expected NAME=PROGRAM")
    return a


def main(words):
    a = arguments_of(words)
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as folder:
        ours = [Ours(a, pathlib.Path(folder), isa) for isa in [None, *a.isa]]
        programs = ours + [Peer(a, *peer.split("=", 1)) for peer in a.peer]
        results = {model: {p.name: {} for p in programs} for model in a.models}
        for number in range(a.rounds):
            for model in a.models:
                say(f"round {number + 1} of {a.rounds}, {model.name}")
                for program in programs:
                    for test, values in program.run(model).items():
                        results[model][program.name].setdefault(test, []).append(values)
        text = "\n".join([machine(a, ours[0]), "", *table(results, programs)]) + "\n"
    if a.output:
        a.output.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
