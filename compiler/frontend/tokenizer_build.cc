#include "compiler/frontend/tokenizer_build.h"

#include <algorithm>
#include <cctype>
#include <iterator>

namespace ll {
namespace {

constexpr std::string_view kEnds[] = {"<|eot_id|>",
                                      "<|im_end|>",
                                      "<|end|>",
                                      "<|return|>",
                                      "<|call|>",
                                      "<|flush|>",
                                      "<|calls|>",
                                      "<end_of_turn>",
                                      "</s>",
                                      "<|endoftext|>",
                                      "<EOT>",
                                      "<|eom_id|>",
                                      "_<EOT>",
                                      "[EOT]",
                                      "[EOS]",
                                      "<|end_of_text|>",
                                      "<eos>",
                                      "<end_of_utterance>",
                                      "<turn|>",
                                      "[e~[",
                                      "<|tool_response>",
                                      "<｜end▁of▁sentence｜>"};

}  // namespace

SymbolTable::SymbolTable(TokenizerSpec& spec) : spec_(spec) {
  tokens_.reserve(spec.tokens.size());
  for (size_t i = 0; i < spec.tokens.size(); ++i) tokens_.insert_or_assign(spec.tokens[i], static_cast<int32_t>(i));
}

int32_t SymbolTable::find(std::string_view text) const {
  const auto found = tokens_.find(text);
  return found == tokens_.end() ? -1 : found->second;
}

int32_t SymbolTable::find_or_add(std::string_view text) {
  if (const int32_t id = find(text); id >= 0) return id;
  const auto next = static_cast<int32_t>(spec_.tokens.size() + spec_.extra_symbols.size());
  const auto [place, fresh] = extra_.try_emplace(std::string(text), next);
  if (fresh) spec_.extra_symbols.push_back(text);
  return place->second;
}

bool is_byte_token(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text.back() == '>' &&
         std::all_of(text.begin() + 3, text.begin() + 5,
                     [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; });
}

bool is_end_of_generation(std::string_view text) {
  return std::find(std::begin(kEnds), std::end(kEnds), text) != std::end(kEnds);
}

}  // namespace ll
