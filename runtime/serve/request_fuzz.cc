// A request body for each endpoint, all the way to what the engine would be asked: refused with a status of 400 or 501,
// or within the engine's bounds.
#include <cstdint>
#include <cstdlib>

#include "runtime/serve/prepare.h"
#include "runtime/serve/small_model_test.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ll::serve;  // NOLINT(google-build-using-namespace)
  static const auto model = small::model();
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto check = [](const auto& checked) {
    if (!checked) {
      const ApiError& error = checked.error();
      if ((error.status != 400 && error.status != 501) || error_body(error).empty()) std::abort();
    }
  };
  for (const bool chat : {true, false}) {
    const auto prepared = chat ? prepare_chat(*model, body) : prepare_completion(*model, body);
    check(prepared);
    if (!prepared) continue;
    for (const ll::Request& r : prepared->requests) {
      if (r.prompt.empty() || r.prompt.size() + r.max_tokens > model->most_tokens || r.max_tokens == 0) std::abort();
      if (r.min_tokens > r.max_tokens || r.sequences == 0 || r.sequences > ll::kMostSequences) std::abort();
      if (!ll::check_params(r.sampling, static_cast<uint32_t>(model->tokenizer.vocab_size()))) std::abort();
      for (const int32_t id : r.prompt) {
        if (id < 0 || id >= static_cast<int32_t>(model->tokenizer.vocab_size())) std::abort();
      }
    }
  }
  check(tokenize(*model, body));
  check(detokenize(*model, body));
  check(apply_template(*model, body));
  return 0;
}
