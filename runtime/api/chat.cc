// Conversations as token ids.
#include "runtime/api/handles.h"
#include "runtime/api/status.h"
#include "runtime/text/jinja/json_value.h"

namespace ll::api {

Result<const jinja::Template*> Model::chat_template() {
  const std::lock_guard lock(text_mutex_);
  if (chat_template_ == nullptr) {
    if (plan().chat_template.empty()) {
      return unsupported("the plan has no chat template: the model continues texts, and that is all it does");
    }
    auto compiled = jinja::Template::compile(plan().chat_template);
    if (!compiled) return std::move(compiled).error().in("the plan's chat template");
    chat_template_ = std::make_unique<jinja::Template>(*std::move(compiled));
  }
  return chat_template_.get();
}

namespace {

// A list of objects with texts as role and content.
Status check_messages(const jinja::Value& messages) {
  using Kind = jinja::Value::Kind;
  if (messages.kind != Kind::kList || messages.items.empty()) {
    return usage("messages are no list with something in it, expected [{{\"role\": .., \"content\": ..}}, ..]");
  }
  for (size_t i = 0; i < messages.items.size(); ++i) {
    const jinja::Value& message = messages.items[i];
    for (const char* member : {"role", "content"}) {
      const jinja::Value* found = message.kind == Kind::kDict ? message.find(member) : nullptr;
      if (found == nullptr || found->kind != Kind::kString) {
        return usage("message {} has no text as \"{}\", expected {{\"role\": .., \"content\": ..}}", i, member);
      }
    }
  }
  return {};
}

// The template's own text, and nothing that a message says, may become special tokens.
Result<std::vector<int32_t>> render(const jinja::Template& chat_template, const Tokenizer& tokenizer,
                                    jinja::Value messages) {
  jinja::Value context = jinja::Value::dict();
  context.set("messages", std::move(messages));
  context.set("add_generation_prompt", jinja::Value::of(true));
  const TokenizerSpec& spec = tokenizer.spec();
  const std::pair<const char*, int32_t> tokens[] = {
      {"bos_token", spec.bos_id}, {"eos_token", spec.eos_id}, {"unk_token", spec.unk_id}, {"pad_token", spec.pad_id}};
  for (const auto& [name, id] : tokens) {
    if (id >= 0) context.set(name, jinja::Value::of(std::string(tokenizer.token_text(id)), true));
  }
  auto rendered = chat_template.render(context);
  if (!rendered) return usage("the chat template refuses the messages: {}", rendered.error().message);
  std::vector<TextRange> trusted;
  size_t at = 0;
  for (const jinja::Segment& segment : rendered->segments) {
    if (segment.trusted) trusted.push_back({at, at + segment.size});
    at += segment.size;
  }
  return tokenizer.encode(rendered->text, {.parse_special = true, .special_ranges = trusted});
}

}  // namespace

}  // namespace ll::api

// At global scope: a definition inside a namespace would not take the header's visibility.
using namespace ll;       // NOLINT(google-build-using-namespace)
using namespace ll::api;  // NOLINT(google-build-using-namespace)

extern "C" {

llrt_status llrt_chat_tokenize(const llrt_model* model, const char* messages, size_t messages_size, int32_t* ids,
                               size_t capacity, size_t* count) {
  return guard([&]() -> Status {
    TRY(need(model, "model"));
    TRY(need(messages, "messages"));
    TRY(need(count, "count"));
    TRY_ASSIGN(const Tokenizer* tokenizer, model->model->tokenizer());
    TRY_ASSIGN(const jinja::Template* chat_template, model->model->chat_template());
    auto list = jinja::parse_json({messages, messages_size});
    if (!list) return usage("messages: {}", list.error().message);
    TRY(check_messages(*list));
    TRY_ASSIGN(const std::vector<int32_t> found, render(*chat_template, *tokenizer, *std::move(list)));
    *count = found.size();
    if (ids == nullptr) return {};
    if (found.size() > capacity) return usage("room for {} ids, the conversation has {}", capacity, found.size());
    std::copy(found.begin(), found.end(), ids);
    return {};
  });
}

}  // extern "C"
