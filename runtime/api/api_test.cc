// The C ABI from outside: what it does with good handles, and that nothing a caller passes makes it abort.
#include <gtest/gtest.h>
#include <llrt.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <llrt.hpp>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/engine/tiny_plan_test.h"
#include "runtime/text/tokenizer_spec.h"

namespace ll {
namespace {

using Tokens = std::vector<int32_t>;

// One token for each letter from ' ' on, a byte-level vocabulary without merges; 0 is BOS, 2 ends a text.
std::string tokenizer_section() {
  TokenizerSpec spec;
  for (int32_t id = 0; id < tiny::kVocab; ++id) {
    const bool control = id < 3;
    spec.tokens.push_back(control ? "<" + std::to_string(id) + ">" : std::string(1, static_cast<char>('A' + id - 3)));
    spec.types.push_back(control ? TokenType::kControl : TokenType::kNormal);
  }
  for (const int32_t id : {0, 1, 2}) spec.added.push_back({.id = id, .special = true});
  spec.bos_id = 0;
  spec.eos_id = 2;
  spec.end_ids = {2};
  spec.prefix = {0};
  DecoderStep step;
  step.kind = DecoderStep::Kind::kFuse;
  spec.decoder = {step};
  return serialize_tokenizer(spec);
}

class Api : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    tiny::Options options;
    options.tokenizer = tokenizer_section();
    path_ = tiny::write_plan("api", options);
    options.chat_template =
        "{% for m in messages %}{{ bos_token }}{{ m.role[0] | upper }}{{ m.content }}{{ '<1>' }}{% endfor %}"
        "{% if messages[0].content == 'NO' %}{{ raise_exception('not this') }}{% endif %}"
        "{% if add_generation_prompt %}A{% endif %}";
    chat_ = tiny::write_plan("chat", options);
    silent_ = tiny::write_plan("silent");
    tiny::Options nan;
    nan.nan_weights = true;
    nan_ = tiny::write_plan("nan", nan);
  }
  static void TearDownTestSuite() {
    for (const std::string& path : {path_, silent_, nan_, chat_}) unlink(path.c_str());
  }
  static inline std::string path_, silent_, nan_,
      chat_;  // with a tokenizer; without; with NaN weights; with a template
};

#define EXPECT_FAILS(call, status, part)                                                          \
  do {                                                                                            \
    EXPECT_EQ(call, status);                                                                      \
    EXPECT_NE(std::string(llrt_last_error()).find(part), std::string::npos) << llrt_last_error(); \
  } while (false)

TEST_F(Api, VersionsAndNames) {
  EXPECT_EQ(llrt_api_version(), static_cast<uint32_t>(LLRT_API_VERSION));
  EXPECT_STREQ(llrt_version(), LLCUDA_VERSION);
  EXPECT_STREQ(llrt_status_name(LLRT_OK), "ok");
  EXPECT_STREQ(llrt_status_name(LLRT_OUT_OF_MEMORY), "out of memory");
  EXPECT_NE(llrt_status_name(12345), nullptr);
}

TEST_F(Api, NullHandlesAndPointersAreUsageErrors) {
  const llrt::Model model(path_);
  llrt::Session session(model);
  const llrt::Detokenizer detokenizer(model);
  const int32_t token = 1;
  int32_t id = 0;
  size_t count = 0;
  float logits[1];
  const float* view = nullptr;
  const char* text = nullptr;
  char* json = nullptr;
  llrt_model* no_model = nullptr;
  llrt_session* no_session = nullptr;
  llrt_detokenizer* no_detokenizer = nullptr;
  llrt_session* const sessions[] = {nullptr};
  llrt_model_info info{};
  EXPECT_FAILS(llrt_open_params_init(nullptr, 32), LLRT_USAGE, "params");
  EXPECT_FAILS(llrt_model_open(nullptr, nullptr, &no_model), LLRT_USAGE, "path");
  EXPECT_FAILS(llrt_model_open(path_.c_str(), nullptr, nullptr), LLRT_USAGE, "model");
  EXPECT_FAILS(llrt_model_get_info(nullptr, &info), LLRT_USAGE, "model");
  EXPECT_FAILS(llrt_model_get_info(model.get(), nullptr), LLRT_USAGE, "info");
  EXPECT_EQ(llrt_model_json(nullptr), nullptr);
  EXPECT_EQ(llrt_model_step_bytes(nullptr, 1, 1, 0), 0U);
  EXPECT_EQ(llrt_model_is_eos(nullptr, 2), 0);
  EXPECT_FAILS(llrt_session_create(nullptr, &no_session), LLRT_USAGE, "model");
  EXPECT_FAILS(llrt_session_create(model.get(), nullptr), LLRT_USAGE, "session");
  EXPECT_EQ(llrt_session_length(nullptr), 0U);
  EXPECT_FAILS(llrt_session_truncate(nullptr, 0), LLRT_USAGE, "session");
  EXPECT_FAILS(llrt_session_reset(nullptr), LLRT_USAGE, "session");
  EXPECT_FAILS(llrt_session_prefill(nullptr, &token, 1), LLRT_USAGE, "session");
  EXPECT_FAILS(llrt_session_prefill(session.get(), nullptr, 1), LLRT_USAGE, "tokens");
  EXPECT_FAILS(llrt_session_prefill_logits(session.get(), &token, 1, nullptr, 1), LLRT_USAGE, "logits");
  EXPECT_FAILS(llrt_session_prefill_logits(nullptr, &token, 1, logits, 1), LLRT_USAGE, "session");
  EXPECT_FAILS(llrt_session_decode(nullptr, &token, 1), LLRT_USAGE, "sessions");
  EXPECT_FAILS(llrt_session_decode(sessions, &token, 1), LLRT_USAGE, "sessions[0]");
  EXPECT_FAILS(llrt_session_decode(sessions, nullptr, 1), LLRT_USAGE, "tokens");
  EXPECT_FAILS(llrt_session_decode(sessions, &token, 0), LLRT_USAGE, "no sessions");
  EXPECT_FAILS(llrt_session_logits(nullptr, &view, &count), LLRT_USAGE, "session");
  EXPECT_FAILS(llrt_session_logits(session.get(), nullptr, &count), LLRT_USAGE, "logits");
  EXPECT_FAILS(llrt_sample_params_init(nullptr, 48), LLRT_USAGE, "params");
  EXPECT_FAILS(llrt_session_sample(nullptr, nullptr, &id), LLRT_USAGE, "session");
  EXPECT_FAILS(llrt_session_sample(session.get(), nullptr, nullptr), LLRT_USAGE, "token");
  EXPECT_FAILS(llrt_tokenize(nullptr, "A", 1, 0, &id, 1, &count), LLRT_USAGE, "model");
  EXPECT_FAILS(llrt_tokenize(model.get(), nullptr, 1, 0, &id, 1, &count), LLRT_USAGE, "text");
  EXPECT_FAILS(llrt_tokenize(model.get(), "A", 1, 0, &id, 1, nullptr), LLRT_USAGE, "count");
  EXPECT_FAILS(llrt_detokenizer_create(nullptr, 0, &no_detokenizer), LLRT_USAGE, "model");
  EXPECT_FAILS(llrt_detokenizer_create(model.get(), 0, nullptr), LLRT_USAGE, "detokenizer");
  EXPECT_FAILS(llrt_detokenizer_next(nullptr, 1, &text, &count), LLRT_USAGE, "detokenizer");
  EXPECT_FAILS(llrt_detokenizer_flush(nullptr, &text, &count), LLRT_USAGE, "detokenizer");
  EXPECT_FAILS(llrt_verify(nullptr, nullptr, &json), LLRT_USAGE, "path");
  EXPECT_FAILS(llrt_doctor(nullptr, nullptr), LLRT_USAGE, "json");
  llrt_model_close(nullptr);
  llrt_session_free(nullptr);
  llrt_detokenizer_free(nullptr);
  llrt_text_free(nullptr);
}

TEST_F(Api, ParameterStructsTellTheirVersion) {
  llrt_sample_params params;
  EXPECT_FAILS(llrt_sample_params_init(&params, 3), LLRT_USAGE, "struct_size");
  EXPECT_FAILS(llrt_sample_params_init(&params, 1 << 20), LLRT_USAGE, "struct_size");
  const llrt::Model model(path_);
  llrt::Session session(model);
  session.prefill(Tokens{1, 2, 3});
  int32_t token = -1;
  std::memset(&params, 0, sizeof params);
  EXPECT_FAILS(llrt_session_sample(session.get(), &params, &token), LLRT_USAGE, "struct_size is 0");
  // A newer caller: zeros beyond what this library knows are fine, anything else is not.
  struct Newer {
    llrt_sample_params params;
    int64_t added;
  } newer{};
  ASSERT_EQ(llrt_sample_params_init(&newer.params, sizeof newer), LLRT_OK);
  EXPECT_EQ(newer.params.struct_size, sizeof newer);
  EXPECT_EQ(newer.added, 0);
  EXPECT_EQ(llrt_session_sample(session.get(), &newer.params, &token), LLRT_OK);
  EXPECT_EQ(token, session.sample());
  newer.added = 1;
  EXPECT_FAILS(llrt_session_sample(session.get(), &newer.params, &token), LLRT_UNSUPPORTED, "API version");
  llrt_model_info info{};
  EXPECT_FAILS(llrt_model_get_info(model.get(), &info), LLRT_USAGE, "struct_size");
  llrt_model* none = nullptr;
  llrt_open_params open{};
  EXPECT_FAILS(llrt_model_open(path_.c_str(), &open, &none), LLRT_USAGE, "struct_size");
}

TEST_F(Api, ParametersOutOfRange) {
  const llrt::Model model(path_);
  llrt::Session session(model);
  session.prefill(Tokens{1});
  llrt::SampleParams sample;
  sample.temperature = NAN;
  int32_t token = -1;
  EXPECT_FAILS(llrt_session_sample(session.get(), &sample, &token), LLRT_USAGE, "temperature");
  EXPECT_EQ(token, -1);
  llrt_model* none = nullptr;
  llrt::OpenParams open;
  open.threads = -1;
  EXPECT_FAILS(llrt_model_open(path_.c_str(), &open, &none), LLRT_USAGE, "threads");
  open.threads = 1 << 30;
  EXPECT_FAILS(llrt_model_open(path_.c_str(), &open, &none), LLRT_USAGE, "threads");
  open.threads = 1;
  open.isa = "sse9";
  EXPECT_FAILS(llrt_model_open(path_.c_str(), &open, &none), LLRT_USAGE, "sse9");
  open.isa = nullptr;
  open.numa = "left";
  EXPECT_FAILS(llrt_model_open(path_.c_str(), &open, &none), LLRT_USAGE, "numa is 'left', expected auto, off or");
  open.numa = "9999";
  EXPECT_FAILS(llrt_model_open(path_.c_str(), &open, &none), LLRT_USAGE, "numa is node 9999");
  EXPECT_EQ(none, nullptr);
  EXPECT_FAILS(llrt_tokenize(model.get(), "A", 1, 64, nullptr, 0, nullptr), LLRT_USAGE, "count");
  size_t count = 0;
  EXPECT_FAILS(llrt_tokenize(model.get(), "A", 1, 64, nullptr, 0, &count), LLRT_USAGE, "flags");
  llrt_detokenizer* detokenizer = nullptr;
  EXPECT_FAILS(llrt_detokenizer_create(model.get(), 64, &detokenizer), LLRT_USAGE, "flags");
}

TEST_F(Api, ConversationsBecomeTokens) {
  const llrt::Model model(chat_);
  // 0 is BOS, 1 is <1>, letters follow from A = 3 on. What a message says stays text: its <1> has no letters here.
  const auto id = [](char c) { return c - 'A' + 3; };
  EXPECT_EQ(model.chat_tokenize(R"([{"role": "user", "content": "BC"}])"),
            (Tokens{0, id('U'), id('B'), id('C'), 1, id('A')}));
  EXPECT_EQ(model.chat_tokenize(R"([{"role":"system","content":"","x":[1]},{"role":"user","content":"D"}])"),
            (Tokens{0, id('S'), 1, 0, id('U'), id('D'), 1, id('A')}));
  const Tokens spelled = model.chat_tokenize(R"([{"role": "user", "content": "<1>B"}])");
  EXPECT_EQ(std::count(spelled.begin(), spelled.end(), 1), 1);
  EXPECT_EQ(std::count(spelled.begin(), spelled.end(), 0), 1);

  const auto fails = [&](std::string_view messages, llrt_status status, const char* part) {
    size_t count = 7;
    EXPECT_FAILS(llrt_chat_tokenize(model.get(), messages.data(), messages.size(), nullptr, 0, &count), status, part);
    EXPECT_EQ(count, 7U);
  };
  for (const char* wrong : {"[]", "{}", "5", "[5]", "[[]]", R"([{"role":"user"}])", R"([{"role":"user","content":5}])",
                            R"([{"content":"x"}])"}) {
    fails(wrong, LLRT_USAGE, "expected");
  }
  for (const char* wrong : {"", "[", "nonsense"}) fails(wrong, LLRT_USAGE, "messages");
  fails(std::string(1000, '['), LLRT_USAGE, "messages");
  fails(R"([{"role":"user","content":"NO"}])", LLRT_USAGE, "not this");
  size_t count = 0;
  int32_t ids[2] = {-7, -7};
  const std::string_view good = R"([{"role":"user","content":"B"}])";
  EXPECT_FAILS(llrt_chat_tokenize(model.get(), good.data(), good.size(), ids, 2, &count), LLRT_USAGE, "room for 2");
  EXPECT_EQ(count, 5U);
  EXPECT_EQ(ids[0], -7);
  EXPECT_FAILS(llrt_chat_tokenize(nullptr, good.data(), good.size(), ids, 2, &count), LLRT_USAGE, "model");
  EXPECT_FAILS(llrt_chat_tokenize(model.get(), nullptr, 0, ids, 2, &count), LLRT_USAGE, "messages");
  EXPECT_FAILS(llrt_chat_tokenize(model.get(), good.data(), good.size(), ids, 2, nullptr), LLRT_USAGE, "count");
  const llrt::Model plain(path_), silent(silent_);
  EXPECT_FAILS(llrt_chat_tokenize(plain.get(), good.data(), good.size(), ids, 2, &count), LLRT_UNSUPPORTED,
               "no chat template");
  EXPECT_FAILS(llrt_chat_tokenize(silent.get(), good.data(), good.size(), ids, 2, &count), LLRT_UNSUPPORTED,
               "no tokenizer");
}

TEST_F(Api, BadPlansAreErrors) {
  llrt_model* model = reinterpret_cast<llrt_model*>(&model);
  EXPECT_FAILS(llrt_model_open("/nonexistent/x.llcp", nullptr, &model), LLRT_NO_INPUT, "/nonexistent/x.llcp");
  EXPECT_EQ(model, nullptr);
  EXPECT_FAILS(llrt_model_open("/", nullptr, &model), LLRT_NO_INPUT, "/");
  const std::string bad = testing::TempDir() + "/bad_" + std::to_string(getpid());
  std::ifstream in(path_, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const auto check = [&](const std::string& content) {
    std::ofstream(bad, std::ios::binary) << content;
    EXPECT_EQ(llrt_model_open(bad.c_str(), nullptr, &model), LLRT_BAD_DATA);
    EXPECT_EQ(llrt_verify(bad.c_str(), nullptr, nullptr), LLRT_BAD_DATA);
    EXPECT_GT(std::strlen(llrt_last_error()), 10U);
  };
  check("");
  check("GGUF");
  check(bytes.substr(0, bytes.size() / 2));
  check(bytes.substr(0, bytes.size() - 1));
  std::string damaged = bytes;
  damaged[5000] = static_cast<char>(damaged[5000] ^ 1);
  check(damaged);
  // A weight: only a full check reads them all.
  damaged = bytes;
  const size_t weight = bytes.size() - 600;
  damaged[weight] = static_cast<char>(damaged[weight] ^ 1);
  std::ofstream(bad, std::ios::binary) << damaged;
  EXPECT_EQ(llrt_verify(bad.c_str(), nullptr, nullptr), LLRT_BAD_DATA);
  llrt::OpenParams params;
  params.verify_weights = 1;
  EXPECT_EQ(llrt_model_open(bad.c_str(), &params, &model), LLRT_BAD_DATA);
  unlink(bad.c_str());
}

TEST_F(Api, AModelTellsAboutItself) {
  llrt::OpenParams params;
  params.threads = 2;
  params.isa = "scalar";
  const llrt::Model model(path_, params);
  const llrt_model_info info = model.info();
  EXPECT_STREQ(info.architecture, "tiny");
  EXPECT_STREQ(info.name, "by hand");
  EXPECT_EQ(info.vocab_size, static_cast<uint32_t>(tiny::kVocab));
  EXPECT_EQ(info.context_length, tiny::kContext);
  EXPECT_EQ(info.max_batch, tiny::kMaxBatch);
  EXPECT_EQ(info.max_step_tokens, 16U);
  EXPECT_EQ(info.bos_token, 1);
  EXPECT_EQ(info.add_bos, 1);
  ASSERT_EQ(info.eos_token_count, 1U);
  EXPECT_EQ(info.eos_tokens[0], 2);
  EXPECT_TRUE(model.is_eos(2));
  EXPECT_FALSE(model.is_eos(3));
  EXPECT_EQ(info.has_tokenizer, 1);
  EXPECT_EQ(info.threads, 2);
  EXPECT_STREQ(info.isa, "scalar");
  EXPECT_GT(info.weight_bytes, 0U);
  EXPECT_GT(info.working_bytes, 0U);
  const auto json = nlohmann::json::parse(model.json());
  EXPECT_EQ(json["device"]["threads"], 2);
  EXPECT_GT(model.step_bytes(1, 1, 10), model.step_bytes(1, 1, 0));
  EXPECT_TRUE(nlohmann::json::accept(llrt::verify(path_)));
  EXPECT_TRUE(nlohmann::json::accept(llrt::doctor()));
  const auto doctor = nlohmann::json::parse(llrt::doctor(path_));
  EXPECT_EQ(doctor["plan"]["context_length"], tiny::kContext);
  EXPECT_GE(doctor["machine"]["threads"], 1);
}

TEST_F(Api, OneCallOrManyGiveTheSameBits) {
  const llrt::Model model(path_);
  const Tokens tokens = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
  llrt::Session whole(model), single(model), rows(model);
  whole.prefill(tokens);
  for (const int32_t token : tokens) single.decode(token);
  std::vector<float> all(tokens.size() * static_cast<size_t>(tiny::kVocab));
  rows.prefill_logits(tokens, all);
  const auto a = whole.logits(), b = single.logits(), c = rows.logits();
  ASSERT_EQ(a.size(), static_cast<size_t>(tiny::kVocab));
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size_bytes()), 0);
  EXPECT_EQ(std::memcmp(a.data(), c.data(), a.size_bytes()), 0);
  EXPECT_EQ(std::memcmp(a.data(), all.data() + all.size() - a.size(), a.size_bytes()), 0);
  EXPECT_EQ(whole.length(), tokens.size());
  whole.truncate(10);
  EXPECT_THROW(whole.logits(), llrt::Error);
  whole.prefill(std::span(tokens).subspan(10));
  EXPECT_EQ(std::memcmp(whole.logits().data(), c.data(), c.size_bytes()), 0);
  EXPECT_FAILS(llrt_session_truncate(whole.get(), 21), LLRT_USAGE, "holds 20");
}

TEST_F(Api, BatchedDecodeGivesEachSessionItsOwn) {
  const llrt::Model model(path_);
  std::vector<llrt::Session> sessions;
  std::vector<std::vector<float>> want;
  Tokens tokens;
  for (int32_t i = 0; i < 5; ++i) {  // more than a step holds
    const Tokens prompt(static_cast<size_t>(3 + i), 4 + i);
    tokens.push_back(20 + i);
    llrt::Session alone(model);
    alone.prefill(prompt);
    alone.decode(tokens.back());
    want.emplace_back(alone.logits().begin(), alone.logits().end());
    sessions.emplace_back(model);
    sessions.back().prefill(prompt);
  }
  std::vector<llrt::Session*> pointers;
  for (llrt::Session& s : sessions) pointers.push_back(&s);
  llrt::decode(pointers, tokens);
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_TRUE(std::equal(want[i].begin(), want[i].end(), sessions[i].logits().begin())) << i;
  }
  pointers[1] = pointers[0];
  EXPECT_THROW(llrt::decode(pointers, tokens), llrt::Error);
  EXPECT_EQ(sessions[0].length(), 4U);
  const llrt::Model other(silent_);
  llrt::Session stranger(other);
  pointers[1] = &stranger;
  EXPECT_THROW(llrt::decode(pointers, tokens), llrt::Error);
}

TEST_F(Api, FailuresLeaveSessionsAsTheyWere) {
  const llrt::Model model(path_);
  llrt::Session session(model);
  int32_t token = 0;
  EXPECT_FAILS(llrt_session_sample(session.get(), nullptr, &token), LLRT_USAGE, "no logits");
  session.prefill(Tokens{3, 4});
  const int32_t next = session.sample();
  const Tokens bad = {5, static_cast<int32_t>(tiny::kVocab)};
  EXPECT_FAILS(llrt_session_prefill(session.get(), bad.data(), 2), LLRT_USAGE, "vocabulary");
  EXPECT_FAILS(llrt_session_prefill(session.get(), bad.data(), 0), LLRT_USAGE, "no tokens");
  const Tokens many(tiny::kContext, 1);
  EXPECT_FAILS(llrt_session_prefill(session.get(), many.data(), many.size()), LLRT_OUT_OF_MEMORY, "--ctx-size");
  float few[1];
  EXPECT_FAILS(llrt_session_prefill_logits(session.get(), bad.data(), 1, few, 1), LLRT_USAGE, "room for 1 logits");
  EXPECT_FAILS(llrt_session_prefill_logits(session.get(), bad.data(), SIZE_MAX / 2, few, 1), LLRT_USAGE, "room");
  EXPECT_EQ(session.length(), 2U);
  EXPECT_EQ(session.sample(), next);
}

TEST_F(Api, LogitsThatAreNotNumbersAreBadData) {
  const llrt::Model model(nan_);
  llrt::Session session(model);
  session.prefill(Tokens{1});
  int32_t token = 0;
  EXPECT_FAILS(llrt_session_sample(session.get(), nullptr, &token), LLRT_BAD_DATA, "nan");
}

TEST_F(Api, TextGoesInAndOut) {
  const llrt::Model model(path_);
  EXPECT_EQ(model.tokenize("ABC"), Tokens({0, 3, 4, 5}));
  EXPECT_EQ(model.tokenize("ABC", 0), Tokens({3, 4, 5}));
  EXPECT_EQ(model.tokenize("A<2>", LLRT_PARSE_SPECIAL), Tokens({3, 2}));
  EXPECT_EQ(model.tokenize("", 0), Tokens());
  int32_t ids[2] = {-7, -7};
  size_t count = 0;
  EXPECT_EQ(llrt_tokenize(model.get(), "ABC", 3, 0, nullptr, 0, &count), LLRT_OK);
  EXPECT_EQ(count, 3U);
  count = 0;
  EXPECT_FAILS(llrt_tokenize(model.get(), "ABC", 3, 0, ids, 2, &count), LLRT_USAGE, "room for 2");
  EXPECT_EQ(count, 3U);
  EXPECT_EQ(ids[0], -7);
  llrt::Detokenizer text(model), special(model, LLRT_SHOW_SPECIAL);
  std::string said, shown;
  for (const int32_t id : {3, 0, 4, -1, 1000000}) {
    said += text.next(id);
    shown += special.next(id);
  }
  said += text.flush();
  shown += special.flush();
  EXPECT_EQ(said, "AB");
  EXPECT_EQ(shown, "A<0>B");
  said = text.next(5);
  said += text.flush();
  EXPECT_EQ(said, "C");
}

TEST_F(Api, APlanWithoutATokenizerSaysSo) {
  const llrt::Model model(silent_);
  EXPECT_EQ(model.info().has_tokenizer, 0);
  size_t count = 0;
  EXPECT_FAILS(llrt_tokenize(model.get(), "A", 1, 0, nullptr, 0, &count), LLRT_UNSUPPORTED, "no tokenizer");
  llrt_detokenizer* detokenizer = nullptr;
  EXPECT_FAILS(llrt_detokenizer_create(model.get(), 0, &detokenizer), LLRT_UNSUPPORTED, "no tokenizer");
}

TEST_F(Api, SessionsAndDetokenizersOutliveTheirModelHandle) {
  auto model = std::make_unique<llrt::Model>(path_);
  llrt::Session session(*model);
  llrt::Detokenizer text(*model);
  model.reset();
  session.prefill(Tokens{3});
  EXPECT_GE(session.sample(), 0);
  text.next(3);
}

TEST_F(Api, MessagesBelongToTheirThread) {
  size_t count = 0;
  EXPECT_FAILS(llrt_tokenize(nullptr, "A", 1, 0, nullptr, 0, &count), LLRT_USAGE, "model");
  std::thread([] {
    EXPECT_STREQ(llrt_last_error(), "");
    EXPECT_FAILS(llrt_session_reset(nullptr), LLRT_USAGE, "session");
  }).join();
  EXPECT_NE(std::string(llrt_last_error()).find("model"), std::string::npos);
}

// Several threads on one model, each with sessions of its own: no races (under TSan), and the same bits as alone.
TEST_F(Api, ThreadsShareAModel) {
  const llrt::Model model(path_);
  std::vector<float> want;
  {
    llrt::Session session(model);
    session.prefill(Tokens{3, 4, 5, 6, 7});
    want.assign(session.logits().begin(), session.logits().end());
  }
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        llrt::Session session(model);
        session.prefill(Tokens{3, 4});
        session.decode(5);
        session.prefill(Tokens{6, 7});
        good += std::equal(want.begin(), want.end(), session.logits().begin()) ? 1 : 0;
        session.sample();
        model.tokenize("ABC");
        llrt::Detokenizer text(model);
        text.next(4);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 80);
}

TEST_F(Api, HandlesDoNotLeak) {
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  const auto before = descriptors();
  for (int i = 0; i < 50; ++i) {
    const llrt::Model model(path_);
    llrt::Session session(model);
    session.prefill(Tokens{1});
  }
  EXPECT_EQ(descriptors(), before);
}

}  // namespace
}  // namespace ll
