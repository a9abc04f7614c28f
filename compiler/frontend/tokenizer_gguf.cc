#include "compiler/frontend/tokenizer_gguf.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <set>

#include "compiler/frontend/tokenizer_build.h"
#include "compiler/frontend/tokenizer_pre.h"
#include "compiler/frontend/tokenizer_regex.h"

namespace ll {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581

// What tokenizer.ggml.model names. Ids are those that hold when the file names none; -1: none.
struct ModelRow {
  std::string_view name;
  TokenizerModel model;
  int32_t bos, eos, unk, pad;
  bool add_bos, add_eos;
  std::string_view pre;  // the pre-tokenizer it always has; empty: tokenizer.ggml.pre
};
constexpr ModelRow kModels[] = {
    {"gpt2", TokenizerModel::kBpe, 11, 11, -1, -1, false, false, ""},
    {"gemma4", TokenizerModel::kBpe, -1, -1, -1, -1, false, false, "gemma4"},
    {"llama", TokenizerModel::kSpm, 1, 2, 0, -1, true, false, ""},
    {"t5", TokenizerModel::kUnigram, -1, 1, 2, 0, false, true, ""},
};

// Texts of fill-in-the-middle and other tokens that are control tokens whatever type the file gives them. `ends`: they
// end a generation too. The keys are those of GGUF files that name such a token themselves.
struct ControlText {
  std::string_view text;
  bool ends;
};
constexpr ControlText kControlTexts[] = {
    {"<|fim_prefix|>", false}, {"<fim-prefix>", false}, {"<fim_prefix>", false},    {"<｜fim▁begin｜>", false},
    {"<PRE>", false},          {"▁<PRE>", false},       {"<|code_prefix|>", false}, {"<|prefix|>", false},
    {"<|fim_suffix|>", false}, {"<fim-suffix>", false}, {"<fim_suffix>", false},    {"<｜fim▁hole｜>", false},
    {"<SUF>", false},          {"▁<SUF>", false},       {"<|code_suffix|>", false}, {"<|suffix|>", false},
    {"<|fim_middle|>", false}, {"<fim-middle>", false}, {"<fim_middle>", false},    {"<｜fim▁end｜>", false},
    {"<MID>", false},          {"▁<MID>", false},       {"<|code_middle|>", false}, {"<|middle|>", false},
    {"<|fim_pad|>", true},     {"<fim-pad>", true},     {"<fim_pad>", true},        {"<PAD>", true},
    {"[PAD]", true},           {"<|fim_repo|>", true},  {"<|repo_name|>", true},    {"<fim-repo>", true},
    {"<REPO>", true},          {"<reponame>", true},    {"<|file_sep|>", true}};
constexpr std::string_view kEndKeys[] = {"tokenizer.ggml.eos_token_id",     "tokenizer.ggml.eot_token_id",
                                         "tokenizer.ggml.eom_token_id",     "tokenizer.ggml.fim_pad_token_id",
                                         "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id"};
// gpt-oss writes these out although they are control tokens.
constexpr std::string_view kAlwaysShown[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};

class MetadataReader {
 public:
  explicit MetadataReader(const gguf::Metadata& metadata) : metadata_(metadata) {}

  Result<TokenizerSpec> read(const ModelRow& row, const PreTokenizerRow* pre) {
    row_ = &row;
    pre_ = pre;
    spec_.model = row.model;
    TRY(read_vocabulary());
    TRY(read_special_ids());
    correct_types();
    if (row.model == TokenizerModel::kBpe) TRY(read_merges());
    TRY(read_steps());
    TRY(add_tokens());
    TRY(check_tokenizer(spec_));
    return std::move(spec_);
  }

 private:
  Status read_vocabulary() {
    TRY_ASSIGN(const std::vector<std::string_view> texts, metadata_.get_texts("tokenizer.ggml.tokens"));
    if (texts.empty() || texts.size() > kMaxTokens) {
      return bad_data("tokenizer.ggml.tokens has {} tokens, expected 1 to {}", texts.size(), kMaxTokens);
    }
    const size_t n = texts.size();
    spec_.tokens.ends.reserve(n);
    for (const std::string_view text : texts) spec_.tokens.push_back(text);
    spec_.types.assign(n, TokenType::kNormal);
    if (metadata_.find("tokenizer.ggml.token_type") != nullptr) {
      TRY_ASSIGN(const std::vector<int32_t> types,
                 metadata_.get_i32s("tokenizer.ggml.token_type", INT32_MIN, INT32_MAX));
      if (types.size() < n) return bad_data("tokenizer.ggml.token_type has {} entries for {} tokens", types.size(), n);
      for (size_t i = 0; i < n; ++i) {
        spec_.types[i] = types[i] >= 1 && types[i] <= 6 ? static_cast<TokenType>(types[i]) : TokenType::kUnused;
      }
    }
    if (spec_.model == TokenizerModel::kBpe) return {};
    spec_.scores.assign(n, 0);
    if (metadata_.find("tokenizer.ggml.scores") != nullptr) {
      TRY_ASSIGN(const std::vector<float> scores, metadata_.get_floats("tokenizer.ggml.scores"));
      if (scores.size() < n) return bad_data("tokenizer.ggml.scores has {} entries for {} tokens", scores.size(), n);
      std::copy_n(scores.begin(), n, spec_.scores.begin());
    }
    return {};
  }

  // An id the file names. One outside the vocabulary counts as not named, as does a default that lies outside.
  Result<int32_t> special_id(std::string_view key, int32_t missing) const {
    const auto n = static_cast<int64_t>(spec_.tokens.size());
    TRY_ASSIGN(const uint32_t id, metadata_.get_u32(key, 0, UINT32_MAX, UINT32_MAX));
    if (id < n) return static_cast<int32_t>(id);
    return missing < n ? missing : -1;
  }

  Status read_special_ids() {
    const bool no_bos = pre_ != nullptr && pre_->no_default_bos;
    TRY_ASSIGN(spec_.bos_id, special_id("tokenizer.ggml.bos_token_id", no_bos ? -1 : row_->bos));
    TRY_ASSIGN(spec_.eos_id, special_id("tokenizer.ggml.eos_token_id", row_->eos));
    TRY_ASSIGN(spec_.unk_id, special_id("tokenizer.ggml.unknown_token_id", row_->unk));
    TRY_ASSIGN(spec_.pad_id, special_id("tokenizer.ggml.padding_token_id", row_->pad));
    const bool pre_bos = pre_ != nullptr && pre_->add_bos;
    TRY_ASSIGN(bool add_bos, metadata_.get_bool("tokenizer.ggml.add_bos_token", row_->add_bos || pre_bos));
    TRY_ASSIGN(const bool add_eos, metadata_.get_bool("tokenizer.ggml.add_eos_token", row_->add_eos));
    if (pre_ != nullptr && pre_->always_bos) add_bos = true;
    if (add_bos && spec_.bos_id >= 0) spec_.prefix.push_back(spec_.bos_id);
    if (add_eos && spec_.eos_id >= 0) spec_.suffix.push_back(spec_.eos_id);
    return {};
  }

  // Types and the list of ids that end a generation, both corrected by what tokens are called.
  void correct_types() {
    std::set<int32_t> ends;
    for (const std::string_view key : kEndKeys) {
      if (const auto id = special_id(key, -1); id && *id >= 0) ends.insert(*id);
    }
    if (spec_.eos_id >= 0) ends.insert(spec_.eos_id);
    int32_t returns = -1, call = -1, flush = -1, end = -1, tool_response = -1, s = -1;
    for (size_t i = 0; i < spec_.tokens.size(); ++i) {
      const std::string_view text = spec_.tokens[i];
      const auto id = static_cast<int32_t>(i);
      const auto* control = std::find_if(std::begin(kControlTexts), std::end(kControlTexts),
                                         [&](const ControlText& c) { return c.text == text; });
      const bool ends_generation = is_end_of_generation(text) || (control != std::end(kControlTexts) && control->ends);
      if (ends_generation) ends.insert(id);
      if (ends_generation || control != std::end(kControlTexts)) spec_.types[i] = TokenType::kControl;
      if (std::find(std::begin(kAlwaysShown), std::end(kAlwaysShown), text) != std::end(kAlwaysShown)) {
        spec_.types[i] = TokenType::kUserDefined;
      }
      if (text == "<|return|>") returns = id;
      if (text == "<|call|>" || text == "<|calls|>") call = id;
      if (text == "<|flush|>") flush = id;
      if (text == "<|end|>") end = id;
      if (text == "<|tool_response>") tool_response = id;
      if (text == "</s>") s = id;
    }
    // gpt-oss and solar-open end a part of a turn with <|end|>; Gemma 4 has </s> as plain text.
    if (end >= 0 && call >= 0 && (returns >= 0 || flush >= 0)) {
      ends.erase(end);
      spec_.types[static_cast<size_t>(end)] = TokenType::kUserDefined;
    }
    if (s >= 0 && tool_response >= 0) {
      ends.erase(s);
      spec_.types[static_cast<size_t>(s)] = TokenType::kNormal;
    }
    spec_.end_ids.assign(ends.begin(), ends.end());
  }

  Status read_merges() {
    if (metadata_.find("tokenizer.ggml.merges") == nullptr) {
      // Kimi K2 has none.
      if (pre_->names == "kimi-k2") return {};
      return bad_data("tokenizer.ggml.merges is missing, expected for tokenizer.ggml.model '{}'", row_->name);
    }
    TRY_ASSIGN(const std::vector<std::string_view> texts, metadata_.get_texts("tokenizer.ggml.merges"));
    if (texts.size() > kMaxMerges) {
      return bad_data("tokenizer.ggml.merges has {} merges, expected at most {}", texts.size(), kMaxMerges);
    }
    SymbolTable symbols(spec_);
    spec_.merges.reserve(texts.size());
    std::string both;
    for (const std::string_view text : texts) {
      const size_t space = text.find(' ', 1);  // a part may itself start with a space
      if (space == std::string_view::npos) continue;
      const std::string_view left = text.substr(0, space), right = text.substr(space + 1);
      if (right.empty()) continue;
      both.assign(left).append(right);
      // In an expression's order, extra symbols would be numbered as the compiler likes.
      const int32_t l = symbols.find_or_add(left);
      const int32_t r = symbols.find_or_add(right);
      spec_.merges.push_back({l, r, symbols.find_or_add(both)});
    }
    return {};
  }

  Status read_steps() {
    TRY_ASSIGN(const bool space_prefix,
               metadata_.get_bool("tokenizer.ggml.add_space_prefix", spec_.model == TokenizerModel::kSpm));
    using N = NormalizerStep::Kind;
    using D = DecoderStep::Kind;
    const auto spaces_to_metaspace = [&] {
      spec_.normalizer.push_back({.kind = N::kReplace, .pattern = " ", .replacement = std::string(kMetaspace)});
    };
    const auto decode_metaspace = [&](bool strip) {
      spec_.decoder.push_back(
          {.kind = D::kReplace, .pattern = std::string(kMetaspace), .replacement = " ", .normal_only = true});
      spec_.decoder.push_back({.kind = D::kByteFallback});
      spec_.decoder.push_back({.kind = D::kFuse});
      if (strip) spec_.decoder.push_back({.kind = D::kStrip, .pattern = " ", .start = 1});
    };
    switch (spec_.model) {
      case TokenizerModel::kSpm:
        if (space_prefix) spec_.normalizer.push_back({.kind = N::kPrepend, .replacement = " "});
        spaces_to_metaspace();
        decode_metaspace(space_prefix);
        spec_.byte_fallback = true;
        spec_.unknown = UnknownPiece::kToken;
        return {};
      case TokenizerModel::kUnigram: {
        TRY_ASSIGN(const bool merge, metadata_.get_bool("tokenizer.ggml.remove_extra_whitespaces", false));
        if (const gguf::Value* map = metadata_.find("tokenizer.ggml.precompiled_charsmap"); map != nullptr) {
          const bool bytes = map->type() == gguf::ValueType::kArray &&
                             (map->element() == gguf::ValueType::kU8 || map->element() == gguf::ValueType::kI8);
          if (!bytes)
            return bad_data("tokenizer.ggml.precompiled_charsmap is {}, expected u8 or i8[n]", map->describe());
          const auto payload = map->payload();
          spec_.normalizer.push_back(
              {.kind = N::kCharsMapGreedy,
               .pattern = std::string(reinterpret_cast<const char*>(payload.data()), payload.size())});
        }
        spec_.normalizer.push_back(
            {.kind = N::kUnigramSpaces, .replacement = std::string(kMetaspace), .left = space_prefix, .merge = merge});
        decode_metaspace(space_prefix);
        spec_.fuse_unk = true;
        spec_.unknown = UnknownPiece::kToken;
        return {};
      }
      case TokenizerModel::kBpe:
        break;
    }
    spec_.unknown_breaks = true;
    spec_.ignore_merges = pre_->ignore_merges;
    spec_.whole_newlines = pre_->whole_newlines;
    for (const std::string_view step : pre_->steps) {
      if (step.empty()) break;
      if (step == kDigitGroupsStep || step == kDigitGroupsBeforeBoundaryStep) {
        spec_.pre_tokenizer.push_back(
            {.kind = PreTokenizerStep::Kind::kDigitGroups, .bounded = step == kDigitGroupsBeforeBoundaryStep});
        continue;
      }
      TRY_ASSIGN(std::string pattern, regex_to_pcre2(step));
      spec_.pre_tokenizer.push_back({.kind = PreTokenizerStep::Kind::kSplitRegex, .pattern = std::move(pattern)});
    }
    switch (pre_->letters) {
      case PreTokenizerRow::Letters::kBytes:
        spec_.unknown = UnknownPiece::kRawBytes;
        spec_.pre_tokenizer.push_back({.kind = PreTokenizerStep::Kind::kByteLevel});
        spec_.decoder.push_back({.kind = D::kByteLevel, .normal_only = true});
        break;
      case PreTokenizerRow::Letters::kMetaspace:
        spec_.byte_fallback = true;
        spaces_to_metaspace();
        decode_metaspace(false);
        break;
      case PreTokenizerRow::Letters::kUtf8:
        spec_.byte_fallback = true;
        spec_.decoder.push_back({.kind = D::kByteFallback});
        break;
    }
    return {};
  }

  Status add_tokens() {
    spec_.added_order = AddedTokenOrder::kLongestFirst;
    TRY_ASSIGN(std::string name_text, text_or_empty("general.name"));
    std::transform(name_text.begin(), name_text.end(), name_text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    TRY_ASSIGN(const std::string pre, text_or_empty("tokenizer.ggml.pre"));
    // The file does not say which tokens take white space along; these models are known to.
    const bool phi3 = name_text.find("phi-3") != std::string::npos || name_text.find("phi3") != std::string::npos;
    const bool masks = pre.starts_with("jina-v2-");
    for (size_t i = 0; i < spec_.tokens.size(); ++i) {
      const TokenType type = spec_.types[i];
      const std::string_view text = spec_.tokens[i];
      const bool special = type == TokenType::kControl || type == TokenType::kUnknown;
      if (text.empty() || (!special && type != TokenType::kUserDefined)) continue;
      const bool keeps_space = text == "<unk>" || text == "<s>" || text == "<|endoftext|>";
      spec_.added.push_back({.id = static_cast<int32_t>(i),
                             .special = special,
                             .lstrip = masks && text == "<mask>",
                             .rstrip = phi3 && !keeps_space});
    }
    return {};
  }

  Result<std::string> text_or_empty(std::string_view key) const {
    TRY_ASSIGN(const std::string_view text, metadata_.get_text(key, ""));
    return std::string(text);
  }

  const gguf::Metadata& metadata_;
  const ModelRow* row_ = nullptr;
  const PreTokenizerRow* pre_ = nullptr;
  TokenizerSpec spec_;
};

}  // namespace

Result<std::optional<TokenizerSpec>> tokenizer_from_gguf(const gguf::Metadata& metadata) {
  std::optional<TokenizerSpec> none;
  if (metadata.find("tokenizer.ggml.model") == nullptr) return none;
  TRY_ASSIGN(const std::string_view model, metadata.get_text("tokenizer.ggml.model"));
  if (model == "no_vocab" || model == "none") return none;
  const auto* row =
      std::find_if(std::begin(kModels), std::end(kModels), [&](const ModelRow& r) { return r.name == model; });
  if (row == std::end(kModels)) {
    return unsupported("tokenizer.ggml.model '{}' is not supported, only gpt2, gemma4, llama, t5, none and no_vocab",
                       model);
  }
  const PreTokenizerRow* pre = nullptr;
  if (row->model == TokenizerModel::kBpe) {
    TRY_ASSIGN(std::string_view name, metadata.get_text("tokenizer.ggml.pre", "default"));
    if (name.empty()) name = "default";
    if (!row->pre.empty()) name = row->pre;
    pre = find_pre_tokenizer(name);
    if (pre == nullptr) {
      return unsupported("tokenizer.ggml.pre '{}' is unknown, expected one of: {}", name, pre_tokenizer_names());
    }
  }
  TRY_ASSIGN(TokenizerSpec spec, MetadataReader(metadata).read(*row, pre));
  return std::optional<TokenizerSpec>(std::move(spec));
}

}  // namespace ll
