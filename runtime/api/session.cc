#include "runtime/api/handles.h"
#include "runtime/api/status.h"
#include "runtime/base/checked.h"

namespace ll::api {
namespace {

constexpr size_t kSampleParamsFirst = sizeof(llrt_sample_params);
static_assert(kSampleParamsFirst == 48, "API version 1; keep this size when members are added");

llrt_sample_params sample_defaults() {
  const SampleParams d;
  return {sizeof(llrt_sample_params), d.temperature,       d.top_k,          d.top_p, d.min_p, d.repetition_penalty,
          d.presence_penalty,         d.frequency_penalty, d.penalty_window, d.seed};
}

Status check_session(const llrt_session* session) { return need(session, "session"); }

// Runs one work item a session. Logits of the last tokens go to the sessions; `all_rows`, if not null, receives every
// token's.
Status advance(std::span<llrt_session* const> sessions, std::span<const std::span<const int32_t>> tokens,
               float* all_rows) {
  Engine& engine = sessions[0]->model->engine();
  const size_t vocab = engine.plan().model.vocab_size;
  std::vector<Work> work;
  for (size_t i = 0; i < sessions.size(); ++i) {
    sessions[i]->next_logits.resize(vocab);
    work.push_back({sessions[i]->sequence.get(), tokens[i], all_rows != nullptr ? LogitRows::kAll : LogitRows::kLast});
  }
  TRY(engine.run(work, [&](size_t item, size_t token, std::span<const float> logits) {
    if (all_rows != nullptr) std::copy(logits.begin(), logits.end(), all_rows + token * vocab);
    if (token + 1 == tokens[item].size()) {
      std::copy(logits.begin(), logits.end(), sessions[item]->next_logits.begin());
    }
  }));
  for (llrt_session* session : sessions) {
    session->logits.swap(session->next_logits);
    session->has_logits = true;
  }
  return {};
}

}  // namespace

}  // namespace ll::api

// At global scope: a definition inside a namespace would not take the header's visibility.
using namespace ll;       // NOLINT(google-build-using-namespace)
using namespace ll::api;  // NOLINT(google-build-using-namespace)

extern "C" {

llrt_status llrt_session_create(llrt_model* model, llrt_session** session) {
  return guard([&]() -> Status {
    TRY(need(session, "session"));
    *session = nullptr;
    TRY(need(model, "model"));
    auto handle = std::make_unique<llrt_session>();
    handle->model = model->model;
    const std::lock_guard lock(handle->model->mutex());
    handle->sequence = handle->model->engine().make_sequence();
    *session = handle.release();
    return {};
  });
}

void llrt_session_free(llrt_session* session) {
  if (session == nullptr) return;
  // The model, and its mutex with it, may go with the session: unlock before.
  (void)guard([&]() -> Status {
    const std::lock_guard lock(session->model->mutex());
    session->sequence.reset();
    return {};
  });
  delete session;
}

size_t llrt_session_length(const llrt_session* session) {
  if (session == nullptr) return 0;
  const std::lock_guard lock(session->model->mutex());
  return session->sequence->length();
}

llrt_status llrt_session_truncate(llrt_session* session, size_t length) {
  return guard([&]() -> Status {
    TRY(check_session(session));
    const std::lock_guard lock(session->model->mutex());
    if (length > session->sequence->length()) {
      return usage("cannot keep {} tokens: the session holds {}", length, session->sequence->length());
    }
    if (length == session->sequence->length()) return {};
    session->sequence->truncate(static_cast<uint32_t>(length));
    session->has_logits = false;
    return {};
  });
}

llrt_status llrt_session_reset(llrt_session* session) { return llrt_session_truncate(session, 0); }

llrt_status llrt_session_prefill(llrt_session* session, const int32_t* tokens, size_t count) {
  return guard([&]() -> Status {
    TRY(check_session(session));
    TRY(need(tokens, "tokens"));
    const std::span<const int32_t> span(tokens, count);
    const std::lock_guard lock(session->model->mutex());
    return advance({&session, 1}, {&span, 1}, nullptr);
  });
}

llrt_status llrt_session_prefill_logits(llrt_session* session, const int32_t* tokens, size_t count, float* logits,
                                        size_t capacity) {
  return guard([&]() -> Status {
    TRY(check_session(session));
    TRY(need(tokens, "tokens"));
    TRY(need(logits, "logits"));
    const size_t vocab = session->model->plan().model.vocab_size;
    const auto wanted = checked_mul(count, vocab);
    if (!wanted || *wanted > capacity) {
      return usage("room for {} logits, expected {} tokens of {}", capacity, count, vocab);
    }
    const std::span<const int32_t> span(tokens, count);
    const std::lock_guard lock(session->model->mutex());
    return advance({&session, 1}, {&span, 1}, logits);
  });
}

llrt_status llrt_session_decode(llrt_session* const* sessions, const int32_t* tokens, size_t count) {
  return guard([&]() -> Status {
    TRY(need(sessions, "sessions"));
    TRY(need(tokens, "tokens"));
    if (count == 0) return usage("no sessions to decode");
    std::vector<std::span<const int32_t>> spans;
    for (size_t i = 0; i < count; ++i) {
      if (sessions[i] == nullptr) return usage("'sessions[{}]' is null", i);
      if (sessions[i]->model != sessions[0]->model) return usage("'sessions[{}]' belongs to another model", i);
      spans.emplace_back(tokens + i, 1);
    }
    const std::lock_guard lock(sessions[0]->model->mutex());
    return advance({sessions, count}, spans, nullptr);
  });
}

llrt_status llrt_session_logits(const llrt_session* session, const float** logits, size_t* count) {
  return guard([&]() -> Status {
    TRY(check_session(session));
    TRY(need(logits, "logits"));
    const std::lock_guard lock(session->model->mutex());
    if (!session->has_logits) return usage("the session has no logits: append a token first");
    *logits = session->logits.data();
    if (count != nullptr) *count = session->logits.size();
    return {};
  });
}

llrt_status llrt_sample_params_init(llrt_sample_params* params, size_t struct_size) {
  return guard([&] { return write_struct(params, sample_defaults(), struct_size, kSampleParamsFirst, "params"); });
}

llrt_status llrt_session_sample(const llrt_session* session, const llrt_sample_params* params, int32_t* token) {
  return guard([&]() -> Status {
    TRY(check_session(session));
    TRY(need(token, "token"));
    TRY_ASSIGN(const llrt_sample_params p,
               read_params(params, sample_defaults(), kSampleParamsFirst, "llrt_sample_params"));
    const SampleParams sample = {
        p.temperature,       p.top_k,          p.top_p, p.min_p, p.repetition_penalty, p.presence_penalty,
        p.frequency_penalty, p.penalty_window, p.seed};
    const std::lock_guard lock(session->model->mutex());
    if (!session->has_logits) return usage("the session has no logits: append a token first");
    TRY_ASSIGN(*token, session->sampler.sample(session->logits, session->sequence->tokens(), sample));
    return {};
  });
}

}  // extern "C"
