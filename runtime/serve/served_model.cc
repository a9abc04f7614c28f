#include "runtime/serve/served_model.h"

#include "runtime/text/utf8.h"

namespace ll::serve {

Result<std::shared_ptr<ServedModel>> ServedModel::load(const Plan& plan, std::string_view alias) {
  if (plan.tokenizer.empty()) return unsupported("the plan has no tokenizer, and a server answers with text");
  auto spec = deserialize_tokenizer(plan.tokenizer);
  if (!spec) return std::move(spec).error().in("the plan's tokenizer");
  auto tokenizer = Tokenizer::create(*std::move(spec));
  if (!tokenizer) return std::move(tokenizer).error().in("the plan's tokenizer");
  auto model =
      std::make_shared<ServedModel>(ServedModel{.name = std::string(alias), .tokenizer = *std::move(tokenizer)});
  if (model->name.empty()) model->name = plan.model.name;
  if (model->name.empty()) model->name = plan.model.architecture;
  if (!plan.chat_template.empty()) {
    auto compiled = jinja::Template::compile(plan.chat_template);
    if (!compiled) return std::move(compiled).error().in("the plan's chat template");
    model->chat_template = *std::move(compiled);
    model->template_source = plan.chat_template;
    model->tool_format = tool_format_of(plan.chat_template);
    model->has_reasoning = plan.chat_template.find(kThinkOpen) != std::string_view::npos ||
                           plan.chat_template.find(kThinkClose) != std::string_view::npos;
    model->has_developer_role = plan.chat_template.find("developer") != std::string_view::npos;
  }
  model->context_length = plan.model.context_length;
  model->most_tokens = plan.model.context_length;
  model->bos_token = plan.model.bos_token;
  const TokenizerSpec& s = model->tokenizer.spec();
  model->hidden.resize(s.types.size());
  for (size_t i = 0; i < s.types.size(); ++i) {
    model->hidden[i] = s.types[i] == TokenType::kControl || s.types[i] == TokenType::kUnknown;
  }
  return model;
}

std::string token_bytes(const Tokenizer& tokenizer, int32_t id) {
  const TokenizerSpec& spec = tokenizer.spec();
  if (id < 0 || static_cast<size_t>(id) >= spec.types.size()) return {};
  const std::string_view text = tokenizer.decoded_text(id);
  const TokenType type = spec.types[static_cast<size_t>(id)];
  for (const DecoderStep& step : spec.decoder) {
    if (step.kind == DecoderStep::Kind::kByteLevel && type == TokenType::kNormal) {
      std::string bytes;
      for (size_t at = 0; at < text.size();) {
        const CodePoint c = decode_utf8(text.substr(at));
        const int byte = c.valid ? letter_byte(c.value) : -1;
        if (byte < 0) return std::string(text);
        bytes += static_cast<char>(byte);
        at += c.size;
      }
      return bytes;
    }
    if (step.kind == DecoderStep::Kind::kByteFallback && text.size() == 6 && text.starts_with("<0x")) {
      const std::string digits(text.substr(3, 2));
      if (digits.find_first_not_of("0123456789ABCDEFabcdef") == std::string::npos) {
        return std::string(1, static_cast<char>(std::stoi(digits, nullptr, 16)));
      }
    }
  }
  const int32_t ids[] = {id};
  return tokenizer.decode(ids, {.show_special = true, .continues = true});
}

}  // namespace ll::serve
