"""llcc template: published chat templates byte for byte, every place a template comes from, and its errors."""
import json
import unittest

from support import ROOT, SHARED, Case, run, write_gguf

CASES = SHARED / "chat_templates" / "cases.json"
NOW = "2026-01-02T03:04:05"
CHATML = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}\n{% endfor %}{{ bos_token }}"
INPUT = {"messages": [{"role": "user", "content": " Grüße 🎉 "}], "bos_token": "<s>"}
RENDERED = "<|user|>Grüße 🎉\n<s>"


class Template(Case):
    def render(self, source, value, *options, expect=0):
        path = self.folder / "input.json"
        path.write_text(json.dumps(value))
        return run("llcc", "template", source, "--input", path, "--now", NOW, *options, expect=expect)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @unittest.skipUnless(CASES.is_file(), f"reference templates are not at {CASES.parent}")
    def test_published_cases(self):
        for case in json.loads(CASES.read_text()):
            with self.subTest(template=case["template"], case=case["case"]):
                source = CASES.parent / case["template"]
                if "error" in case:
                    done = self.render(source, case, expect=65)
                    self.assertEqual(done.stderr.decode(), f"llcc: error: {case['error']}\n")
                    self.assertEqual(done.stdout, b"")
                else:
                    self.assertEqual(self.render(source, case).stdout.decode(), case["expected"])

    def test_input_alone_or_in_a_case(self):
        source = self.write("t.jinja", CHATML)
        for value in (INPUT, {"template": "t.jinja", "case": "x", "inputs": INPUT}):
            self.assertEqual(self.render(source, value).stdout.decode(), RENDERED)

    def test_sources(self):
        folder = self.write("hf/tokenizer_config.json", json.dumps({"chat_template": CHATML})).parent
        self.assertEqual(self.render(folder, INPUT).stdout.decode(), RENDERED)
        self.write("hf/chat_template.jinja", "own {{ messages|length }}")
        self.assertEqual(self.render(folder, INPUT).stdout.decode(), "own 1")
        gguf = self.folder / "m.gguf"
        write_gguf(gguf, {"general.architecture": "unheard-of", "tokenizer.chat_template": CHATML}, {})
        self.assertEqual(self.render(gguf, INPUT).stdout.decode(), RENDERED)
        write_gguf(gguf, {"general.architecture": "unheard-of"}, {})
        self.assertIn("holds no chat template", self.render(gguf, INPUT, expect=65).stderr.decode())

    def test_plan(self):
        model = ROOT / "examples" / "kjv-7m-Q8_0.gguf"
        from_model = self.render(model, {**INPUT, "add_generation_prompt": True}).stdout
        from_plan = self.render(self.compile(model), {**INPUT, "add_generation_prompt": True}).stdout
        self.assertEqual(from_plan, from_model)
        self.assertIn("Grüße 🎉", from_model.decode())

    def test_segments(self):
        source = self.write("t.jinja", CHATML)
        result = json.loads(self.render(source, INPUT, "--json").stdout)
        self.assertEqual(result["text"], RENDERED)
        text, pieces, at = RENDERED.encode(), [], 0
        for segment in result["segments"]:
            pieces.append((text[at:at + segment["bytes"]].decode(), segment["trusted"]))
            at += segment["bytes"]
        self.assertEqual(pieces, [("<|", True), ("user", False), ("|>", True), ("Grüße 🎉", False), ("\n<s>", True)])

    def test_errors(self):
        source = self.write("t.jinja", "a\n{% if x %}")
        self.assertIn("line 2: Unexpected end of template.", self.render(source, INPUT, expect=65).stderr.decode())
        source = self.write("t.jinja", "{{ raise_exception('no\u00e9') }}")
        self.assertEqual(self.render(source, INPUT, expect=65).stderr.decode(), "llcc: error: no\u00e9\n")
        source = self.write("t.jinja", "{{ strftime_now('%d %b %Y') }}")
        self.assertEqual(self.render(source, INPUT).stdout.decode(), "02 Jan 2026")
        self.render(source, [1], expect=65)
        self.write("input.json", "{")
        run("llcc", "template", source, "--input", self.folder / "input.json", expect=65)
        run("llcc", "template", source, "--input", self.folder / "absent.json", expect=66)
        run("llcc", "template", self.folder / "absent.jinja", "--input", self.folder / "input.json", expect=66)
        run("llcc", "template", source, expect=64)
        run("llcc", "template", source, "--input", self.folder / "input.json", "--now", "yesterday", expect=64)


if __name__ == "__main__":
    unittest.main()
