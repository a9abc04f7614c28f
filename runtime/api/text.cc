#include <cstdlib>

#include "runtime/api/handles.h"
#include "runtime/api/status.h"

namespace ll::api {

Result<Tokenizer> read_tokenizer(const Plan& plan) {
  if (plan.tokenizer.empty()) return unsupported("the plan has no tokenizer: give token ids instead of text");
  auto spec = deserialize_tokenizer(plan.tokenizer);
  if (!spec) return std::move(spec).error().in("the plan's tokenizer");
  auto tokenizer = Tokenizer::create(*std::move(spec));
  if (!tokenizer) return std::move(tokenizer).error().in("the plan's tokenizer");
  return tokenizer;
}

Result<const Tokenizer*> Model::tokenizer() {
  const std::lock_guard lock(text_mutex_);
  if (tokenizer_ == nullptr) {
    TRY_ASSIGN(Tokenizer tokenizer, read_tokenizer(plan()));
    tokenizer_ = std::make_unique<Tokenizer>(std::move(tokenizer));
  }
  return tokenizer_.get();
}

char* copy_text(const std::string& text) {
  auto* const copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

namespace {

void start(llrt_detokenizer& d) { d.detokenizer = std::make_unique<Detokenizer>(*d.tokenizer, d.options); }

Status check_flags(uint32_t flags, uint32_t known) {
  if ((flags & ~known) != 0) return usage("flags are {:#x}, expected a part of {:#x}", flags, known);
  return {};
}

// Runs `body`, which returns the next text, and hands it out.
template <class F>
llrt_status give(llrt_detokenizer* detokenizer, const char** text, size_t* size, F body) {
  return guard([&]() -> Status {
    TRY(need(detokenizer, "detokenizer"));
    TRY(need(text, "text"));
    const std::lock_guard lock(detokenizer->mutex);
    detokenizer->text = body();
    *text = detokenizer->text.c_str();
    if (size != nullptr) *size = detokenizer->text.size();
    return {};
  });
}

}  // namespace

}  // namespace ll::api

// At global scope: a definition inside a namespace would not take the header's visibility.
using namespace ll;       // NOLINT(google-build-using-namespace)
using namespace ll::api;  // NOLINT(google-build-using-namespace)

extern "C" {

llrt_status llrt_tokenize(const llrt_model* model, const char* text, size_t text_size, uint32_t flags, int32_t* ids,
                          size_t capacity, size_t* count) {
  return guard([&]() -> Status {
    TRY(need(model, "model"));
    TRY(need(count, "count"));
    if (text_size > 0) TRY(need(text, "text"));
    TRY(check_flags(flags, LLRT_ADD_SPECIAL | LLRT_PARSE_SPECIAL));
    TRY_ASSIGN(const Tokenizer* tokenizer, model->model->tokenizer());
    EncodeOptions options;
    options.add_special = (flags & LLRT_ADD_SPECIAL) != 0;
    options.parse_special = (flags & LLRT_PARSE_SPECIAL) != 0;
    TRY_ASSIGN(const std::vector<int32_t> found, tokenizer->encode({text, text_size}, options));
    *count = found.size();
    if (ids == nullptr) return {};
    if (found.size() > capacity) return usage("room for {} ids, the text has {}", capacity, found.size());
    std::copy(found.begin(), found.end(), ids);
    return {};
  });
}

llrt_status llrt_detokenizer_create(const llrt_model* model, uint32_t flags, llrt_detokenizer** detokenizer) {
  return guard([&]() -> Status {
    TRY(need(detokenizer, "detokenizer"));
    *detokenizer = nullptr;
    TRY(need(model, "model"));
    TRY(check_flags(flags, LLRT_SHOW_SPECIAL | LLRT_CONTINUES));
    auto handle = std::make_unique<llrt_detokenizer>();
    handle->model = model->model;
    TRY_ASSIGN(handle->tokenizer, handle->model->tokenizer());
    handle->options.show_special = (flags & LLRT_SHOW_SPECIAL) != 0;
    handle->options.continues = (flags & LLRT_CONTINUES) != 0;
    start(*handle);
    *detokenizer = handle.release();
    return {};
  });
}

void llrt_detokenizer_free(llrt_detokenizer* detokenizer) { delete detokenizer; }

llrt_status llrt_detokenizer_next(llrt_detokenizer* detokenizer, int32_t token, const char** text, size_t* size) {
  return give(detokenizer, text, size, [&] { return detokenizer->detokenizer->push(token); });
}

llrt_status llrt_detokenizer_flush(llrt_detokenizer* detokenizer, const char** text, size_t* size) {
  return give(detokenizer, text, size, [&] {
    std::string rest = detokenizer->detokenizer->finish();
    start(*detokenizer);
    return rest;
  });
}

void llrt_text_free(char* text) { std::free(text); }

}  // extern "C"
