"""What the end-to-end tests share: running the programs, safetensors and GGUF files, small random models."""
import functools
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("LLCUDA_BUILD", ROOT / "build" / "release"))
SHARED = pathlib.Path(os.environ.get("LLCUDA_SHARED", ROOT.parent / "shared"))
BUNDLED = ROOT / "examples" / "kjv-7m-Q8_0.gguf"


def need_shared(test):
    """Skips a test class or method where the reference material is not at hand."""
    return unittest.skipUnless((SHARED / "models").is_dir(), f"reference models are not at {SHARED}")(test)


def run(program, *args, stdin=None, expect=0, timeout=600, env=None):
    """Runs llcc or llrt and returns the finished process; fails unless it exits with `expect` (None: any)."""
    command = [str(BUILD / program), *map(str, args)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, env=env)
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"{' '.join(command)}\nexit {done.returncode}, expected {expect}\n"
                             f"{done.stdout.decode(errors='replace')[-2000:]}{done.stderr.decode(errors='replace')[-2000:]}")
    return done


@functools.cache
def best_isa():
    return json.loads(run("llrt", "doctor", "--json").stdout)["machine"]["best_isa"]


def bf16_levels(bound, rounded=2e-2):
    """[(level, largest relative L2 of logits)] for bf16 weights: the best level here, and the one below where the best rounds
    tokens to bf16 too."""
    return [("amx", rounded), ("avx512-vnni", bound)] if best_isa() == "amx" else [(best_isa(), bound)]


class Case(unittest.TestCase):
    """A test with a scratch folder."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="llcuda-test-"))
        self.addCleanup(shutil.rmtree, self.folder, True)

    def compile(self, model, *options, name="model.llcp"):
        plan = self.folder / name
        run("llcc", "compile", model, "-o", plan, *options)
        return plan

    def logits(self, plan, ids, *options):
        source, result = self.folder / "ids.safetensors", self.folder / "logits.safetensors"
        write_safetensors(source, {"input_ids": np.asarray(ids, np.int32)})
        run("llrt", "logits", plan, "--ids", source, "-o", result, *options)
        return read_safetensors(result)["logits"]

    def perplexity(self, plan, text, *options):
        return json.loads(run("llrt", "perplexity", plan, "-f", text, "--json", *options).stdout)["perplexity"]


def relative_l2(got, want):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U8": np.uint8}


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        raw = data[8 + size + begin:8 + size + end]
        if info["dtype"] == "BF16":
            out[name] = bf16_values(np.frombuffer(raw, np.uint16)).reshape(info["shape"])
        else:
            out[name] = np.frombuffer(raw, DTYPES[info["dtype"]]).reshape(info["shape"])
    return out


def bf16_values(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bf16(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path, tensors, bf16=False):
    header, blobs, at = {}, [], 0
    for name, value in tensors.items():
        value = np.ascontiguousarray(value)
        if bf16 and value.dtype == np.float32:
            raw, dtype = to_bf16(value).tobytes(), "BF16"
        else:
            raw, dtype = value.tobytes(), {np.dtype(t): n for n, t in DTYPES.items()}[value.dtype]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [at, at + len(raw)]}
        blobs.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def _string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value):
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, list) and isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
    array = np.asarray(value)
    kind = {np.dtype(np.float32): 6, np.dtype(np.int32): 5}[array.dtype]
    return struct.pack("<IIQ", 9, kind, array.size) + array.tobytes()


GGML = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}


def write_gguf(path, metadata, tensors, version=3):
    """tensors: name -> (ggml type id, shape slowest first, bytes)."""
    out = bytearray(b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata)))
    for key, value in metadata.items():
        out += _string(key) + _value(value)
    at = 0
    for name, (kind, shape, raw) in tensors.items():
        out += _string(name) + struct.pack("<I", len(shape))
        out += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", kind, at)
        at += -(-len(raw) // 32) * 32
    out += b"\0" * (-len(out) % 32)
    header_size = len(out)
    for _, _, raw in tensors.values():
        out += raw + b"\0" * (-len(raw) % 32)
    pathlib.Path(path).write_bytes(out)
    return header_size


def quantize_q8_0(values):
    """ggml's q8_0: per 32 values an f16 scale max|x| / 127 and 32 signed bytes."""
    blocks = np.asarray(values, np.float32).reshape(-1, 32)
    scale = np.abs(blocks).max(1, keepdims=True) / 127
    codes = np.where(scale > 0, np.rint(blocks / np.where(scale > 0, scale, 1)), 0).astype(np.int8)
    return np.concatenate([scale.astype(np.float16).view(np.uint8), codes.view(np.uint8)], 1).tobytes()


HF_TO_GGUF = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    if name in HF_TO_GGUF:
        return HF_TO_GGUF[name]
    _, _, layer, rest = name.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{HF_TO_GGUF[module]}.{kind}"


class RandomModel:
    """A random model of the dense-decoder families and its logits in float64: an oracle that shares no code with ours.

    Follows transformers' modeling_llama / modeling_qwen2 / modeling_mistral (eager attention).
    """

    def __init__(self, seed=0, hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=96, vocab=128, family="llama",
                 tied=False, bias=False, theta=10000.0, eps=1e-5, window=0):
        self.__dict__.update({k: v for k, v in locals().items() if k != "self"})
        rng = np.random.default_rng(seed)

        def matrix(n, k):
            return bf16_values(to_bf16((rng.standard_normal((n, k)) / np.sqrt(k)).astype(np.float32)))

        def vector(n, around=0.0):
            return bf16_values(to_bf16((around + 0.2 * rng.standard_normal(n)).astype(np.float32)))

        self.weights = {"model.embed_tokens.weight": matrix(vocab, hidden) * np.float32(8), "model.norm.weight": vector(hidden, 1)}
        if not tied:
            self.weights["lm_head.weight"] = matrix(vocab, hidden) * np.float32(4)
        for i in range(layers):
            p = f"model.layers.{i}."
            self.weights[p + "input_layernorm.weight"] = vector(hidden, 1)
            self.weights[p + "post_attention_layernorm.weight"] = vector(hidden, 1)
            for name, n, k in (("self_attn.q_proj", heads * head_dim, hidden), ("self_attn.k_proj", kv_heads * head_dim, hidden),
                               ("self_attn.v_proj", kv_heads * head_dim, hidden), ("self_attn.o_proj", hidden, heads * head_dim),
                               ("mlp.gate_proj", ffn, hidden), ("mlp.up_proj", ffn, hidden), ("mlp.down_proj", hidden, ffn)):
                self.weights[p + name + ".weight"] = matrix(n, k)
                if bias and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                    self.weights[p + name + ".bias"] = vector(n)

    def config(self):
        cls = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "mistral": "MistralForCausalLM"}[self.family]
        config = {"architectures": [cls], "model_type": self.family, "hidden_size": self.hidden, "num_hidden_layers": self.layers,
                  "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim,
                  "intermediate_size": self.ffn, "vocab_size": self.vocab, "rms_norm_eps": self.eps, "rope_theta": self.theta,
                  "max_position_embeddings": 512, "tie_word_embeddings": self.tied, "hidden_act": "silu",
                  "bos_token_id": 1, "eos_token_id": 2}
        if self.window:
            config["sliding_window"] = self.window
        return config

    def write_hf(self, folder, shards=1):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config()))
        names = list(self.weights)
        if shards == 1:
            write_safetensors(folder / "model.safetensors", self.weights, bf16=True)
            return folder
        index = {}
        for i in range(shards):
            part = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            mine = {n: self.weights[n] for n in names[i::shards]}
            write_safetensors(folder / part, mine, bf16=True)
            index.update({n: part for n in mine})
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
        return folder

    def gguf_parts(self, kind="f16"):
        """Metadata and tensors as llama.cpp's converter lays them out: q and k of llama permuted for interleaved rope."""
        arch = {"mistral": "llama"}.get(self.family, self.family)
        meta = {"general.architecture": arch, "general.name": "random", f"{arch}.vocab_size": self.vocab,
                f"{arch}.context_length": 512, f"{arch}.embedding_length": self.hidden, f"{arch}.block_count": self.layers,
                f"{arch}.feed_forward_length": self.ffn, f"{arch}.attention.head_count": self.heads,
                f"{arch}.attention.head_count_kv": self.kv_heads, f"{arch}.attention.key_length": self.head_dim,
                f"{arch}.attention.value_length": self.head_dim, f"{arch}.rope.dimension_count": self.head_dim,
                f"{arch}.attention.layer_norm_rms_epsilon": self.eps, f"{arch}.rope.freq_base": self.theta,
                "tokenizer.ggml.model": "no_vocab"}
        if self.window:
            meta[f"{arch}.attention.sliding_window"] = self.window
        tensors = {}
        for name, value in self.weights.items():
            if arch == "llama" and ("q_proj" in name or "k_proj" in name):
                heads = value.shape[0] // self.head_dim
                value = value.reshape(heads, 2, self.head_dim // 2, -1).swapaxes(1, 2).reshape(value.shape)
            if value.ndim == 1:
                tensors[gguf_name(name)] = (0, value.shape, value.astype(np.float32).tobytes())
            elif kind == "q8_0":
                tensors[gguf_name(name)] = (8, value.shape, quantize_q8_0(value))
            elif kind == "bf16":
                tensors[gguf_name(name)] = (30, value.shape, to_bf16(value).tobytes())
            else:
                tensors[gguf_name(name)] = (1, value.shape, value.astype(np.float16).tobytes())
        return meta, tensors

    def write_gguf(self, path, kind="f16", version=3):
        return write_gguf(path, *self.gguf_parts(kind), version=version)

    def logits(self, ids):
        w = {k: v.astype(np.float64) for k, v in self.weights.items()}
        t, d, group = len(ids), self.head_dim, self.heads // self.kv_heads

        def norm(x, weight):
            return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * weight

        inv = (1.0 / np.float32(self.theta) ** (np.arange(0, d, 2, dtype=np.float32) / np.float32(d))).astype(np.float32)
        angle = (np.arange(t, dtype=np.float32)[:, None] * inv[None]).astype(np.float64)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]

        def rope(x):
            a, b = x[..., :d // 2], x[..., d // 2:]
            return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

        position = np.arange(t)
        visible = position[None] <= position[:, None]
        if self.window:
            visible &= position[None] > position[:, None] - self.window
        x = w["model.embed_tokens.weight"][np.asarray(ids)]
        for i in range(self.layers):
            p = f"model.layers.{i}."

            def linear(h, name):
                return h @ w[p + name + ".weight"].T + w.get(p + name + ".bias", 0.0)

            h = norm(x, w[p + "input_layernorm.weight"])
            q = rope(linear(h, "self_attn.q_proj").reshape(t, self.heads, d))
            k = rope(linear(h, "self_attn.k_proj").reshape(t, self.kv_heads, d)).repeat(group, 1)
            v = linear(h, "self_attn.v_proj").reshape(t, self.kv_heads, d).repeat(group, 1)
            scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(d)
            scores = np.where(visible[None], scores, -np.inf)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            x = x + linear(np.einsum("hqk,khd->qhd", scores, v).reshape(t, -1), "self_attn.o_proj")
            h = norm(x, w[p + "post_attention_layernorm.weight"])
            gate = linear(h, "mlp.gate_proj")
            x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, "mlp.up_proj"), "mlp.down_proj")
        head = w["model.embed_tokens.weight" if self.tied else "lm_head.weight"]
        return norm(x, w["model.norm.weight"]) @ head.T
