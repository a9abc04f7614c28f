#include "runtime/serve/answer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/serve/small_model_test.h"

namespace ll::serve {
namespace {

using Json = nlohmann::ordered_json;

// Feeds an answer the bytes of a reply as tokens and looks at what comes out.
class Reply {
 public:
  Reply(bool chat, const std::string& body, std::shared_ptr<const ServedModel> model = small::model())
      : model_(std::move(model)) {
    auto prepared = chat ? prepare_chat(*model_, body) : prepare_completion(*model_, body);
    EXPECT_TRUE(prepared) << (prepared ? "" : prepared.error().message);
    answer = std::make_unique<Answer>(model_, *std::move(prepared), "id-1", 17);
  }

  Answer::Effect token(int32_t id, uint32_t index = 0, bool ends = false, size_t prompt = 0) {
    TokenEvent event{.index = index, .token = id, .ends = ends, .logprob = -0.5F, .top = {{id, -0.5F}, {'z', -2}}};
    if (answer->prepared().top_logprobs == 0) event.top.clear();
    return answer->event(prompt, event, out);
  }
  void text(std::string_view text, uint32_t index = 0, size_t prompt = 0) {
    for (const char c : text) {
      if (token(static_cast<uint8_t>(c), index, false, prompt).cancel) cancelled = true;
    }
  }
  void finish(FinishReason reason, uint32_t index = 0, int32_t stop = -1, size_t prompt = 0) {
    answer->event(prompt, FinishedEvent{.index = index, .reason = reason, .stop_token = stop, .error = {}}, out);
  }
  bool done(size_t prompt = 0) {
    DoneEvent event;
    event.cached_tokens = 5;
    return answer->event(prompt, event, out).done;
  }
  Json body() { return Json::parse(answer->body()); }
  // The events of a stream, [DONE] left out.
  std::vector<Json> events() {
    std::vector<Json> list;
    std::string rest = out;
    while (!rest.empty()) {
      const size_t end = rest.find("\n\n");
      EXPECT_TRUE(rest.starts_with("data: ")) << rest;
      const std::string data = rest.substr(6, end - 6);
      if (data != "[DONE]") list.push_back(Json::parse(data));
      rest.erase(0, end + 2);
    }
    return list;
  }

  std::unique_ptr<Answer> answer;
  std::string out;
  bool cancelled = false;

 private:
  std::shared_ptr<const ServedModel> model_;
};

const std::string kUser = R"({"messages": [{"role": "user", "content": "a"}])";

TEST(Answer, ChatBody) {
  Reply run(true, kUser + "}");
  run.text("Grüße");
  run.token(small::kEnd, 0, true);
  run.finish(FinishReason::kStop, 0, small::kEnd);
  EXPECT_TRUE(run.done());
  const Json body = run.body();
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["id"], "id-1");
  EXPECT_EQ(body["created"], 17);
  EXPECT_EQ(body["model"], "small");
  const Json& choice = body["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"], "Grüße");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["logprobs"], nullptr);
  EXPECT_EQ(body["usage"]["completion_tokens"], 8);
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 5);
  EXPECT_EQ(body["usage"]["total_tokens"].get<int>(), 8 + body["usage"]["prompt_tokens"].get<int>());
  EXPECT_EQ(run.out, "");
}

TEST(Answer, ChatStream) {
  Reply run(true, kUser + R"(, "stream": true, "stream_options": {"include_usage": true}})");
  run.text("aü");
  run.finish(FinishReason::kLength);
  EXPECT_TRUE(run.done());
  run.answer->finish_stream(run.out);
  EXPECT_TRUE(run.out.ends_with("data: [DONE]\n\n"));
  const auto events = run.events();
  ASSERT_EQ(events.size(), 5U);
  for (const Json& e : events) {
    EXPECT_EQ(e["object"], "chat.completion.chunk");
    EXPECT_EQ(e["id"], "id-1");
  }
  EXPECT_EQ(events[0]["choices"][0]["delta"], Json::parse(R"({"role":"assistant","content":""})"));
  EXPECT_EQ(events[1]["choices"][0]["delta"], Json::parse(R"({"content":"a"})"));
  EXPECT_EQ(events[2]["choices"][0]["delta"], Json::parse(R"({"content":"ü"})")) << "never half a letter";
  EXPECT_EQ(events[2]["usage"], nullptr);
  EXPECT_EQ(events[3]["choices"][0]["delta"], Json::object());
  EXPECT_EQ(events[3]["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(events[4]["choices"], Json::array());
  EXPECT_EQ(events[4]["usage"]["completion_tokens"], 3);
}

TEST(Answer, WithoutUsageThereIsNone) {
  Reply run(true, kUser + R"(, "stream": true})");
  run.text("a");
  run.finish(FinishReason::kLength);
  run.done();
  run.answer->finish_stream(run.out);
  EXPECT_EQ(run.out.find("usage"), std::string::npos);
}

TEST(Answer, StopStringsAreNeverGivenOut) {
  for (const bool stream : {false, true}) {
    Reply run(false, std::string(R"({"prompt": "a", "stop": ["STOP", "\n\n"], "logprobs": 0, "stream": )") +
                         (stream ? "true}" : "false}"));
    run.text("go ST");
    EXPECT_EQ(run.out.find("S\""), std::string::npos);
    EXPECT_FALSE(run.cancelled);
    run.text("OP and more");
    EXPECT_TRUE(run.cancelled);
    run.finish(FinishReason::kCancelled);
    EXPECT_TRUE(run.done());
    if (stream) {
      std::string text;
      for (const Json& e : run.events()) text += e["choices"][0]["text"].get<std::string>();
      EXPECT_EQ(text, "go ");
      EXPECT_EQ(run.events().back()["choices"][0]["stop_reason"], "STOP");
    } else {
      const Json choice = run.body()["choices"][0];
      EXPECT_EQ(choice["text"], "go ");
      EXPECT_EQ(choice["finish_reason"], "stop");
      EXPECT_EQ(choice["stop_reason"], "STOP");
      EXPECT_EQ(run.body()["usage"]["completion_tokens"], 7);
    }
  }
}

TEST(Answer, StopStringsCanBeAskedFor) {
  Reply run(false, R"({"prompt": "a", "stop": "X", "include_stop_str_in_output": true})");
  run.text("abXc");
  EXPECT_EQ(run.body()["choices"][0]["text"], "abX");
}

TEST(Answer, TextHeldForAStopComesAtTheEnd) {
  Reply run(false, R"({"prompt": "a", "stop": "STOP", "stream": true, "logprobs": 1})");
  run.text("xST");
  run.finish(FinishReason::kLength);
  std::string text;
  size_t tokens = 0;
  for (const Json& e : run.events()) {
    const Json& choice = e["choices"][0];
    text += choice["text"].get<std::string>();
    if (!choice["logprobs"].is_null()) tokens += choice["logprobs"]["tokens"].size();
  }
  EXPECT_EQ(text, "xST");
  EXPECT_EQ(tokens, 3U);
}

TEST(Answer, LogprobsOfBothKinds) {
  Reply chat(true, kUser + R"(, "logprobs": true, "top_logprobs": 2})");
  chat.text("\xC3\xBC");
  chat.finish(FinishReason::kLength);
  const Json content = chat.body()["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 2U);
  EXPECT_EQ(content[0]["bytes"], Json::parse("[195]"));
  EXPECT_EQ(content[1]["bytes"], Json::parse("[188]"));
  EXPECT_EQ(content[0]["logprob"], -0.5);
  EXPECT_EQ(content[0]["top_logprobs"].size(), 2U);

  Reply text(false, R"({"prompt": "a", "logprobs": 2})");
  text.text("bc");
  text.finish(FinishReason::kLength);
  EXPECT_EQ(
      text.body()["choices"][0]["logprobs"],
      Json::parse(
          R"({"tokens":["b","c"],"token_logprobs":[-0.5,-0.5],"top_logprobs":[{"b":-0.5,"z":-2.0},{"c":-0.5,"z":-2.0}],"text_offset":[0,1]})"));
}

TEST(Answer, EchoBringsThePromptAndItsLogprobs) {
  Reply run(false, R"({"prompt": "ab", "echo": true, "logprobs": 0, "max_tokens": 0})");
  EXPECT_TRUE(run.answer->prepared().requests[0].prompt_logprobs);
  run.answer->event(0, PromptEvent{.position = 1, .token = 'a', .logprob = -1, .top = {}}, run.out);
  run.answer->event(0, PromptEvent{.position = 2, .token = 'b', .logprob = -2, .top = {}}, run.out);
  run.text("x");
  run.finish(FinishReason::kLength);
  run.done();
  const Json choice = run.body()["choices"][0];
  EXPECT_EQ(choice["text"], "ab");
  EXPECT_EQ(choice["logprobs"]["tokens"], Json::parse(R"(["<s>","a","b"])"));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], Json::parse("[null,-1.0,-2.0]"));
  EXPECT_EQ(choice["logprobs"]["text_offset"], Json::parse("[0,0,1]"));
  EXPECT_EQ(run.body()["usage"]["completion_tokens"], 0);
}

TEST(Answer, SeveralPromptsAndChoices) {
  Reply run(false, R"({"prompt": ["a", "b"], "n": 2})");
  run.text("x", 1, 1);
  run.text("y", 0, 0);
  for (const size_t prompt : {size_t{0}, size_t{1}}) {
    for (const uint32_t index : {0U, 1U}) run.finish(FinishReason::kLength, index, -1, prompt);
    EXPECT_EQ(run.done(prompt), prompt == 1);
  }
  const Json choices = run.body()["choices"];
  ASSERT_EQ(choices.size(), 4U);
  EXPECT_EQ(choices[0]["text"], "y");
  EXPECT_EQ(choices[3]["text"], "x");
  EXPECT_EQ(choices[3]["index"], 3);
}

TEST(Answer, SpecialTokensLeaveNoTextUnlessAskedFor) {
  Reply run(false, R"({"prompt": "a"})");
  run.token(small::kStart);
  run.text("b");
  EXPECT_EQ(run.body()["choices"][0]["text"], "b");
  Reply shown(false, R"({"prompt": "a", "skip_special_tokens": false})");
  shown.token(small::kStart);
  shown.text("b");
  EXPECT_EQ(shown.body()["choices"][0]["text"], "<|im_start|>b");
}

const std::string kTools = kUser + R"(, "tools": [{"type": "function", "function": {"name": "f"}}])";

TEST(Answer, ToolCallsWhoseMarkerIsASpecialToken) {
  Reply run(true, kTools + "}");
  run.token(small::kToolCall);
  run.text("{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>");
  run.token(small::kEnd, 0, true);
  run.finish(FinishReason::kStop, 0, small::kEnd);
  const Json choice = run.body()["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_EQ(choice["message"]["content"], nullptr);
  const Json& call = choice["message"]["tool_calls"][0];
  EXPECT_EQ(call["type"], "function");
  EXPECT_EQ(call["id"].get<std::string>().size(), 9U);
  EXPECT_EQ(call["function"], Json::parse(R"({"name":"f","arguments":"{\"a\": 1}"})"));
}

TEST(Answer, ToolCallsAsDeltas) {
  Reply run(true, kTools + R"(, "stream": true, "tool_choice": {"type": "function", "function": {"name": "f"}}})");
  run.text("{\"a\": 1}}\n</tool_call>");
  run.finish(FinishReason::kStop);
  std::string name, id, arguments;
  for (const Json& e : run.events()) {
    const Json& delta = e["choices"][0]["delta"];
    if (!delta.contains("tool_calls")) continue;
    const Json& call = delta["tool_calls"][0];
    EXPECT_EQ(call["index"], 0);
    if (call.contains("id")) {
      id += call["id"];
      name += call["function"]["name"];
    }
    arguments += call["function"]["arguments"].get<std::string>();
  }
  EXPECT_EQ(name, "f");
  EXPECT_EQ(id.size(), 9U);
  EXPECT_EQ(arguments, "{\"a\": 1}");
  EXPECT_EQ(run.events().back()["choices"][0]["finish_reason"], "tool_calls");
}

TEST(Answer, OneCallIsEnoughWhenParallelCallsAreOff) {
  Reply run(true, kTools + R"(, "parallel_tool_calls": false})");
  run.text("<tool_call>{\"name\": \"f\", \"arguments\": {}}");
  EXPECT_TRUE(run.cancelled);
  EXPECT_EQ(run.body()["choices"][0]["finish_reason"], "tool_calls");
}

TEST(Answer, ReasoningIsApart) {
  Reply run(true, kUser + "}");
  run.text("<think>\nhm\n</think>\n\nYes");
  run.finish(FinishReason::kStop);
  const Json message = run.body()["choices"][0]["message"];
  EXPECT_EQ(message["reasoning_content"], "hm");
  EXPECT_EQ(message["content"], "Yes");
  EXPECT_GT(run.body()["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
  Reply raw(true, kUser + R"(, "reasoning_format": "none"})");
  raw.text("<think>a</think>b");
  raw.finish(FinishReason::kStop);
  EXPECT_EQ(raw.body()["choices"][0]["message"]["content"], "<think>a</think>b");
}

TEST(Answer, TokenIdsOnRequest) {
  Reply run(false, R"({"prompt": "a", "return_token_ids": true, "stream": true})");
  run.text("ab");
  run.finish(FinishReason::kLength);
  std::vector<int> ids;
  for (const Json& e : run.events()) {
    for (const Json& id : e["choices"][0]["token_ids"]) ids.push_back(id);
  }
  EXPECT_EQ(ids, std::vector<int>({'a', 'b'}));
}

TEST(Answer, EngineErrorsEndTheRequest) {
  Reply run(false, R"({"prompt": "a"})");
  const auto effect = run.answer->event(0,
                                        FinishedEvent{.index = 0,
                                                      .reason = FinishReason::kError,
                                                      .stop_token = -1,
                                                      .error = {Code::kBadData, "logits are not numbers"}},
                                        run.out);
  ASSERT_TRUE(effect.error);
  EXPECT_EQ(effect.error->status, 500);
}

}  // namespace
}  // namespace ll::serve
