#include "compiler/frontend/tokenizer_json_reader.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "compiler/frontend/json_fields.h"

namespace ll {
namespace {

using nlohmann::json;

constexpr std::string_view kTopKeys[] = {"added_tokens", "normalizer",     "pre_tokenizer",
                                         "model",        "post_processor", "decoder"};
constexpr std::string_view kModelKeys[] = {
    "type",     "dropout",       "unk_token",    "unk_id", "continuing_subword_prefix", "end_of_word_suffix",
    "fuse_unk", "byte_fallback", "ignore_merges"};

template <size_t N>
bool is_one_of(const std::string& key, const std::string_view (&keys)[N]) {
  return std::find(std::begin(keys), std::end(keys), key) != std::end(keys);
}

// nlohmann's event interface. Where in the document an event belongs is known from the depth and from what was last
// opened.
class Handler : public nlohmann::json_sax<json> {
 public:
  TokenizerJson out;
  std::string failure;

  Handler() { open_.push_back(&root_); }

  bool null() override { return value(json()); }
  bool boolean(bool v) override { return value(json(v)); }
  bool number_integer(int64_t v) override { return number(static_cast<double>(v), v, json(v)); }
  bool number_unsigned(uint64_t v) override {
    return number(static_cast<double>(v), v <= INT64_MAX ? static_cast<int64_t>(v) : -1, json(v));
  }
  bool number_float(double v, const std::string&) override { return number(v, -1, json(v)); }
  bool binary(json::binary_t&) override { return fail("binary data"); }

  bool string(std::string& v) override {
    if (place_ == Place::kVocab && out.vocab_is_list && depth_ == 4 && item_ == 0) {
      ++item_;
      return push(out.vocab, v);
    }
    if (place_ == Place::kMerges && depth_ == 3) {
      if (v.starts_with("#version")) return true;  // first line of merges.txt
      const size_t space = v.find(' ');
      if (space == std::string::npos || v.find(' ', space + 1) != std::string::npos)
        return fail("merge '" + v + "', expected two parts");
      return push(out.merge_parts, std::string_view(v).substr(0, space)) &&
             push(out.merge_parts, std::string_view(v).substr(space + 1));
    }
    if (place_ == Place::kMerges && depth_ == 4 && item_ < 2) {
      ++item_;
      return push(out.merge_parts, v);
    }
    return value(json(std::move(v)));
  }

  bool start_object(size_t) override {
    if (place_ == Place::kVocabKey) {
      start_vocab(false);
      return deeper();
    }
    if (!may_nest()) return false;
    return open(json::object());
  }
  bool start_array(size_t) override {
    if (place_ == Place::kVocabKey) {
      start_vocab(true);
      return deeper();
    }
    if (place_ == Place::kMergesKey) {
      place_ = Place::kMerges;
      out.merge_parts = {};
      return deeper();
    }
    if (place_ == Place::kMerges || (place_ == Place::kVocab && out.vocab_is_list)) {
      if (depth_ != 3) return fail("a list too deep in a vocabulary or merge");
      item_ = 0;
      return deeper();
    }
    if (!may_nest()) return false;
    return open(json::array());
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& k) override {
    if (place_ == Place::kVocab) return push(out.vocab, k);
    if (skip_ > 0) return true;
    if (depth_ == 1 && !is_one_of(k, kTopKeys)) {
      skip_next_ = true;
      return true;
    }
    if (depth_ == 2 && in_model_) {
      if (k == "vocab" || k == "merges") {
        place_ = k == "vocab" ? Place::kVocabKey : Place::kMergesKey;
        return true;
      }
      if (!is_one_of(k, kModelKeys)) {
        skip_next_ = true;
        return true;
      }
    }
    if (depth_ == 1) model_key_ = k == "model";
    key_ = std::move(k);
    return true;
  }

  bool parse_error(size_t place, const std::string&, const nlohmann::detail::exception& e) override {
    if (failure.empty()) failure = "byte " + std::to_string(place) + ": " + e.what();
    return false;
  }

  std::shared_ptr<const json> take_rest() { return std::make_shared<const json>(std::move(root_)); }

 private:
  enum class Place { kElsewhere, kVocabKey, kVocab, kMergesKey, kMerges };

  bool fail(std::string what) {
    if (failure.empty()) failure = std::move(what);
    return false;
  }
  bool push(TextTable& table, std::string_view text) {
    if (table.bytes.size() + text.size() > UINT32_MAX || table.size() >= 2 * kMaxMerges)
      return fail("too many texts in a vocabulary or merges");
    table.push_back(text);
    return true;
  }
  void start_vocab(bool list) {
    place_ = Place::kVocab;
    out.has_vocab = true;
    out.vocab_is_list = list;
    out.vocab = {};
    out.ids.clear();
    out.scores.clear();
  }
  bool deeper() {
    if (++depth_ > static_cast<size_t>(kMaxJsonDepth))
      return fail("nested deeper than " + std::to_string(kMaxJsonDepth));
    return true;
  }
  bool may_nest() {
    if (place_ != Place::kElsewhere) return fail("a vocabulary or merge of another form");
    return true;
  }

  bool number(double v, int64_t id, json&& as_json) {
    if (place_ == Place::kVocab && !out.vocab_is_list && depth_ == 3) {
      out.ids.push_back(id);
      return true;
    }
    if (place_ == Place::kVocab && out.vocab_is_list && depth_ == 4 && item_ == 1) {
      ++item_;
      out.scores.push_back(v);
      return true;
    }
    return value(std::move(as_json));
  }

  bool value(json&& v) {
    if (place_ == Place::kVocabKey || place_ == Place::kMergesKey) {  // null: as if it were not there
      if (!v.is_null()) return fail("a vocabulary or merges that are no list");
      place_ = Place::kElsewhere;
      return true;
    }
    if (place_ != Place::kElsewhere) return fail("a vocabulary or merge of another form");
    if (skip_ > 0) return true;
    if (skip_next_) {
      skip_next_ = false;
      return true;
    }
    return store(std::move(v)) != nullptr;
  }

  json* store(json&& v) {
    if (++values_ > kMaxTokenizerJsonValues) {
      fail("more than " + std::to_string(kMaxTokenizerJsonValues) + " values");
      return nullptr;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    if (parent.is_object()) {
      json& slot = parent[key_];
      slot = std::move(v);
      return &slot;
    }
    parent = std::move(v);
    return &parent;
  }

  bool open(json&& container) {
    if (skip_ > 0 || skip_next_) {
      skip_next_ = false;
      ++skip_;
      return deeper();
    }
    if (depth_ == 1) in_model_ = model_key_;
    json* const at = store(std::move(container));
    if (at == nullptr) return false;
    if (depth_ > 0) open_.push_back(at);
    return deeper();
  }

  bool close() {
    --depth_;
    if (skip_ > 0) {
      --skip_;
    } else if (place_ == Place::kVocab || place_ == Place::kMerges) {
      if (depth_ == 2) place_ = Place::kElsewhere;
      if (depth_ == 3 && item_ != 2) return fail("an entry of a vocabulary or merge without two parts");
      item_ = 0;
    } else if (depth_ > 0) {
      open_.pop_back();
    }
    return true;
  }

  json root_;
  std::vector<json*> open_;  // containers under way; stable, since only the innermost one grows
  std::string key_;
  size_t depth_ = 0, skip_ = 0, values_ = 0;
  int item_ = 0;
  bool model_key_ = false, in_model_ = false, skip_next_ = false;
  Place place_ = Place::kElsewhere;
};

}  // namespace

Result<TokenizerJson> read_tokenizer_json(std::string_view text) {
  if (text.size() > kMaxTokenizerJsonBytes) {
    return bad_data("{} bytes, expected at most {}", text.size(), kMaxTokenizerJsonBytes);
  }
  Handler handler;
  if (!json::sax_parse(text.begin(), text.end(), &handler)) return bad_data("{}", handler.failure);
  if (handler.out.ids.size() + handler.out.scores.size() != handler.out.vocab.size()) {
    return bad_data("a vocabulary of {} texts has {} ids or scores", handler.out.vocab.size(),
                    handler.out.ids.size() + handler.out.scores.size());
  }
  TokenizerJson out = std::move(handler.out);
  out.rest = handler.take_rest();
  return out;
}

}  // namespace ll
