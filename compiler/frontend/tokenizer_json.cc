#include "compiler/frontend/tokenizer_json.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "compiler/frontend/json_fields.h"
#include "compiler/frontend/tokenizer_build.h"
#include "compiler/frontend/tokenizer_json_reader.h"
#include "compiler/frontend/tokenizer_json_steps.h"

namespace ll {
namespace {

using nlohmann::json;

// Classes of transformers whose add_bos_token and add_eos_token replace what the post-processor says.
constexpr std::string_view kTemplateFromConfig[] = {"LlamaTokenizer",     "LlamaTokenizerFast",
                                                    "CodeLlamaTokenizer", "CodeLlamaTokenizerFast",
                                                    "GemmaTokenizer",     "GemmaTokenizerFast"};

class Reader {
 public:
  Reader(const TokenizerJson& file, const JsonFields& fields) : file_(file), fields_(fields) {}

  Result<TokenizerSpec> read(std::string_view config) {
    TRY_ASSIGN(const std::optional<JsonFields> model, fields_.get_object("model"));
    if (!model || !file_.has_vocab) return bad_data("'model.vocab' is missing");
    TRY(read_model(*model));
    TRY(read_vocabulary());
    TRY(read_added_tokens());
    TRY(place_tokens());
    TRY(read_model_settings(*model));
    if (spec_.model == TokenizerModel::kBpe) TRY(read_merges());
    TRY(read_pipeline());
    if (Status status = read_config(config); !status) return std::move(status).error().in("tokenizer_config.json");
    TRY(check_tokenizer(spec_));
    return std::move(spec_);
  }

 private:
  struct Token {
    std::string_view text;
    double score = 0;
    bool used = false;
  };
  struct Added {
    std::string text;
    AddedToken token;
  };

  Status read_model(const JsonFields& model) {
    TRY_ASSIGN(const std::string type, model.get_text("type", file_.vocab_is_list ? "Unigram" : "BPE"));
    if (type != "BPE" && type != "Unigram")
      return unsupported("tokenizer model '{}', only BPE and Unigram are supported", type);
    spec_.model = type == "BPE" ? TokenizerModel::kBpe : TokenizerModel::kUnigram;
    if (file_.vocab_is_list != (type == "Unigram"))
      return bad_data("the vocabulary of '{}' has the form of another model", type);
    return {};
  }

  // Which text each id has, as far as the model says.
  Status read_vocabulary() {
    const size_t n = file_.vocab.size();
    int64_t last = -1;
    for (size_t i = 0; i < n; ++i) {
      const int64_t id = file_.vocab_is_list ? static_cast<int64_t>(i) : file_.ids[i];
      if (id < 0 || id >= static_cast<int64_t>(kMaxTokens)) {
        return bad_data("token '{}' has id {}, expected 0 to {}", file_.vocab[i], id, kMaxTokens - 1);
      }
      last = std::max(last, id);
    }
    tokens_.resize(static_cast<size_t>(last + 1));
    ids_.reserve(n);
    for (size_t i = 0; i < n; ++i) {
      const size_t id = file_.vocab_is_list ? i : static_cast<size_t>(file_.ids[i]);
      // Of two texts with one id the later one counts, of two ids of one text too.
      tokens_[id] = {file_.vocab[i], file_.vocab_is_list ? file_.scores[i] : 0, true};
      ids_.insert_or_assign(file_.vocab[i], static_cast<int32_t>(id));
    }
    return {};
  }

  Status read_added_tokens() {
    const json* list = fields_.find("added_tokens");
    if (list == nullptr) return {};
    if (!list->is_array()) return bad_data("'added_tokens' is no list");
    for (const json& item : *list) {
      TRY_ASSIGN(const JsonFields fields, JsonFields::of(item, "added_tokens"));
      Added added;
      TRY_ASSIGN(added.text, fields.get_text("content"));
      if (added.text.empty()) continue;
      TRY_ASSIGN(const uint32_t id, fields.get_u32("id", 0, kMaxTokens - 1));
      AddedToken& t = added.token;
      TRY_ASSIGN(t.special, fields.get_bool("special", false));
      TRY_ASSIGN(t.normalized, fields.get_bool("normalized", !t.special));
      TRY_ASSIGN(t.single_word, fields.get_bool("single_word", false));
      TRY_ASSIGN(t.lstrip, fields.get_bool("lstrip", false));
      TRY_ASSIGN(t.rstrip, fields.get_bool("rstrip", false));
      const auto known = ids_.find(added.text);
      t.in_model = known != ids_.end();
      t.id = t.in_model ? known->second : static_cast<int32_t>(id);
      const auto same = added_of_text_.find(added.text);
      if (same != added_of_text_.end()) {
        added_[same->second].token = t;
      } else {
        added_of_text_.emplace(added.text, added_.size());
        added_.push_back(std::move(added));
      }
    }
    return {};
  }

  // Fills the spec's tables: the model's tokens, the added ones in the gaps and behind.
  Status place_tokens() {
    for (const Added& a : added_) {
      const auto id = static_cast<size_t>(a.token.id);
      if (id >= tokens_.size()) tokens_.resize(id + 1);
      if (tokens_[id].used && tokens_[id].text != a.text) {
        return bad_data("added token '{}' has id {}, which is '{}'", a.text, id, tokens_[id].text);
      }
      tokens_[id].text = a.text;
      tokens_[id].used = true;
    }
    spec_.tokens.ends.reserve(tokens_.size());
    for (const Token& t : tokens_) {
      spec_.tokens.push_back(t.text);
      spec_.types.push_back(t.used ? TokenType::kNormal : TokenType::kUnused);
      if (spec_.model != TokenizerModel::kBpe) spec_.scores.push_back(t.score);
    }
    for (const Added& a : added_) {
      spec_.added.push_back(a.token);
      spec_.types[static_cast<size_t>(a.token.id)] = a.token.special ? TokenType::kControl : TokenType::kUserDefined;
    }
    std::sort(spec_.added.begin(), spec_.added.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
    return {};
  }

  Status read_model_settings(const JsonFields& model) {
    TRY_ASSIGN(spec_.byte_fallback, model.get_bool("byte_fallback", false));
    if (spec_.byte_fallback) {
      for (size_t i = 0; i < spec_.tokens.size(); ++i) {
        if (spec_.types[i] == TokenType::kNormal && is_byte_token(spec_.tokens[i])) spec_.types[i] = TokenType::kByte;
      }
    }
    if (spec_.model == TokenizerModel::kUnigram) {
      spec_.fuse_unk = true;
      spec_.specials_in_model = true;
      spec_.unknown = UnknownPiece::kToken;
      if (model.has("unk_id")) {
        TRY_ASSIGN(const uint32_t unk, model.get_u32("unk_id", 0, kMaxTokens - 1));
        if (unk >= file_.vocab.size())
          return bad_data("'model.unk_id' is {}, the vocabulary has {} tokens", unk, file_.vocab.size());
        spec_.unk_id = static_cast<int32_t>(unk);
      }
      return {};
    }
    TRY_ASSIGN(const double dropout, model.get_number("dropout", 0, 1, 0));
    if (dropout > 0) return unsupported("a BPE model with dropout {}, whose ids are random", dropout);
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      TRY_ASSIGN(const std::string text, model.get_text(key, ""));
      if (!text.empty()) return unsupported("a BPE model with {} '{}'", key, text);
    }
    TRY_ASSIGN(spec_.fuse_unk, model.get_bool("fuse_unk", false));
    TRY_ASSIGN(spec_.ignore_merges, model.get_bool("ignore_merges", false));
    TRY_ASSIGN(const std::string unk, model.get_text("unk_token", ""));
    if (unk.empty()) return {};
    spec_.unk_id = find(unk);
    if (spec_.unk_id < 0) return bad_data("'model.unk_token' is '{}', which is no token", unk);
    spec_.unknown = UnknownPiece::kToken;
    return {};
  }

  Status read_merges() {
    spec_.merges.reserve(file_.merge_parts.size() / 2);
    std::string both;
    for (size_t i = 0; i + 1 < file_.merge_parts.size(); i += 2) {
      const std::string_view left = file_.merge_parts[i], right = file_.merge_parts[i + 1];
      both.assign(left).append(right);
      BpeMerge merge;
      for (const auto& [text, id] :
           {std::pair<std::string_view, int32_t*>(left, &merge.left), {right, &merge.right}, {both, &merge.result}}) {
        const auto found = ids_.find(text);
        if (found == ids_.end()) return bad_data("merge {} has '{}', which is no token", i / 2, text);
        *id = found->second;
      }
      spec_.merges.push_back(merge);
    }
    return {};
  }

  Status read_pipeline() {
    if (const json* from = fields_.find("normalizer")) TRY(add_normalizer(*from, spec_));
    if (const json* from = fields_.find("pre_tokenizer")) TRY(add_pre_tokenizer(*from, spec_));
    if (const json* from = fields_.find("decoder")) {
      TRY(add_decoder(*from, spec_));
    } else {
      spec_.decoder.push_back({.kind = DecoderStep::Kind::kJoinWithSpaces});
    }
    const json* from = fields_.find("post_processor");
    if (from == nullptr) return {};
    return add_post_processor(
        *from, [this](std::string_view text) { return find(text); }, spec_);
  }

  Status read_config(std::string_view text) {
    if (text.empty()) return {};
    TRY_ASSIGN(const auto document, parse_json(std::as_bytes(std::span(text.data(), text.size()))));
    TRY_ASSIGN(const JsonFields config, JsonFields::of(*document));
    TRY_ASSIGN(spec_.clean_up, config.get_bool("clean_up_tokenization_spaces", false));
    for (const auto& [key, id] : {std::pair<std::string_view, int32_t*>("bos_token", &spec_.bos_id),
                                  {"eos_token", &spec_.eos_id},
                                  {"pad_token", &spec_.pad_id}}) {
      const json* value = config.find(key);
      if (value != nullptr && value->is_object()) value = value->contains("content") ? &(*value)["content"] : nullptr;
      if (value != nullptr && value->is_string()) *id = find(value->get_ref<const std::string&>());
    }
    if (spec_.eos_id >= 0) spec_.end_ids = {spec_.eos_id};
    TRY_ASSIGN(const std::string name, config.get_text("tokenizer_class", ""));
    if (std::find(std::begin(kTemplateFromConfig), std::end(kTemplateFromConfig), name) ==
        std::end(kTemplateFromConfig))
      return {};
    if (config.has("add_bos_token")) {
      TRY_ASSIGN(const bool add, config.get_bool("add_bos_token", false));
      spec_.prefix.clear();
      if (add && spec_.bos_id >= 0) spec_.prefix = {spec_.bos_id};
    }
    if (config.has("add_eos_token")) {
      TRY_ASSIGN(const bool add, config.get_bool("add_eos_token", false));
      spec_.suffix.clear();
      if (add && spec_.eos_id >= 0) spec_.suffix = {spec_.eos_id};
    }
    return {};
  }

  int32_t find(std::string_view text) const {
    if (const auto added = added_of_text_.find(text); added != added_of_text_.end())
      return added_[added->second].token.id;
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
  }

  const TokenizerJson& file_;
  const JsonFields& fields_;
  TokenizerSpec spec_;
  std::vector<Token> tokens_;
  std::unordered_map<std::string_view, int32_t> ids_;  // of the model; views into file_.vocab
  std::vector<Added> added_;
  std::map<std::string, size_t, std::less<>> added_of_text_;
};

}  // namespace

Result<TokenizerSpec> tokenizer_from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json) {
  TRY_ASSIGN(const TokenizerJson file, read_tokenizer_json(tokenizer_json));
  TRY_ASSIGN(const JsonFields fields, JsonFields::of(*file.rest));
  return Reader(file, fields).read(tokenizer_config_json);
}

}  // namespace ll
