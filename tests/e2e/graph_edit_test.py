"""The graph is what runs: layers reordered, dropped or doubled in the printed text change the plan accordingly."""
import re
import unittest

import numpy as np

from support import Case, RandomModel, read_safetensors, relative_l2, run, write_safetensors


class EditedGraph(Case):
    def setUp(self):
        super().setUp()
        self.model = RandomModel(layers=3, seed=11)
        self.source = self.model.write_hf(self.folder / "hf")
        self.text = run("llcc", "compile", self.source, "--emit", "ir", "--kv-type", "f32").stdout.decode()
        self.ids = np.random.default_rng(1).integers(0, self.model.vocab, 40)

    def both(self, text):
        """Logits of the edited graph from a compiled plan and from the graph executor."""
        graph = self.folder / "edited.llir"
        graph.write_text(text)
        plan = self.folder / "edited.llcp"
        run("llcc", "compile", graph, "--weights", self.source, "-o", plan, "--reference-kernels")
        ids, out = self.folder / "i.safetensors", self.folder / "o.safetensors"
        write_safetensors(ids, {"input_ids": self.ids.astype(np.int32)})
        run("llcc", "execute", graph, "--weights", self.source, "--ids", ids, "-o", out)
        return self.logits(plan, self.ids), read_safetensors(out)["logits"]

    def check(self, text, want):
        planned, executed = self.both(text)
        self.assertLessEqual(relative_l2(planned, executed), 1e-6)
        self.assertLessEqual(relative_l2(planned, want), 1e-5)

    def swap_names(self, a, b):
        """The graph with the weights of layers a and b exchanged: what reordering two layers means."""
        text = re.sub(rf'"blk\.{a}\.', '"blk.@.', self.text)
        text = re.sub(rf'"blk\.{b}\.', f'"blk.{a}.', text)
        return text.replace('"blk.@.', f'"blk.{b}.')

    def permuted(self, order):
        """The model with its layers in another order, from the oracle."""
        other = RandomModel(layers=3, seed=11)
        for to, source in enumerate(order):
            for name, value in self.model.weights.items():
                if name.startswith(f"model.layers.{source}."):
                    other.weights[name.replace(f"layers.{source}.", f"layers.{to}.")] = value
        other.layers = len(order)
        return other.logits(self.ids)

    def test_unchanged(self):
        self.check(self.text, self.model.logits(self.ids))

    def test_reordered(self):
        self.check(self.swap_names(0, 2), self.permuted([2, 1, 0]))

    def blocks(self):
        """Lines of the text split into head, one list a layer, and tail, with the residual each layer reads and returns."""
        lines = self.text.splitlines()
        of_layer = [re.search(r'"blk\.(\d+)\.', line) for line in lines]
        adds = [i for i, line in enumerate(lines) if re.match(r"\s*%\S+ = add ", line)]
        self.assertEqual(len(adds), 6, "two residual additions a layer")
        ends = [adds[1], adds[3], adds[5]]
        residual = [re.match(r"\s*(%\S+) = add ", lines[i]).group(1) for i in ends]
        embed = next(i for i, line in enumerate(lines) if " = embed " in line)
        return lines, ends, residual, re.match(r"\s*(%\S+) = embed ", lines[embed]).group(1), of_layer

    def test_dropped(self):
        lines, ends, residual, _, _ = self.blocks()
        # the third layer's readers take the first layer's result; the second layer is dead and is removed
        tail = [re.sub(rf"{re.escape(residual[1])}(?![\w.])", residual[0], line) for line in lines[ends[1] + 1:]]
        self.check("\n".join(lines[:ends[1] + 1] + tail) + "\n", self.permuted([0, 2]))

    def test_doubled(self):
        lines, ends, residual, _, _ = self.blocks()
        layer = lines[ends[0] + 1:ends[1] + 1]
        copies = []
        defined = {m for line in layer for m in re.findall(r"%[\w.]+", line.split(" = ")[0]) if " = " in line}
        for line in layer:
            if " = weight " in line or " = constant " in line:
                continue
            line = re.sub(r"%[\w.]+", lambda m: m.group(0) + ".again" if m.group(0) in defined and not self.is_weight(layer, m.group(0))
                          else (residual[1] if m.group(0) == residual[0] else m.group(0)), line)
            copies.append(re.sub(r"kv_cache \{index = \d+\}", "kv_cache {index = 77}", line))
        again = residual[1] + ".again"
        tail = [re.sub(rf"{re.escape(residual[1])}(?![\w.])", again, line) for line in lines[ends[1] + 1:]]
        self.check("\n".join(lines[:ends[1] + 1] + copies + tail) + "\n", self.permuted([0, 1, 1, 2]))

    @staticmethod
    def is_weight(layer, name):
        return any(re.match(rf"\s*{re.escape(name)} = (weight|constant) ", line) for line in layer)

    def test_broken_graphs_are_refused_with_a_place(self):
        for old, new in ((" = rms_norm ", " = rms_morn "), ("eps = ", "epsilon = "), ("f32[T,64]", "f32[T,63]"), ("return %", "return %no.")):
            with self.subTest(new):
                graph = self.folder / "bad.llir"
                graph.write_text(self.text.replace(old, new, 1))
                done = run("llcc", "compile", graph, "--weights", self.source, "-o", self.folder / "x.llcp", expect=65)
                self.assertRegex(done.stderr.decode(), r"bad\.llir")


if __name__ == "__main__":
    unittest.main()
