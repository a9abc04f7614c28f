#!/usr/bin/env python3
"""Lints the tree: who includes whom, formatting, and words that must not appear. Exits 1 with one line a finding.

The include table is ARCHITECTURE.md's: a folder may include itself and what its row lists, nothing else of ours.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = ["runtime/base"]
TYPES = ["kernels/type.h", "kernels/kernel.h", "kernels/kv_layout.h"]
RUNTIME = BASE + ["kernels", "schemas", "runtime/text"]
# folder -> what of ours it may include (folders or single files); the longest matching folder counts
MAY_INCLUDE = {
    "runtime/base": [],
    "runtime/text": BASE + ["schemas"],
    "kernels": BASE,
    "ir": BASE + TYPES + ["kernels/quant/formats.h", "kernels/quant/layouts.h", "kernels/quant/q8a.h"],
    "runtime/plan": RUNTIME,
    "runtime/sampling": BASE,
    "runtime/device": RUNTIME + ["runtime/plan", "runtime/sampling"],
    "runtime/engine": RUNTIME + ["runtime/plan", "runtime/sampling", "runtime/device"],
    "runtime/serve": RUNTIME + ["runtime/plan", "runtime/sampling", "runtime/device", "runtime/engine"],
    "runtime/load": BASE,
    "runtime/api": RUNTIME + ["runtime/plan", "runtime/sampling", "runtime/device", "runtime/engine", "include"],
    "compiler/frontend": RUNTIME + ["ir", "runtime/plan"],
    "compiler/passes": BASE + ["kernels", "ir"],
    "compiler": RUNTIME + ["ir", "runtime/plan", "compiler"],
    "include": [],
    "tools/llrt": ["include", "runtime/base", "runtime/serve/server.h", "runtime/load/load.h",
                   "tools/command_line.h", "tools/report.h"],
    "tools/llcc": RUNTIME + ["ir", "runtime/plan", "runtime/device", "compiler", "tools/command_line.h",
                             "tools/report.h"],
    "tools": BASE,
    "cmake": [],
    "examples": ["include"],
    "tests": RUNTIME + ["ir", "runtime/plan", "runtime/sampling", "runtime/device", "runtime/engine", "runtime/api",
                        "compiler", "include"],
}
OURS = re.compile(r'^\s*#\s*include\s+"((?:runtime|kernels|ir|compiler|schemas|tools|tests|include)/[^"]+)"', re.M)
PUBLIC = re.compile(r'^\s*#\s*include\s+[<"](llrt\.h(?:pp)?)[>"]', re.M)
FORBIDDEN = {
    r"-ffast-math": "fast-math changes results from compiler to compiler",
}


# What a CUDA source (outside prim/) may hold: words of prim/ and other sources of its folder, no instructions.
DEVICE_INCLUDE = re.compile(r'^\s*#\s*include\s+(\S+)', re.M)


def under(path, folder):
    return path == folder or path.startswith(folder + "/")


def row_of(path):
    rows = [folder for folder in MAY_INCLUDE if under(path, folder)]
    return max(rows, key=len) if rows else None


def includes(path, text, findings):
    row = row_of(path)
    if row is None:
        findings.append(f"{path}: no row for this folder in tools/lint.py")
        return
    is_test = re.search(r"_(test|fuzz|bench)\.cc$", path)
    for match in list(OURS.finditer(text)) + list(PUBLIC.finditer(text)):
        target = match.group(1)
        if target.startswith("llrt."):
            target = "include/" + target
        if under(target, row) or any(under(target, allowed) for allowed in MAY_INCLUDE[row]):
            continue
        if is_test and under(target, "tests"):
            continue
        line = text.count("\n", 0, match.start(1)) + 1
        findings.append(f'{path}:{line}: {row}/ may not include "{target}"')


def device_source(path, text, findings):
    for match in re.finditer(r"\basm\b", text):
        line = text.count("\n", 0, match.start()) + 1
        findings.append(f"{path}:{line}: inline assembly, expected it in kernels/cuda/prim/ alone, with a host version")
    for match in DEVICE_INCLUDE.finditer(text):
        if not re.fullmatch(r'"(prim/\w+|\w+)\.(cuh|h)"', match.group(1)):
            line = text.count("\n", 0, match.start()) + 1
            findings.append(f"{path}:{line}: includes {match.group(1)}, expected prim/ or a source beside it")


def main():
    findings = []
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    files = listed.stdout.split() if listed.returncode == 0 else [
        str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file() and "build" not in p.parts]
    sources = [f for f in files if re.search(r"\.(cc|h|hpp|c|cuh)$", f) and (ROOT / f).exists()]
    for path in sources:
        text = (ROOT / path).read_text(encoding="utf-8")
        includes(path, text, findings)
        if path.endswith(".cuh") and not under(path, "kernels/cuda/prim"):
            device_source(path, text, findings)
        for pattern, reason in FORBIDDEN.items():
            for match in re.finditer(pattern, text):
                findings.append(f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match.group(0)}: {reason}")
        if path.endswith((".h", ".hpp", ".cuh")) and "#pragma once" not in text and "#ifndef" not in text:
            findings.append(f"{path}: no include guard")
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text):
            findings.append(f"{path}: finish it, or make it an error that a user can understand")
    formatter = next((name for name in ("clang-format-14", "clang-format") if subprocess.run(
        ["sh", "-c", f"command -v {name}"], capture_output=True).returncode == 0), None)
    if formatter is None:
        print("lint: clang-format is missing, formatting not checked", file=sys.stderr)
    else:
        for start in range(0, len(sources), 50):
            run = subprocess.run([formatter, "--dry-run", "-Werror", *sources[start:start + 50]], cwd=ROOT,
                                 capture_output=True, text=True)
            findings += sorted({line.split(": error:")[0] + ": not formatted (clang-format -i)"
                                for line in run.stderr.splitlines() if "error:" in line})
    for finding in findings:
        print(finding)
    print(f"lint: {len(sources)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
