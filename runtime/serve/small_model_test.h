// A model's text side with one token for each byte and a few special ones, for tests.
#pragma once

#include <memory>
#include <string>

#include "runtime/serve/served_model.h"
#include "runtime/text/utf8.h"

namespace ll::serve::small {

inline constexpr int32_t kBos = 256, kEos = 257, kStart = 258, kEnd = 259, kToolCall = 260;

inline TokenizerSpec tokenizer_spec() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) {
    std::string text;
    append_utf8(text, byte_letter(static_cast<uint8_t>(byte)));
    spec.tokens.push_back(text);
    spec.types.push_back(TokenType::kNormal);
  }
  for (const char* special : {"<s>", "</s>", "<|im_start|>", "<|im_end|>", "<tool_call>"}) {
    spec.added.push_back({.id = static_cast<int32_t>(spec.tokens.size()), .special = true});
    spec.tokens.push_back(special);
    spec.types.push_back(TokenType::kControl);
  }
  spec.pre_tokenizer.push_back({.kind = PreTokenizerStep::Kind::kByteLevel});
  spec.decoder.push_back({.kind = DecoderStep::Kind::kByteLevel});
  spec.bos_id = kBos;
  spec.eos_id = kEos;
  spec.end_ids = {kEos, kEnd};
  spec.prefix = {kBos};
  return spec;
}

inline constexpr const char* kChatMl =
    "{{ bos_token }}{% if tools %}tools:{{ tools | tojson }}\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role "
    "}}\n"
    "{% if m.content is string %}{{ m.content }}{% endif %}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | "
    "tojson }}"
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if thinking %}<think>\n{% endif %}{% endif %}";

inline std::shared_ptr<const ServedModel> model(std::string chat_template = kChatMl) {
  auto tokenizer = Tokenizer::create(tokenizer_spec());
  auto made = std::make_shared<ServedModel>(ServedModel{.name = "small", .tokenizer = *std::move(tokenizer)});
  if (!chat_template.empty()) {
    made->chat_template = *jinja::Template::compile(chat_template);
    made->template_source = chat_template;
    made->tool_format = tool_format_of(chat_template);
    made->has_reasoning = chat_template.find("<think>") != std::string::npos;
  }
  made->context_length = made->most_tokens = 1000;
  made->bos_token = kBos;
  made->hidden.resize(256);
  made->hidden.resize(261, true);
  return made;
}

inline std::vector<int32_t> bytes(std::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

}  // namespace ll::serve::small
