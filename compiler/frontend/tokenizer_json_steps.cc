#include "compiler/frontend/tokenizer_json_steps.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "compiler/frontend/json_fields.h"
#include "compiler/frontend/tokenizer_pre.h"
#include "compiler/frontend/tokenizer_regex.h"
#include "runtime/text/utf8.h"

namespace ll {
namespace {

using nlohmann::json;

// A list of objects under `key`, each handed to `add`.
template <class F>
Status for_each_object(const JsonFields& fields, std::string_view key, F add) {
  const json* list = fields.find(key);
  if (list == nullptr || !list->is_array()) return bad_data("{} is missing or no list", fields.name(key));
  for (const json& item : *list) TRY(add(item));
  return {};
}

Result<std::string> from_base64(std::string_view text) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  int held = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    int value = -1;
    if (c >= 'A' && c <= 'Z') value = c - 'A';
    if (c >= 'a' && c <= 'z') value = c - 'a' + 26;
    if (c >= '0' && c <= '9') value = c - '0' + 52;
    if (c == '+') value = 62;
    if (c == '/') value = 63;
    if (value < 0) return bad_data("'precompiled_charsmap' is not base64");
    bits = bits << 6 | static_cast<uint32_t>(value);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out += static_cast<char>(bits >> held & 0xFF);
  }
  return out;
}

// {"String": "..."} or {"Regex": "..."}.
struct Pattern {
  bool regex = false;
  std::string text;  // a regex in PCRE2's syntax
};
Result<Pattern> pattern_of(const JsonFields& fields) {
  TRY_ASSIGN(const std::optional<JsonFields> pattern, fields.get_object("pattern"));
  if (!pattern) return bad_data("{} is missing", fields.name("pattern"));
  Pattern p;
  if (pattern->has("String")) {
    TRY_ASSIGN(p.text, pattern->get_text("String"));
    if (p.text.empty()) return unsupported("an empty pattern in {}", fields.name("pattern"));
    return p;
  }
  p.regex = true;
  TRY_ASSIGN(const std::string regex, pattern->get_text("Regex"));
  TRY_ASSIGN(p.text, regex_to_pcre2(regex));
  return p;
}

Result<PreTokenizerStep::Behavior> behavior_of(const JsonFields& fields, std::string_view missing) {
  constexpr std::string_view kNames[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  TRY_ASSIGN(const std::string name,
             missing.empty() ? fields.get_text("behavior") : fields.get_text("behavior", missing));
  const auto* found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found == std::end(kNames)) return unsupported("split behavior '{}'", name);
  return static_cast<PreTokenizerStep::Behavior>(found - std::begin(kNames));
}

// Replacement and prepend scheme of a Metaspace, which older files spell add_prefix_space.
struct Metaspace {
  std::string replacement;
  PreTokenizerStep::Prepend prepend = PreTokenizerStep::Prepend::kAlways;
};
Result<Metaspace> metaspace_of(const JsonFields& fields) {
  Metaspace m;
  TRY_ASSIGN(m.replacement, fields.get_text("replacement"));
  if (const CodePoint c = decode_utf8(m.replacement); !c.valid || c.size != m.replacement.size()) {
    return bad_data("{} is '{}', expected one letter", fields.name("replacement"), m.replacement);
  }
  TRY_ASSIGN(const bool prefix, fields.get_bool("add_prefix_space", true));
  TRY_ASSIGN(const std::string scheme, fields.get_text("prepend_scheme", prefix ? "always" : "never"));
  if (scheme == "never" || !prefix) {
    m.prepend = PreTokenizerStep::Prepend::kNever;
  } else if (scheme == "first") {
    m.prepend = PreTokenizerStep::Prepend::kFirst;
  } else if (scheme != "always") {
    return unsupported("prepend scheme '{}'", scheme);
  }
  return m;
}

Error unknown_type(std::string_view what, std::string_view type) {
  return unsupported("{} '{}' is not supported", what, type);
}

}  // namespace

Status add_normalizer(const json& from, TokenizerSpec& spec) {
  using K = NormalizerStep::Kind;
  struct Row {
    std::string_view type;
    K kind;
  };
  constexpr Row kPlain[] = {{"NFC", K::kNfc},
                            {"NFD", K::kNfd},
                            {"NFKC", K::kNfkc},
                            {"NFKD", K::kNfkd},
                            {"Lowercase", K::kLowercase},
                            {"StripAccents", K::kStripAccents},
                            {"Nmt", K::kNmt},
                            {"ByteLevel", K::kByteLevel}};
  TRY_ASSIGN(const JsonFields fields, JsonFields::of(from, "normalizer"));
  TRY_ASSIGN(const std::string type, fields.get_text("type"));
  if (type == "Sequence")
    return for_each_object(fields, "normalizers", [&](const json& item) { return add_normalizer(item, spec); });
  for (const Row& row : kPlain) {
    if (row.type != type) continue;
    spec.normalizer.push_back({.kind = row.kind});
    return {};
  }
  NormalizerStep step;
  if (type == "Strip") {
    step.kind = K::kStrip;
    TRY_ASSIGN(step.left, fields.get_bool("strip_left", true));
    TRY_ASSIGN(step.right, fields.get_bool("strip_right", true));
  } else if (type == "Prepend") {
    step.kind = K::kPrepend;
    TRY_ASSIGN(step.replacement, fields.get_text("prepend"));
  } else if (type == "Replace") {
    TRY_ASSIGN(Pattern pattern, pattern_of(fields));
    step.kind = pattern.regex ? K::kReplaceRegex : K::kReplace;
    step.pattern = std::move(pattern.text);
    TRY_ASSIGN(step.replacement, fields.get_text("content"));
  } else if (type == "Precompiled") {
    step.kind = K::kCharsMap;
    TRY_ASSIGN(const std::string base64, fields.get_text("precompiled_charsmap"));
    TRY_ASSIGN(step.pattern, from_base64(base64));
  } else {
    return unknown_type("normalizer", type);
  }
  spec.normalizer.push_back(std::move(step));
  return {};
}

Status add_pre_tokenizer(const json& from, TokenizerSpec& spec) {
  using K = PreTokenizerStep::Kind;
  TRY_ASSIGN(const JsonFields fields, JsonFields::of(from, "pre_tokenizer"));
  TRY_ASSIGN(const std::string type, fields.get_text("type"));
  if (type == "Sequence") {
    return for_each_object(fields, "pretokenizers", [&](const json& item) { return add_pre_tokenizer(item, spec); });
  }
  PreTokenizerStep step;
  if (type == "ByteLevel") {
    TRY_ASSIGN(const bool prefix, fields.get_bool("add_prefix_space", true));
    TRY_ASSIGN(const bool regex, fields.get_bool("use_regex", true));
    if (prefix) spec.pre_tokenizer.push_back({.kind = K::kPrefixSpace});
    if (regex) {
      TRY_ASSIGN(step.pattern, regex_to_pcre2(kGpt2Pattern));
      step.kind = K::kSplitRegex;
      spec.pre_tokenizer.push_back(step);
    }
    step = {.kind = K::kByteLevel};
  } else if (type == "Split") {
    TRY_ASSIGN(Pattern pattern, pattern_of(fields));
    step.kind = pattern.regex ? K::kSplitRegex : K::kSplit;
    step.pattern = std::move(pattern.text);
    TRY_ASSIGN(step.behavior, behavior_of(fields, ""));
    TRY_ASSIGN(step.invert, fields.get_bool("invert", false));
  } else if (type == "CharDelimiterSplit") {
    step.kind = K::kSplit;
    step.behavior = PreTokenizerStep::Behavior::kRemoved;
    TRY_ASSIGN(step.pattern, fields.get_text("delimiter"));
  } else if (type == "Metaspace") {
    step.kind = K::kMetaspace;
    TRY_ASSIGN(Metaspace metaspace, metaspace_of(fields));
    step.replacement = std::move(metaspace.replacement);
    step.prepend = metaspace.prepend;
    TRY_ASSIGN(step.split, fields.get_bool("split", true));
  } else if (type == "Digits") {
    step.kind = K::kDigits;
    TRY_ASSIGN(step.individual, fields.get_bool("individual_digits", false));
  } else if (type == "Punctuation") {
    step.kind = K::kPunctuation;
    TRY_ASSIGN(step.behavior, behavior_of(fields, "Isolated"));
  } else if (type == "Whitespace") {
    step.kind = K::kWhitespace;
  } else if (type == "WhitespaceSplit") {
    step.kind = K::kWhitespaceSplit;
  } else {
    return unknown_type("pre-tokenizer", type);
  }
  spec.pre_tokenizer.push_back(std::move(step));
  return {};
}

Status add_decoder(const json& from, TokenizerSpec& spec) {
  using K = DecoderStep::Kind;
  TRY_ASSIGN(const JsonFields fields, JsonFields::of(from, "decoder"));
  TRY_ASSIGN(const std::string type, fields.get_text("type"));
  if (type == "Sequence")
    return for_each_object(fields, "decoders", [&](const json& item) { return add_decoder(item, spec); });
  DecoderStep step;
  if (type == "ByteLevel") {
    step.kind = K::kByteLevel;
  } else if (type == "ByteFallback") {
    step.kind = K::kByteFallback;
  } else if (type == "Fuse") {
    step.kind = K::kFuse;
  } else if (type == "Metaspace") {
    step.kind = K::kMetaspace;
    TRY_ASSIGN(Metaspace metaspace, metaspace_of(fields));
    step.pattern = std::move(metaspace.replacement);
    step.strip_first = metaspace.prepend != PreTokenizerStep::Prepend::kNever;
  } else if (type == "Replace") {
    step.kind = K::kReplace;
    TRY_ASSIGN(Pattern pattern, pattern_of(fields));
    if (pattern.regex) return unsupported("decoder 'Replace' with a regex");
    step.pattern = std::move(pattern.text);
    TRY_ASSIGN(step.replacement, fields.get_text("content"));
  } else if (type == "Strip") {
    step.kind = K::kStrip;
    TRY_ASSIGN(step.pattern, fields.get_text("content"));
    TRY_ASSIGN(step.start, fields.get_u32("start", 0, 1 << 16, 0));
    TRY_ASSIGN(step.stop, fields.get_u32("stop", 0, 1 << 16, 0));
  } else {
    return unknown_type("decoder", type);
  }
  spec.decoder.push_back(std::move(step));
  return {};
}

Status add_post_processor(const json& from, const std::function<int32_t(std::string_view)>& find, TokenizerSpec& spec) {
  TRY_ASSIGN(const JsonFields fields, JsonFields::of(from, "post_processor"));
  TRY_ASSIGN(const std::string type, fields.get_text("type"));
  if (type == "ByteLevel") return {};  // moves offsets only
  if (type == "Sequence") {
    return for_each_object(fields, "processors",
                           [&](const json& item) { return add_post_processor(item, find, spec); });
  }
  std::vector<int32_t> before, after;
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    for (const std::string_view key : {"cls", "sep"}) {
      const json* pair = fields.find(key);
      const bool good = pair != nullptr && pair->is_array() && pair->size() == 2 && (*pair)[0].is_string();
      if (!good) return bad_data("{} is missing or no token and id", fields.name(key));
      const auto& text = (*pair)[0].get_ref<const std::string&>();
      const int32_t id = find(text);
      if (id < 0) return bad_data("{} names '{}', which is no token", fields.name(key), text);
      (key == "cls" ? before : after).push_back(id);
    }
  } else if (type == "TemplateProcessing") {
    const json* single = fields.find("single");
    if (single == nullptr || !single->is_array()) return bad_data("{} is missing or no list", fields.name("single"));
    TRY_ASSIGN(const std::optional<JsonFields> tokens, fields.get_object("special_tokens"));
    bool text_seen = false;
    for (const json& piece : *single) {
      TRY_ASSIGN(const JsonFields item, JsonFields::of(piece, "single"));
      TRY_ASSIGN(const std::optional<JsonFields> sequence, item.get_object("Sequence"));
      if (sequence) {
        if (text_seen) return unsupported("a template that repeats the text");
        text_seen = true;
        continue;
      }
      TRY_ASSIGN(const std::optional<JsonFields> token, item.get_object("SpecialToken"));
      if (!token) return bad_data("a piece of a template is neither a Sequence nor a SpecialToken");
      TRY_ASSIGN(const std::string name, token->get_text("id"));
      std::optional<JsonFields> entry;
      if (tokens) {
        TRY_ASSIGN(entry, tokens->get_object(name));
      }
      if (!entry) return bad_data("a template names '{}', which special_tokens does not list", name);
      TRY_ASSIGN(const std::vector<uint32_t> ids, entry->get_ids("ids", INT32_MAX));
      std::vector<int32_t>& side = text_seen ? after : before;
      for (const uint32_t id : ids) side.push_back(static_cast<int32_t>(id));
    }
    if (!text_seen) return bad_data("a template without the text");
  } else {
    return unknown_type("post-processor", type);
  }
  spec.prefix.insert(spec.prefix.begin(), before.begin(), before.end());
  spec.suffix.insert(spec.suffix.end(), after.begin(), after.end());
  return {};
}

}  // namespace ll
