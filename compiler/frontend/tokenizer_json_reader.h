// tokenizer.json as it lies in the file: the long lists in flat tables, the short rest as a JSON document.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/text/tokenizer_spec.h"

namespace ll {

inline constexpr size_t kMaxTokenizerJsonBytes = size_t{256} << 20;
inline constexpr size_t kMaxTokenizerJsonValues = 1 << 20;  // of the rest

struct TokenizerJson {
  // The fields of the top level and of "model" that mean something to us, without model.vocab and model.merges.
  std::shared_ptr<const nlohmann::json> rest;

  bool has_vocab = false;
  bool vocab_is_list = false;  // [[text, score], ...] (Unigram), else {text: id, ...}
  TextTable vocab;             // in the file's order
  std::vector<int64_t> ids;    // of an object
  std::vector<double> scores;  // of a list
  TextTable merge_parts;       // two for each merge, from "left right" or ["left", "right"]
};

// One pass, no recursion; nesting is bounded by kMaxJsonDepth. Where a key comes twice, the last one counts. kBadData:
// no JSON, or a vocabulary or merge of another form.
Result<TokenizerJson> read_tokenizer_json(std::string_view text);

}  // namespace ll
