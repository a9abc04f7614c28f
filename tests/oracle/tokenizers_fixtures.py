#!/usr/bin/env python3
"""Trains small tokenizers with Hugging Face's `tokenizers` in the styles of well-known model families and writes each with
cases: texts, their ids and what decoding gives.

  tests/oracle/tokenizers_fixtures.py OUT_DIR [--cases N] [--seed S] [--corpus FILE]

writes OUT_DIR/NAME.tokenizer.json and OUT_DIR/NAME.cases.json. tests/data/tokenizers was made with the defaults and tokenizers 0.23;
larger runs with other seeds serve to look for differences (LLCUDA_TOKENIZER_FIXTURES in compiler/frontend/tokenizer_json_test.cc).
"""

import argparse
import json
import pathlib
import random
import struct

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK3 = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
             r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
             r"|\s*[\r\n]+|\s+(?!\S)|\s+"]
CORPUS = """In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was upon
the face of the deep. And the Spirit of God moved upon the face of the waters. And God said, Let there be light: and there was
light. I'll we've they're don't can't 1 12 123 1234 2024. def main(argc, argv):\n    return argc + 1  # comment\n\n\treturn
Übergrößenträger naïve café señor Ελληνικά Русский текст 漢字かな交じり文 한국어 العربية हिन्दी ไทย 🎉 👩\u200d👩\u200d👧
<html> {"key": [1, 2.5, true]} camelCase snake_case UPPER lower Mixed   spaces\n\n\nlines http://example.com/a?b=c&d=e
"""
FIXED = [
    "", " ", "  ", "\n", "\n\n", "\t", "Hello", " Hello", "Hello ", "Hello world", "  Hello  world  ", "I'll we've THEY'RE don't",
    "1 12 123 1234 12345 3.14159", "naïve café Zürich", "a\u0301 e\u0301\u0323 \u0323\u0301", "漢字かな交じり文 한국어 테스트",
    "مرحبا بالعالم", "हिन्दी में", "🎉👩\u200d👩\u200d👧 emoji 🏳️\u200d🌈", "\u00a0nbsp\u2003em\u3000ideographic\u200bzero", "\ufeffbom",
    "line\r\nline\rline\n\n  end", "trailing   ", "<s>text</s>", "a<s>b", "<unk>", "x <mask> y", "x<mask>y", "<mask>", "\u0000\u0001\u007f",
    "ﬁ ligature ½ ² Ⅷ ㎏ ﷺ", "!!!???...", "camelCase snake_case __init__", "THE LORD is my shepherd", "İstanbul ǅ ß ẞ",
    "▁already▁there ▁▁", "Ġbyte Ċletters", "<0x41>", "\ufffd replacement", "a" * 300, " " * 70, "ab" * 100, "é" * 64,
    "<|im_start|>user\nhi<|im_end|>", "<|im_start|><|im_end|>  <|im_end|>\n", "x  <|rstrip|>  y", "x  <|lstrip|>  y", "x  <|both|>  y",
    "<|word|> a<|word|> <|word|>b a <|word|> b", "Über über ÜBER uber", "<|over|><|overlap|><|over", "٣٤٥ ۱۲۳ 四五六 ௧௨", "a_b-c.d,e;f:g",
    "“quotes” ‘single’ — dash … ellipsis", "x\u0301\u0302\u0303y", "\U0001d400\U0001d401 math", "\U000e0001 tag", "\u2028ls\u2029ps",
]
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "   \n\n\t\r", ".,;:!?'\"()[]{}<>|/\\-_=+*&^%$#@`~",
    "àéîõüñçßøåÆŒİıſK", "αβγδΩ жщыЪ", "漢字仮名交じり文テスト한국어", "مرحبا שלום हिन्दी ไทย", "\u0300\u0301\u0323\u0327\u094d\u200d\u200c\ufe0f",
    "🎉👩🏽🏳🌈👍", "\u00a0\u2003\u3000\u200b\u0085\u2028\ufeff\u180e", "\u0000\u0001\u0007\u001b\u007f\u009f\ufffd", "ﬁ½²Ⅷ㎏ﷺ①ⓐ",
    "▁ĠĊ", "٣٤٥۱๑",
]


def random_text(rng, specials):
    parts = []
    for _ in range(rng.randrange(1, 12)):
        kind = rng.random()
        if kind < 0.3:
            words = CORPUS.split(" ")
            start = rng.randrange(len(words))
            parts.append(" ".join(words[start:start + rng.randrange(1, 6)]))
        elif kind < 0.45 and specials:
            parts.append(rng.choice(specials))
        elif kind < 0.5:
            parts.append(rng.choice(rng.choice(ALPHABETS)) * rng.randrange(1, 40))
        else:
            alphabet = rng.choice(ALPHABETS)
            parts.append("".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 10))))
        if rng.random() < 0.4:
            parts.append(" " * rng.randrange(1, 3))
    return "".join(parts)


def darts(entries):
    """A double array in the layout of SentencePiece's precompiled_charsmap."""
    blob = bytearray()
    places = {}
    for replacement in sorted(set(entries.values())):
        places[replacement] = len(blob)
        blob += replacement.encode() + b"\0"
    trie = {}
    for key, replacement in sorted(entries.items()):
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[None] = places[replacement]
    units = [0] * 65536
    used = {0}

    def place(node, at):
        labels = [0 if b is None else b for b in node]
        offset = next(o for o in range(1, 1 << 15) if all((at ^ o ^ b) not in used for b in labels))
        base = at ^ offset
        used.update(base ^ b for b in labels)
        units[at] |= offset << 10 | (0x100 if None in node else 0)
        for byte, child in node.items():
            if byte is None:
                units[base] = child | 1 << 31
            else:
                units[base ^ byte] = byte
                place(child, base ^ byte)

    place(trie, 0)
    size = (max(used) | 0xFF) + 1
    return struct.pack("<I", 4 * size) + struct.pack(f"<{size}I", *units[:size]) + bytes(blob)


CHARSMAP = darts({
    "ﬁ": "fi", "½": "1⁄2", "²": "2", "Ⅷ": "VIII", "㎏": "kg", "\u00a0": " ", "\u3000": " ", "\t": " ", "\n": " ", "\r": " ", "\u200b": "",
    "e\u0301": "é", "a\u0301": "á", "\u2003": " ", "\ufeff": "", "…": "...", "İ": "i\u0307", "\u0001": "", "k": "k", "カ\u3099": "ガ"})


def byte_tokens():
    return [f"<0x{b:02X}>" for b in range(256)]


def spm_bpe(corpus, vocab_size, metaspace_normalizer, specials, byte_fallback=True, unk="<unk>"):
    """A BPE over text with U+2581, its byte tokens behind the special ones."""
    trained = Tokenizer(models.BPE(unk_token=unk, byte_fallback=byte_fallback, fuse_unk=True))
    trained.normalizer = metaspace_normalizer
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[], show_progress=False))
    model = json.loads(trained.to_str())["model"]
    texts = specials + (byte_tokens() if byte_fallback else [])
    for text in sorted(model["vocab"], key=model["vocab"].get):
        if text not in texts:
            texts.append(text)
    merges = [tuple(m) for m in model["merges"]]
    return models.BPE(vocab={t: i for i, t in enumerate(texts)}, merges=merges, unk_token=unk, byte_fallback=byte_fallback, fuse_unk=True)


def byte_bpe(corpus, vocab_size, regex, specials=(), **kwargs):
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trained.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(trained.to_str())["model"]
    return models.BPE(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], **kwargs)


def unigram(corpus, vocab_size, normalizer, pre, specials, byte_fallback=False):
    trained = Tokenizer(models.Unigram())
    trained.normalizer = normalizer
    trained.pre_tokenizer = pre
    trained.train_from_iterator(corpus, trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=specials, unk_token="<unk>", show_progress=False))
    model = json.loads(trained.to_str())["model"]
    vocab = [tuple(v) for v in model["vocab"]]
    if byte_fallback:
        vocab += [(b, -20.0) for b in byte_tokens()]
    return models.Unigram(vocab, unk_id=[t for t, _ in vocab].index("<unk>"), byte_fallback=byte_fallback)


def special(text, **kwargs):
    return AddedToken(text, special=True, normalized=kwargs.pop("normalized", False), **kwargs)


CHAT = ["<|im_start|>", "<|im_end|>", "<|over|>", "<|overlap|>"]
LLAMA_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]


def bos_template(tokenizer, bos, eos=None):
    single = f"{bos} $A" + (f" {eos}" if eos else "")
    names = [bos] + ([eos] if eos else [])
    return processors.TemplateProcessing(single=single, special_tokens=[(n, tokenizer.token_to_id(n)) for n in names])


def llama2(corpus):
    norm = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t = Tokenizer(spm_bpe(corpus, 700, norm, ["<unk>", "<s>", "</s>"]))
    t.normalizer = norm
    t.decoder = decoders.Sequence(LLAMA_DECODER)
    t.add_tokens([special(s) for s in ["<unk>", "<s>", "</s>"]])
    t.post_processor = bos_template(t, "<s>")
    return t


def phi3(corpus):
    t = llama2(corpus)
    t.add_tokens([special("<|endoftext|>"), special("<|im_start|>", rstrip=True), special("<|im_end|>", rstrip=True),
                  special("<|rstrip|>", rstrip=True), special("<|lstrip|>", lstrip=True), special("<|both|>", lstrip=True, rstrip=True),
                  AddedToken("<|word|>", single_word=True, normalized=False), AddedToken("<|over|>", normalized=True),
                  AddedToken("<|overlap|>", normalized=False)])
    return t


def mistral(corpus):
    norm = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t = Tokenizer(spm_bpe(corpus, 700, norm, ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]))
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    t.decoder = decoders.Sequence(LLAMA_DECODER)
    t.add_tokens([special(s) for s in ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]])
    t.post_processor = bos_template(t, "<s>")
    return t


def gemma(corpus):
    norm = normalizers.Replace(" ", "▁")
    t = Tokenizer(spm_bpe(corpus, 700, norm, ["<pad>", "<eos>", "<bos>", "<unk>"]))
    t.normalizer = norm
    t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    t.decoder = decoders.Sequence(LLAMA_DECODER[:3])
    t.add_tokens([special(s) for s in ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]])
    t.add_tokens([AddedToken(s, normalized=False) for s in ["\n\n", "\n\n\n", "▁▁", "▁▁▁▁", "<table>", "</table>"]])
    t.post_processor = bos_template(t, "<bos>")
    return t


def qwen2(corpus):
    t = Tokenizer(byte_bpe(corpus, 600, QWEN2))
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN2), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.add_tokens([special("<|endoftext|>")] + [special(s) for s in CHAT] + [AddedToken("<tool_call>", normalized=False)])
    return t


def llama3(corpus):
    t = Tokenizer(byte_bpe(corpus, 600, LLAMA3, ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.add_tokens([special("<|begin_of_text|>"), special("<|eot_id|>")] + [special(s) for s in CHAT])
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), bos_template(t, "<|begin_of_text|>")])
    return t


def gpt2(corpus):
    t = Tokenizer(byte_bpe(corpus, 500, r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=True)
    t.add_tokens([special("<|endoftext|>"), special("<mask>", lstrip=True)])
    return t


def gpt4o(corpus):
    t = Tokenizer(byte_bpe(corpus, 500, GPT4O))
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(GPT4O), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.add_tokens([special(s) for s in CHAT])
    return t


def starcoder(corpus):
    t = Tokenizer(byte_bpe(corpus, 400, QWEN2))
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.add_tokens([special("<|endoftext|>"), AddedToken("    ", normalized=False), AddedToken("  ", normalized=True)])
    return t


def deepseek3(corpus):
    t = Tokenizer(byte_bpe(corpus, 500, DEEPSEEK3[2]))
    t.normalizer = normalizers.Sequence([])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r), "isolated") for r in DEEPSEEK3] +
                                              [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.add_tokens([special("<｜begin▁of▁sentence｜>")] + [AddedToken(s, normalized=True) for s in CHAT])
    t.post_processor = bos_template(t, "<｜begin▁of▁sentence｜>")
    return t


def t5(corpus):
    norm = normalizers.Sequence([normalizers.Precompiled(CHARSMAP), normalizers.Strip(left=False, right=True),
                                 normalizers.Replace(Regex(" {2,}"), "▁")])
    pre = pre_tokenizers.Metaspace(prepend_scheme="always")
    t = Tokenizer(unigram(corpus, 400, norm, pre, ["<pad>", "</s>", "<unk>"]))
    t.normalizer = norm
    t.pre_tokenizer = pre
    t.decoder = decoders.Metaspace(prepend_scheme="always")
    t.add_tokens([special(s) for s in ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>"]])
    t.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", t.token_to_id("</s>"))])
    return t


def xlmr(corpus):
    norm = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    pre = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")])
    t = Tokenizer(unigram(corpus, 400, norm, pre, ["<s>", "<pad>", "</s>", "<unk>"]))
    t.normalizer = norm
    t.pre_tokenizer = pre
    t.decoder = decoders.Metaspace(prepend_scheme="always")
    t.add_tokens([special(s) for s in ["<s>", "<pad>", "</s>", "<unk>"]] + [special("<mask>", lstrip=True)])
    t.post_processor = bos_template(t, "<s>", "</s>")
    return t


def unigram_bytes(corpus):
    pre = pre_tokenizers.Metaspace(prepend_scheme="never")
    t = Tokenizer(unigram(corpus, 400, normalizers.NFC(), pre, ["<unk>", "<s>", "</s>"], byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    t.pre_tokenizer = pre
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])
    t.add_tokens([special(s) for s in ["<unk>", "<s>", "</s>"]] + [AddedToken("Über", normalized=True)])
    return t


def words(corpus):
    """No bytes: unknown letters become <unk>; lower case; punctuation and digits apart; added tokens of every kind."""
    norm = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()])
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    trained.normalizer = norm
    trained.pre_tokenizer = pre_tokenizers.Whitespace()
    trained.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=400, limit_alphabet=60, special_tokens=["<unk>"], show_progress=False))
    t = trained
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("merged_with_next"),
                                               pre_tokenizers.Digits(individual_digits=False)])
    t.add_tokens([AddedToken("<|word|>", single_word=True, normalized=True), AddedToken("<|lstrip|>", lstrip=True, normalized=False),
                  AddedToken("<|rstrip|>", rstrip=True, normalized=True), special("<|both|>", lstrip=True, rstrip=True),
                  AddedToken("Über", normalized=True), special("<|over|>", normalized=True), AddedToken("<|overlap|>", normalized=False)])
    return t


def behaviours(corpus):
    """Split behaviours that no family uses, no merges across them, no unknown token: unknown letters vanish."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trained.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=350, limit_alphabet=70, show_progress=False))
    t = trained
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"[\s]"), "contiguous"), pre_tokenizers.Split("a", "merged_with_previous"),
        pre_tokenizers.Split(Regex(r"e\w"), "merged_with_next"), pre_tokenizers.Split("th", "removed"),
        pre_tokenizers.Split(Regex(r"\b[A-Z]\w*\b"), "isolated"), pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.CharDelimiterSplit("_")])
    t.decoder = decoders.Fuse()
    return t


STYLES = [llama2, phi3, mistral, gemma, qwen2, llama3, gpt2, gpt4o, starcoder, deepseek3, t5, xlmr, unigram_bytes, words, behaviours]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--cases", type=int, default=25, help="random texts for each tokenizer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=pathlib.Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    corpus = [CORPUS] * 4 + ([args.corpus.read_text()[:200000]] if args.corpus else [])
    for style in STYLES:
        name = style.__name__
        rng = random.Random(f"{name} {args.seed}")
        made = style([line for text in corpus for line in text.split("\n")])
        path = args.out / f"{name}.tokenizer.json"
        made.save(str(path), pretty=False)
        tokenizer = Tokenizer.from_file(str(path))
        specials = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
        cases = []
        for text in FIXED + [random_text(rng, specials) for _ in range(args.cases)]:
            tokenizer.encode_special_tokens = True
            plain = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = False
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            with_special = tokenizer.encode(text, add_special_tokens=True).ids
            cases.append({"text": text, "plain": plain, "ids": ids, "ids_with_special": with_special,
                          "decoded": tokenizer.decode(with_special), "decoded_with_special": tokenizer.decode(with_special, skip_special_tokens=False)})
        with open(args.out / f"{name}.cases.json", "w") as f:
            f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=True) for c in cases) + "\n]\n")


main()
