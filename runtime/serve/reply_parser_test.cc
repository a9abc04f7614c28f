#include "runtime/serve/reply_parser.h"
#include "tests/files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace ll::serve {
namespace {

// What a reply comes to, as text: content, <reasoning>, and calls as name#id(arguments).
std::string show(const std::vector<Delta>& deltas) {
  std::string out;
  bool open = false;
  for (const Delta& d : deltas) {
    if (open && d.kind != Delta::Kind::kArguments) {
      out += ")";
      open = false;
    }
    switch (d.kind) {
      case Delta::Kind::kContent:
        out += "[" + d.text + "]";
        break;
      case Delta::Kind::kReasoning:
        out += "{" + d.text + "}";
        break;
      case Delta::Kind::kCall:
        out += d.text + "#" + d.id + "(";
        open = true;
        break;
      case Delta::Kind::kArguments:
        out += d.text;
        break;
    }
  }
  return open ? out + ")" : out;
}

// Joined, so that different cuts compare equal.
std::vector<Delta> joined(const std::vector<Delta>& deltas) {
  std::vector<Delta> out;
  for (const Delta& d : deltas) {
    if (!out.empty() && out.back().kind == d.kind && d.kind != Delta::Kind::kCall) {
      out.back().text += d.text;
    } else {
      out.push_back(d);
    }
  }
  return out;
}

std::string parse(const ReplyOptions& options, std::string_view text, const std::vector<size_t>& cuts) {
  ReplyParser parser(options);
  std::vector<Delta> deltas;
  size_t begin = 0;
  for (const size_t cut : cuts) {
    parser.push(text.substr(begin, cut - begin), deltas);
    begin = cut;
  }
  parser.push(text.substr(begin), deltas);
  parser.finish(deltas);
  return show(joined(deltas));
}

std::string check(const ReplyOptions& options, std::string_view text) {
  const std::string whole = parse(options, text, {});
  std::vector<size_t> bytes;
  for (size_t i = 1; i < text.size(); ++i) {
    bytes.push_back(i);
    EXPECT_EQ(parse(options, text, {i}), whole) << text << " cut at " << i;
  }
  EXPECT_EQ(parse(options, text, bytes), whole) << text << " byte by byte";
  return whole;
}

ReplyOptions tools(ToolFormat format) { return {.tools = format, .functions = {"f", "get_weather"}}; }

TEST(ReplyParser, CallsOfEveryFormat) {
  struct Case {
    ToolFormat format;
    const char* text;
    const char* want;
  };
  const Case cases[] = {
      {ToolFormat::kHermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"ü}\\\"\"}}\n</tool_call>",
       "f#({\"a\": \"ü}\\\"\"})"},
      {ToolFormat::kHermes, "Let me see.\n<tool_call>{\"arguments\": {\"a\": [1, {}]}, \"name\": \"f\"}</tool_call>\n",
       "[Let me see.\n]f#({\"a\": [1, {}]})"},
      {ToolFormat::kHermes,
       "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n<tool_call>{\"name\": \"g\", \"arguments\": "
       "{\"x\": 1}}</tool_call>",
       "f#({})g#({\"x\": 1})"},
      {ToolFormat::kHermes,
       "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": \\\"\\u00fc\\n\\\"}\"}</tool_call>",
       "f#({\"a\": \"ü\n\"})"},
      {ToolFormat::kHermes, "<tool_call>{\"name\": \"f\"}</tool_call>", "f#({})"},
      {ToolFormat::kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": null, \"x\": 3}</tool_call>", "f#(null)"},
      {ToolFormat::kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call> and more",
       "f#({})[ and more]"},
      {ToolFormat::kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1", "f#({\"a\": 1)"},
      {ToolFormat::kLlama3, "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Zürich\"}}",
       "get_weather#({\"city\": \"Zürich\"})"},
      {ToolFormat::kLlama3,
       "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}", "f#({})g#({})"},
      {ToolFormat::kLlama3, "\n\n{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}", "f#({})"},
      {ToolFormat::kMistral, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}, \"id\": \"abcdefghi\"}]", "f#({})"},
      {ToolFormat::kMistral,
       "[TOOL_CALLS] [{\"id\": \"abcdefghi\", \"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": "
       "{\"a\":1}}]",
       "f#abcdefghi({})g#({\"a\":1})"},
      {ToolFormat::kMistralArgs, "[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[CALL_ID]123[ARGS]{}",
       "f#({\"a\": 1})g#123({})"},
      {ToolFormat::kPhi, "functools[{\"name\": \"f\", \"arguments\": {}}]", "f#({})"},
      {ToolFormat::kPhi4, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]<|/tool_call|>", "f#({})"},
      {ToolFormat::kGranite,
       "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": {}}}, {\"name\": \"g\", \"arguments\": {}}]",
       "f#({\"a\": {}})g#({})"},
      {ToolFormat::kGranite, "<tool_call>[{\"name\": \"f\", \"arguments\": {}}]</tool_call>", "f#({})"},
      {ToolFormat::kJson, "{\"name\": \"f\", \"arguments\": {\"a\": 1}}", "f#({\"a\": 1})"},
      {ToolFormat::kJson, "[{\"name\": \"f\", \"parameters\": {}}, {\"name\": \"f\", \"parameters\": {}}]",
       "f#({})f#({})"},
  };
  for (const Case& c : cases) EXPECT_EQ(check(tools(c.format), c.text), c.want) << c.text;
}

TEST(ReplyParser, WhatIsNoCallIsTextWithoutLoss) {
  const struct {
    ToolFormat format;
    const char* text;
  } cases[] = {
      {ToolFormat::kNone, "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"},
      {ToolFormat::kHermes, "plain text"},
      {ToolFormat::kHermes, "  \n "},
      {ToolFormat::kHermes, ""},
      {ToolFormat::kHermes, "a < b <tool and <tool_cal"},
      {ToolFormat::kHermes, "<tool_call>\nnot JSON</tool_call>"},
      {ToolFormat::kHermes, "<tool_call>{\"name\": 3, \"arguments\": {}}</tool_call>"},
      {ToolFormat::kHermes, "<tool_call>{\"arguments\": {}}</tool_call>"},
      {ToolFormat::kHermes, "<tool_call>{\"name\": \"f\" \"arguments\": {}}</tool_call>"},
      {ToolFormat::kHermes, "<tool_call>{\"name\": \"f\", "},
      {ToolFormat::kHermes, "<tool_call>{name: f}"},
      {ToolFormat::kHermes, "<tool_call>{}</tool_call>"},
      {ToolFormat::kHermes, "{\"name\": \"f\", \"arguments\": {}}"},
      {ToolFormat::kHermes, " \n<tool_call>[1, 2]"},
      {ToolFormat::kHermes, "<tool_call>get_weather\n<arg_key>city</arg_key>"},
      {ToolFormat::kLlama3, "{\"name\": \"Bob\", \"parameters\": {}}"},
      {ToolFormat::kLlama3, "{\"answer\": 42}"},
      {ToolFormat::kLlama3, "Here: {\"name\": \"f\", \"parameters\": {}}"},
      {ToolFormat::kLlama3, "<|python_tag|>print(1)"},
      {ToolFormat::kMistral, "[TOOL_CALLS]what is this"},
      {ToolFormat::kMistral, "[TOOL_CALLS]f[ARGX]{}"},
      {ToolFormat::kMistral, "[TOOL_CALLS]"},
      {ToolFormat::kPhi, "functools are fun"},
      {ToolFormat::kJson, "[1, 2, 3]"},
      {ToolFormat::kJson, "[]x"},
      {ToolFormat::kJson, "{\"parameters\": {}, \"name\": \"stranger\"}"},
      {ToolFormat::kJson, "{\"name\": \"f\\q\", \"arguments\": {}}"},
  };
  for (const auto& c : cases) {
    ReplyParser parser(tools(c.format));
    std::vector<Delta> deltas;
    parser.push(c.text, deltas);
    parser.finish(deltas);
    std::string content;
    for (const Delta& d : deltas) {
      EXPECT_EQ(d.kind, Delta::Kind::kContent) << c.text;
      content += d.text;
    }
    EXPECT_EQ(content, c.text);
    check(tools(c.format), c.text);
  }
}

TEST(ReplyParser, BrokenArgumentsEndTheCallAndTheRestIsText) {
  EXPECT_EQ(check(tools(ToolFormat::kHermes), "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1]} oh"),
            "f#({\"a\": 1])[]} oh]");
  EXPECT_EQ(check(tools(ToolFormat::kHermes), "<tool_call>{\"name\": \"f\", \"arguments\": {}, oh"), "f#({})[oh]");
}

TEST(ReplyParser, Reasoning) {
  const ReplyOptions plain{.reasoning = true};
  EXPECT_EQ(check(plain, "<think>\nwell  now\n</think>\n\nYes."), "{well  now}[Yes.]");
  EXPECT_EQ(check(plain, " \n<think></think>Yes."), "[Yes.]");
  EXPECT_EQ(check(plain, "No <think>thoughts</think>"), "[No <think>thoughts</think>]");
  EXPECT_EQ(check(plain, "<think>a < b </thin </think>c"), "{a < b </thin}[c]");
  EXPECT_EQ(check(plain, "<think>cut off \n"), "{cut off}");
  EXPECT_EQ(check(plain, "<thin"), "[<thin]");
  EXPECT_EQ(check({}, "<think>a</think>b"), "[<think>a</think>b]");
  const ReplyOptions open{.reasoning = true, .thinking = true};
  EXPECT_EQ(check(open, "well\n</think>\nYes."), "{well}[Yes.]");
  EXPECT_EQ(check(open, "<think>well</think>Yes."), "{well}[Yes.]");
  EXPECT_EQ(check(open, "never ends"), "{never ends}");
  ReplyOptions both = tools(ToolFormat::kHermes);
  both.reasoning = true;
  EXPECT_EQ(check(both, "<think>a <tool_call></think>\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"),
            "{a <tool_call>}f#({})");
}

TEST(ReplyParser, LongRunsOfWhiteSpaceTakeLinearTime) {
  const std::string blank(200'000, ' ');
  const ReplyOptions open{.reasoning = true, .thinking = true};
  ReplyParser parser(open);
  std::vector<Delta> deltas;
  parser.push("x" + blank + "y", deltas);
  parser.finish(deltas);
  EXPECT_EQ(show(joined(deltas)), "{x" + blank + "y}");
}

TEST(ReplyParser, AnOpeningMakesACallOfTheReply) {
  for (const ToolFormat format :
       {ToolFormat::kHermes, ToolFormat::kLlama3, ToolFormat::kMistral, ToolFormat::kMistralArgs, ToolFormat::kPhi,
        ToolFormat::kPhi4, ToolFormat::kGranite, ToolFormat::kJson}) {
    EXPECT_EQ(check(tools(format), tool_call_opening(format, "f") + "{\"a\": 1}"), "f#({\"a\": 1})")
        << tool_format_name(format);
    const std::string any = tool_call_opening(format, "");
    const std::string rest = format == ToolFormat::kMistralArgs ? "f[ARGS]{}" : "f\", \"arguments\": {}}";
    EXPECT_EQ(check(tools(format), any + rest), "f#({})") << tool_format_name(format);
  }
}

TEST(ReplyParser, FormatsOfPublishedTemplates) {
  const std::filesystem::path folder = test_files::shared_folder() / "chat_templates";
  if (!std::filesystem::is_directory(folder)) GTEST_SKIP() << "no templates at " << folder;
  const struct {
    const char* file;
    const char* format;
  } cases[] = {{"Qwen-Qwen2.5-7B-Instruct.jinja", "hermes"},
               {"Qwen-Qwen3-0.6B.jinja", "hermes"},
               {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja", "hermes"},
               {"meta-llama-Llama-3.1-8B-Instruct.jinja", "llama3"},
               {"meta-llama-Llama-3.2-3B-Instruct.jinja", "llama3"},
               {"mistralai-Mistral-Nemo-Instruct-2407.jinja", "mistral"},
               {"Mistral-Small-3.2-24B-Instruct-2506.jinja", "mistral-args"},
               {"ibm-granite-granite-3.3-2B-Instruct.jinja", "granite"},
               {"microsoft-Phi-3.5-mini-instruct.jinja", "json"}};
  for (const auto& c : cases) {
    std::ifstream in(folder / c.file);
    const std::string source((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    EXPECT_STREQ(tool_format_name(tool_format_of(source)), c.format) << c.file;
  }
}

}  // namespace
}  // namespace ll::serve
