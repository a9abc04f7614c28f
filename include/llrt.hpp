// C++20 over llrt.h: handles that close themselves, and failures as exceptions. Header only, std only.
//
//   llrt::Model model("plan.llcp");
//   llrt::Session session(model);
//   session.prefill(model.tokenize("In the beginning"));
//   llrt::Detokenizer text(model);
//   for (int32_t token = session.sample(); !model.is_eos(token); token = session.sample()) {
//     std::cout << text.next(token) << std::flush;
//     session.decode(token);
//   }
//
// Every failure throws llrt::Error (or std::bad_alloc from std itself). Objects move and do not copy; a moved-from
// object may only be assigned to or destroyed. Threads and lifetimes are as llrt.h says.
#ifndef LLRT_HPP_
#define LLRT_HPP_

#include <llrt.h>

#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace llrt {

// What a call failed with: status() is one of LLRT_USAGE ..., what() the library's message.
class Error : public std::runtime_error {
 public:
  Error(llrt_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  llrt_status status() const noexcept { return status_; }

 private:
  llrt_status status_;
};

// Throws what a call on this thread has just returned, unless it is LLRT_OK.
inline void check(llrt_status status) {
  if (status != LLRT_OK) throw Error(status, llrt_last_error());
}

// llrt_open_params and llrt_sample_params with the library's defaults.
struct OpenParams : llrt_open_params {
  OpenParams() : llrt_open_params{} { check(llrt_open_params_init(this, sizeof(llrt_open_params))); }
};
struct SampleParams : llrt_sample_params {
  SampleParams() : llrt_sample_params{} { check(llrt_sample_params_init(this, sizeof(llrt_sample_params))); }
};

class Model {
 public:
  explicit Model(const std::string& path, const OpenParams& params = {}) {
    llrt_model* model = nullptr;
    check(llrt_model_open(path.c_str(), &params, &model));
    model_.reset(model);
  }

  // Strings and arrays inside live as long as the model.
  llrt_model_info info() const {
    llrt_model_info info{};
    info.struct_size = sizeof info;
    check(llrt_model_get_info(get(), &info));
    return info;
  }
  std::string_view json() const { return llrt_model_json(get()); }
  uint64_t step_bytes(uint32_t tokens, uint32_t sessions, uint32_t depth) const {
    return llrt_model_step_bytes(get(), tokens, sessions, depth);
  }
  bool is_eos(int32_t token) const { return llrt_model_is_eos(get(), token) != 0; }

  std::vector<int32_t> tokenize(std::string_view text, uint32_t flags = LLRT_ADD_SPECIAL) const {
    // A token stands for at least one byte almost always: one call does, a second when normalization made the text
    // longer.
    return ids(text.size() + 8, [&](int32_t* data, size_t capacity, size_t* count) {
      return llrt_tokenize(get(), text.data(), text.size(), flags, data, capacity, count);
    });
  }
  // `messages`: JSON, as llrt_chat_tokenize has it.
  std::vector<int32_t> chat_tokenize(std::string_view messages) const {
    return ids(messages.size() + 256, [&](int32_t* data, size_t capacity, size_t* count) {
      return llrt_chat_tokenize(get(), messages.data(), messages.size(), data, capacity, count);
    });
  }

  llrt_model* get() const noexcept { return model_.get(); }

 private:
  struct Close {
    void operator()(llrt_model* model) const noexcept { llrt_model_close(model); }
  };
  // What `call` writes, with room for `guess` ids or for what it then asks for.
  template <class Call>
  static std::vector<int32_t> ids(size_t guess, Call call) {
    std::vector<int32_t> list(guess);
    size_t count = 0;
    llrt_status status = call(list.data(), list.size(), &count);
    if (status == LLRT_USAGE && count > list.size()) {
      list.resize(count);
      status = call(list.data(), list.size(), &count);
    }
    check(status);
    list.resize(count);
    return list;
  }

  std::unique_ptr<llrt_model, Close> model_;
};

class Session {
 public:
  explicit Session(const Model& model) {
    llrt_session* session = nullptr;
    check(llrt_session_create(model.get(), &session));
    session_.reset(session);
  }

  size_t length() const { return llrt_session_length(get()); }
  void truncate(size_t length) { check(llrt_session_truncate(get(), length)); }
  void reset() { check(llrt_session_reset(get())); }
  void prefill(std::span<const int32_t> tokens) { check(llrt_session_prefill(get(), tokens.data(), tokens.size())); }
  // Writes f32 [tokens, vocab_size].
  void prefill_logits(std::span<const int32_t> tokens, std::span<float> logits) {
    check(llrt_session_prefill_logits(get(), tokens.data(), tokens.size(), logits.data(), logits.size()));
  }
  void decode(int32_t token) {
    llrt_session* session = get();
    check(llrt_session_decode(&session, &token, 1));
  }
  // Logits that follow the last token, valid until the session changes.
  std::span<const float> logits() const {
    const float* data = nullptr;
    size_t count = 0;
    check(llrt_session_logits(get(), &data, &count));
    return {data, count};
  }
  int32_t sample(const SampleParams& params = {}) const {
    int32_t token = 0;
    check(llrt_session_sample(get(), &params, &token));
    return token;
  }

  llrt_session* get() const noexcept { return session_.get(); }

 private:
  struct Free {
    void operator()(llrt_session* session) const noexcept { llrt_session_free(session); }
  };
  std::unique_ptr<llrt_session, Free> session_;
};

// Appends tokens[i] to sessions[i], all in as few steps as the plan allows.
inline void decode(std::span<Session* const> sessions, std::span<const int32_t> tokens) {
  if (sessions.size() != tokens.size()) {
    throw Error(LLRT_USAGE,
                std::to_string(sessions.size()) + " sessions for " + std::to_string(tokens.size()) + " tokens");
  }
  std::vector<llrt_session*> handles;
  handles.reserve(sessions.size());
  for (const Session* session : sessions) handles.push_back(session->get());
  check(llrt_session_decode(handles.data(), tokens.data(), tokens.size()));
}

class Detokenizer {
 public:
  explicit Detokenizer(const Model& model, uint32_t flags = LLRT_CONTINUES) {
    llrt_detokenizer* detokenizer = nullptr;
    check(llrt_detokenizer_create(model.get(), flags, &detokenizer));
    detokenizer_.reset(detokenizer);
  }

  // Text that `token` completes, valid until the next call.
  std::string_view next(int32_t token) {
    const char* text = nullptr;
    size_t size = 0;
    check(llrt_detokenizer_next(detokenizer_.get(), token, &text, &size));
    return {text, size};
  }
  std::string_view flush() {
    const char* text = nullptr;
    size_t size = 0;
    check(llrt_detokenizer_flush(detokenizer_.get(), &text, &size));
    return {text, size};
  }

 private:
  struct Free {
    void operator()(llrt_detokenizer* detokenizer) const noexcept { llrt_detokenizer_free(detokenizer); }
  };
  std::unique_ptr<llrt_detokenizer, Free> detokenizer_;
};

// JSON about a plan (every byte of it read and checked), and about this machine.
namespace detail {
inline std::string take(char* text) {
  const std::unique_ptr<char, void (*)(char*)> owner(text, llrt_text_free);
  return text;
}
}  // namespace detail
inline std::string verify(const std::string& path, const std::string& model_dir = "") {
  char* json = nullptr;
  check(llrt_verify(path.c_str(), model_dir.empty() ? nullptr : model_dir.c_str(), &json));
  return detail::take(json);
}
inline std::string doctor(const std::string& plan_path = "") {
  char* json = nullptr;
  check(llrt_doctor(plan_path.empty() ? nullptr : plan_path.c_str(), &json));
  return detail::take(json);
}

}  // namespace llrt

#endif  // LLRT_HPP_
