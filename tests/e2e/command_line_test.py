"""Help, exit codes and machine-readable errors of both programs."""
import json
import signal
import subprocess
import time
import unittest

from support import BUILD, BUNDLED, SHARED, Case, need_shared, read_safetensors, run

COMMANDS = {"llcc": ["compile", "opt", "execute", "inspect", "explain", "tokenize"],
            "llrt": ["run", "bench", "logits", "perplexity", "verify", "doctor"]}


class CommandLine(Case):
    def test_every_command_has_help(self):
        for program, commands in COMMANDS.items():
            overview = run(program, "--help").stdout.decode()
            self.assertRegex(run(program, "--version").stdout.decode(), r"\d+\.\d+\.\d+")
            for command in commands:
                with self.subTest(f"{program} {command}"):
                    self.assertIn(command, overview)
                    self.assertGreater(len(run(program, command, "--help").stdout), 100)

    def test_usage_errors_exit_64(self):
        for args in ([], ["nonsense"], ["compile"], ["compile", "x", "--no-such-option"], ["compile", "x", "-o", "y", "--kv-type", "q3"]):
            with self.subTest(args):
                run("llcc", *args, expect=64)

    def test_errors_as_json(self):
        done = run("llcc", "compile", "/nonexistent.gguf", "-o", self.folder / "x", "--error-format", "json", expect=66)
        error = json.loads(done.stderr.decode().strip().splitlines()[-1])["error"]
        self.assertEqual(error["code"], 66)
        self.assertIn("/nonexistent.gguf", error["message"])

    def test_output_into_a_missing_folder_exits_73(self):
        run("llcc", "compile", BUNDLED, "-o", self.folder / "no" / "such" / "x.llcp", expect=73)

    def test_targets_of_later_versions_are_named(self):
        done = run("llcc", "compile", BUNDLED, "-o", self.folder / "x.llcp", "--target", "sm_61", expect=69)
        self.assertIn(b"cpu", done.stderr)

    def test_facts_as_json(self):
        plan = self.compile(BUNDLED)
        for program, *args in (("llcc", "inspect", BUNDLED, "--json"), ("llcc", "inspect", plan, "--json"),
                               ("llcc", "explain", plan, "--json"), ("llrt", "doctor", plan, "--json"),
                               ("llrt", "run", plan, "-p", "In", "-n", 2, "--json"),
                               ("llrt", "bench", plan, "-p", 16, "-n", 4, "-r", 1, "-o", "json")):
            with self.subTest(args):
                json.loads(run(program, *args).stdout)

    def test_placement_changes_no_output(self):
        plan = self.compile(BUNDLED)
        outputs = {run("llrt", "run", plan, "-p", "In", "-n", 4, "--temp", 0, *options).stdout
                   for options in ((), ("--numa", "auto"), ("--numa", "off"), ("--numa", "off", "-t", 1))}
        self.assertEqual(len(outputs), 1)
        self.assertIn("numa_placement", json.loads(run("llrt", "doctor", "--json").stdout)["machine"])
        for node in ("left", "9999", "-1"):
            run("llrt", "run", plan, "-p", "In", "-n", 4, f"--numa={node}", expect=64)

    def test_benchmark_of_prompts_and_generation_together(self):
        plan = self.compile(BUNDLED)
        done = run("llrt", "bench", plan, "-p", 0, "-n", 0, "--pg", "16,4,20,2", "-b", "1,3", "-r", 1, "-o", "json")
        rows = json.loads(done.stdout)["rows"]
        self.assertEqual([row["test"] for row in rows], ["pp16+tg4", "pp16+tg4 x3", "pp20+tg2", "pp20+tg2 x3"])
        for row in rows:
            self.assertGreater(row["tokens_per_second"], 0)
        # A session's prompt and steps move what they move alone; three sessions share the weights of decode steps alone.
        alone = {row["test"]: row["bytes"] for row in json.loads(
            run("llrt", "bench", plan, "-p", 16, "-n", 4, "-r", 1, "-o", "json").stdout)["rows"]}
        self.assertGreaterEqual(rows[0]["bytes"], alone["pp16"] + alone["tg4"])
        self.assertLess(rows[1]["bytes"], 3 * rows[0]["bytes"])
        for wrong in ("16", "16,4,8", "0,4", "16,-1"):
            with self.subTest(wrong):
                run("llrt", "bench", plan, "--pg", wrong, expect=64)

    def test_text_streams_to_stdout_and_the_rest_to_stderr(self):
        plan = self.compile(BUNDLED)
        done = run("llrt", "run", plan, "-p", "In the beginning", "-n", 16, "--temp", 0)
        self.assertNotIn(b"tok", done.stdout)
        self.assertIn(b"tok", done.stderr)
        same = run("llrt", "run", plan, "-n", 16, "--temp", 0, stdin=b"In the beginning")
        self.assertEqual(done.stdout, same.stdout)
        a, b = (run("llrt", "run", plan, "-p", "And", "-n", 16, "--temp", 1, "--seed", s).stdout for s in (5, 5))
        self.assertEqual(a, b)

    def test_control_c_stops_cleanly(self):
        plan = self.compile(BUNDLED)
        process = subprocess.Popen([BUILD / "llrt", "run", plan, "-p", "And", "-n", "1000000", "--ignore-eos"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)
        self.assertIn(process.returncode, (0, 130))  # 0: the context filled up first
        self.assertGreater(len(out), 0)

    def test_export_of_a_tensor(self):
        out = self.folder / "t.safetensors"
        run("llcc", "inspect", BUNDLED, "--tensor", "output_norm.weight", "-o", out)
        self.assertEqual(read_safetensors(out)["output_norm.weight"].shape, (256,))


@need_shared
class Tokenize(Case):
    def test_vocabularies(self):
        for path in sorted((SHARED / "vocabs").glob("*.gguf")):
            texts = path.with_name(path.name + ".inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
            expected = path.with_name(path.name + ".out").read_text().split("\n")
            for text, ids in list(zip(texts, expected))[::5]:
                with self.subTest(f"{path.name} {text[:20]}"):
                    got = run("llcc", "tokenize", path, stdin=text).stdout.decode().split()
                    self.assertEqual(got, ids.split())


if __name__ == "__main__":
    unittest.main()
