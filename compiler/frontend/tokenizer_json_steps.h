// The pipeline of tokenizer.json: normalizer, pre_tokenizer, decoder and post_processor objects.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "runtime/base/result.h"
#include "runtime/text/tokenizer_spec.h"

namespace ll {

// Each appends the steps of one object to `spec`; Sequences are flattened. kUnsupported names a type we do not have.
Status add_normalizer(const nlohmann::json& from, TokenizerSpec& spec);
Status add_pre_tokenizer(const nlohmann::json& from, TokenizerSpec& spec);
Status add_decoder(const nlohmann::json& from, TokenizerSpec& spec);

// Wraps prefix and suffix around those that `spec` has already. `find` gives the id of a token's text, -1 for none.
Status add_post_processor(const nlohmann::json& from, const std::function<int32_t(std::string_view)>& find,
                          TokenizerSpec& spec);

}  // namespace ll
