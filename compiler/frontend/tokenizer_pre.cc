#include "compiler/frontend/tokenizer_pre.h"

#include <algorithm>
#include <iterator>
#include <vector>

namespace ll {
namespace {

// The patterns are those of the models' own tokenizer.json files, which llama.cpp approximates where its engine lacks a
// construct. Two are written another way, for linear time: "spaces at the end" and EXAONE's words.
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr std::string_view kMinicpm5 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr std::string_view kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr std::string_view kJais2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S))"
    R"(|\s{1,2}(?!\S)|\s)";
constexpr std::string_view kExaoneMoe =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}\p{M}*(?: ?\p{L}\p{M}*)*+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?)"
    R"(|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?)"
    R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kYoutuWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Kimi K2 takes Han letters out of its classes; PCRE2 has no intersection, so the classes name what they leave out.
constexpr std::string_view kKimiK2 =
    R"(\p{Han}+|[^\r\n\p{L}\p{N}]?[^\p{Ll}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]*[^\p{Lu}\p{Lt}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[^\p{Ll}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]+)"
    R"([^\p{Lu}\p{Lt}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseekV3Words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kHanAndKana = R"([\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+)";
constexpr std::string_view kSpacesAtEnd = R"((?<!\s)\s++$)";
constexpr std::string_view kPunctuation = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr std::string_view kFalconPunctuation = R"([\p{P}\$\+<=>\^~\|`]+)";
constexpr std::string_view kNewlines = R"([\r\n])";
constexpr std::string_view kLines = R"([^\n]+|[\n]+)";
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kDeepseekLetters =
    R"(\s?[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373)"
    R"(\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F)"
    R"(\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79)"
    R"(-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-)"
    R"(\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-)"
    R"(\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139\u213C-)"
    R"(\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-)"
    R"(\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A)"
    R"(\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-)"
    R"(\x{118DF}\x{1E900}-\x{1E943}]+)";
constexpr std::string_view kDeepseekPunctuation = R"(\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+)";
constexpr std::string_view kDeepseekCjk = R"([\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+)";
constexpr std::string_view kYoutuScripts =
    R"([\uAC00-\uD7A3\u3131-\u318E]+|[\uFF01\u2026\u201C\u201D\u2018\u2019\u2014\uFF1A\uFF1B\uFF0C\u3001-\u303F\uFE30)"
    R"(-\uFE4F]+|[\u3105-\u312F]+|[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+)";
constexpr std::string_view kAfmoeScripts =
    R"([\u4E00-\u9FFF\u3400-\u4DBF\u8C48-\uFAFF\u3040-\u309F\u30A0-\u30FF\uFF65-\uFF9F\u2F00-\u2FDF\u0E40-\u0E7F)"
    R"(\u0E80-\u0EFF\u1780-\u17FF\u1000-\u109F\uAA60-\uAA7F\uA9E0-\uA9FF\uAC00-\uD7AF\u1100-\u11FF]+)";
constexpr std::string_view kBloom = R"( ?[^(\s|.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C)]+)";

using Letters = PreTokenizerRow::Letters;

constexpr PreTokenizerRow kRows[] = {
    {.names = "default", .steps = {kPunctuation, kGpt2Pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
    {.names = "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     .steps = {kLlama3},
     .ignore_merges = true,
     .add_bos = true},
    {.names = "dbrx smaug-bpe", .steps = {kLlama3}},
    {.names = "glm4 chatglm-bpe", .steps = {kLlama3}, .no_default_bos = true},
    {.names = "jais-2", .steps = {kJais2}},
    {.names = "minicpm5", .steps = {R"(\p{N}{1,3})", kMinicpm5}, .ignore_merges = true},
    {.names = "deepseek-llm",
     .steps = {kNewlines, kDeepseekLetters, kDeepseekPunctuation, kSpacesAtEnd, kDeepseekCjk, R"(\p{N}+)"}},
    {.names = "deepseek-coder", .steps = {kNewlines, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepseekCjk, kDigit}},
    {.names = "deepseek-v3 hunyuan-dense joyai-llm", .steps = {R"(\p{N}{1,3})", kHanAndKana, kDeepseekV3Words}},
    {.names = "youtu", .steps = {kYoutuScripts, kYoutuWords}, .ignore_merges = true},
    {.names = "falcon", .steps = {kFalconPunctuation, kGpt2Pattern, "[0-9][0-9][0-9]"}},
    {.names = "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", .steps = {kDigit, kGpt2Pattern}},
    {.names = "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en "
              "jina-v2-code "
              "roberta-bpe mpt olmo jais trillion granite-docling exaone4",
     .steps = {kGpt2Pattern}},
    {.names = "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", .steps = {kQwen2}},
    {.names = "qwen35", .steps = {kQwen35}},
    {.names = "laguna", .steps = {kLines, kQwen2}},
    {.names = "poro-chat bloom gpt3-finnish", .steps = {kBloom}},
    {.names = "viking", .steps = {kBloom, kDigit}},
    {.names = "tekken", .steps = {kTekken}, .ignore_merges = true, .add_bos = true},
    {.names = "chameleon",
     .steps = {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", R"([\t\n]|    |  )", kDigit,
               R"([\p{P}!-/:-@\[-`{-~])", kGpt2Pattern},
     .add_bos = true},
    {.names = "gpt-4o llama4 kanana2 talkie minimax-m2", .steps = {kGpt4o}},
    {.names = "granite-embed-multi-97m", .steps = {kGpt4o}, .ignore_merges = true},
    {.names = "tiny_aya cohere2moe", .steps = {kDigitGroupsBeforeBoundaryStep, kGpt4o}},
    {.names = "kimi-k2", .steps = {kKimiK2}},
    {.names = "superbpe", .steps = {R"(\p{N}+)", kDigitGroupsStep}},
    {.names = "bailingmoe bailingmoe2 llada-moe", .steps = {kBailing}},
    {.names = "seed-coder", .steps = {kSeedCoder}},
    {.names = "afmoe", .steps = {kDigitGroupsStep, kAfmoeScripts, kDeepseekV3Words}},
    {.names = "exaone-moe", .steps = {kExaoneMoe}},
    {.names = "gemma4 granite-embed-multi-311m",
     .steps = {kLines},
     .always_bos = true,
     .whole_newlines = true,
     .letters = Letters::kMetaspace},
    {.names = "sarvam-moe", .steps = {kLines}, .letters = Letters::kMetaspace},
    {.names = "whitespace", .steps = {R"(\S+)"}, .letters = Letters::kUtf8},
};

// Calls visit(name) for each name of a row.
template <class F>
void for_each_name(const PreTokenizerRow& row, F visit) {
  std::string_view rest = row.names;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(' '), rest.size());
    visit(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

}  // namespace

const PreTokenizerRow* find_pre_tokenizer(std::string_view name) {
  const PreTokenizerRow* found = nullptr;
  for (const PreTokenizerRow& row : kRows) {
    for_each_name(row, [&](std::string_view n) {
      if (n == name) found = &row;
    });
  }
  return found;
}

std::string pre_tokenizer_names() {
  std::vector<std::string_view> names;
  for (const PreTokenizerRow& row : kRows) for_each_name(row, [&](std::string_view n) { names.push_back(n); });
  std::sort(names.begin(), names.end());
  std::string list;
  for (const std::string_view n : names) {
    if (!list.empty()) list += ", ";
    list += n;
  }
  return list;
}

}  // namespace ll
