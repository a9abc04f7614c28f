#include "runtime/load/load.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/load/response_reader.h"
#include "runtime/load/statistics.h"
#include "runtime/load/workload.h"

namespace ll::load {
namespace {

// ---- Lengths ----

TEST(Length, Parses) {
  Random random(1);
  EXPECT_EQ(Length::parse("128")->draw(random), 128U);
  const Length uniform = *Length::parse("uniform:3,5");
  std::set<uint32_t> seen;
  for (int i = 0; i < 200; ++i) seen.insert(uniform.draw(random));
  EXPECT_EQ(seen, (std::set<uint32_t>{3, 4, 5}));
  for (const char* wrong : {"",
                            "0",
                            "-1",
                            "1.5",
                            "1e9",
                            "nan",
                            "inf",
                            "12x",
                            "uniform:",
                            "uniform:5",
                            "uniform:5,3",
                            "uniform:0,3",
                            "uniform:1,2,3",
                            "lognormal:128",
                            "lognormal:0,1",
                            "lognormal:5,-1",
                            "lognormal:5,nan",
                            "normal:1,2",
                            ":1,2",
                            "128 "}) {
    EXPECT_FALSE(Length::parse(wrong)) << wrong;
  }
}

TEST(Length, LognormalHasItsMedianAndSigma) {
  const Length length = *Length::parse("lognormal:1000,0.5");
  Random random(7);
  double sum = 0, squares = 0;
  const int n = 20'000;
  for (int i = 0; i < n; ++i) {
    const double x = std::log(length.draw(random));
    sum += x;
    squares += x * x;
  }
  // Six standard errors.
  EXPECT_NEAR(sum / n, std::log(1000.0), 6 * 0.5 / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(squares / n - sum / n * sum / n), 0.5, 6 * 0.5 / std::sqrt(2.0 * n));
  EXPECT_EQ(Length::parse("lognormal:1000000,10")->draw(random) <= Length::kMost, true);
}

TEST(Random, IsTheSameEverywhere) {
  // The first outputs of the reference implementation for seed 1234567.
  Random random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317U);
  EXPECT_EQ(random.next(), 3203168211198807973U);
}

// ---- Statistics ----

TEST(Quantile, LiesBetweenTheNearestRanks) {
  const std::vector<double> four = {1, 2, 3, 10};
  EXPECT_EQ(quantile(four, 0), 1);
  EXPECT_EQ(quantile(four, 1), 10);
  EXPECT_DOUBLE_EQ(quantile(four, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile(four, 0.95), 3 + 0.85 * 7);
  EXPECT_EQ(quantile({5}, 0.99), 5);
  EXPECT_EQ(quantile({}, 0.5), 0);
}

Sample sample(double start, double first, std::vector<double> gaps, double end, uint64_t tokens = 0) {
  Sample s;
  s.start = start;
  s.first = s.last = start + first;
  s.gaps = std::move(gaps);
  for (const double g : s.gaps) s.last += g;
  s.chunks = static_cast<uint32_t>(s.gaps.size()) + 1;
  s.end = end;
  s.has_usage = tokens > 0;
  s.output_tokens = tokens;
  s.prompt_tokens = tokens > 0 ? 10 : 0;
  return s;
}

TEST(Evaluate, CountsAndLimits) {
  LoadOptions options;
  options.slo_first_token = 150;
  options.slo_per_token = 60;
  Sample failed;
  failed.end = 0.5;
  failed.error_kind = "status 429";
  failed.error_text = "busy";
  const LevelResult level = evaluate(options, {sample(0, 0.1, {0.05, 0.05}, 0.2, 3),           // within both
                                               sample(0, 0.2, {0.05}, 0.3, 2),                 // late
                                               sample(1, 0.1, {0.05, 0.1}, 2, 3),              // slow
                                               sample(1, 0.1, {0.05, 0.1}, 1.3, 9), failed});  // several tokens a text
  EXPECT_EQ(level.sent, 5U);
  EXPECT_EQ(level.answered, 4U);
  EXPECT_EQ(level.errors, (std::vector<std::pair<std::string, uint32_t>>{{"status 429", 1}}));
  EXPECT_EQ(level.first_error, "status 429: busy");
  EXPECT_EQ(level.seconds, 2);
  EXPECT_TRUE(level.counted_by_server);
  EXPECT_EQ(level.output_tokens, 17U);
  EXPECT_EQ(level.prompt_tokens, 40U);
  EXPECT_EQ(level.chunks, 11U);
  EXPECT_EQ(level.good, 2U);
  EXPECT_EQ(level.good_tokens, 12U);
  EXPECT_EQ(level.first_token.count, 4U);
  EXPECT_NEAR(level.first_token.mean, 125, 1e-9);
  EXPECT_NEAR(level.first_token.max, 200, 1e-9);
  EXPECT_EQ(level.between.count, 7U);
  EXPECT_NEAR(level.end_to_end.p50, 300, 1e-9);
  EXPECT_EQ(level.end_to_end_curve.size(), 101U);
}

TEST(Evaluate, WithoutTheServersCountChunksCount) {
  const LevelResult level = evaluate({}, {sample(0, 0.1, {0.1}, 0.3), sample(0, 0.1, {0.1}, 0.3, 7)});
  EXPECT_FALSE(level.counted_by_server);
  EXPECT_EQ(level.output_tokens, 4U);
  EXPECT_EQ(level.prompt_tokens, 0U);
  EXPECT_EQ(level.good, 2U);
}

TEST(Evaluate, Nothing) {
  const LevelResult level = evaluate({}, {});
  EXPECT_EQ(level.sent, 0U);
  EXPECT_EQ(level.first_token.p99, 0);
  EXPECT_TRUE(level.first_token_curve.empty());
}

// ---- Responses ----

struct Read {
  Status status;
  std::string body;
  bool complete = false;
  int code = 0;
};

Read read(std::string_view text, size_t piece, bool close = true) {
  Read out;
  ResponseReader reader;
  for (size_t at = 0; at < text.size() && out.status; at += piece) {
    out.status = reader.feed(text.substr(at, piece), [&](std::string_view part) -> Status {
      out.body += part;
      return {};
    });
  }
  if (out.status && close) out.status = reader.closed();
  out.complete = reader.complete();
  out.code = reader.status();
  return out;
}

TEST(ResponseReader, AnyCutGivesTheSameBody) {
  struct Case {
    const char *text, *body;
  };
  const Case cases[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellorest", "hello"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nA: b\r\n\r\n", "hello"},
      {"HTTP/1.1 200 OK\ntransfer-encoding:  Chunked \n\n5\nhello\n0\n\n", "hello"},
      {"HTTP/1.0 200 OK\r\n\r\nhello", "hello"},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
  };
  for (const Case& c : cases) {
    for (const size_t piece : {1U, 2U, 3U, 7U, 1000U}) {
      const Read got = read(c.text, piece);
      ASSERT_TRUE(got.status) << c.text << got.status.error().message;
      EXPECT_EQ(got.body, c.body) << c.text << piece;
      EXPECT_TRUE(got.complete);
      EXPECT_EQ(got.code, 200);
    }
  }
}

TEST(ResponseReader, RefusesWhatIsNoResponse) {
  const std::string long_line(100'000, 'x');
  for (const std::string& text :
       {std::string("SSH-2.0-x\r\n\r\n"), std::string("HTTP/1.1 abc\r\n\r\n"), std::string("HTTP/2 200\r\n\r\n"),
        std::string("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "HTTP/1.1 200 OK\r\nA: " + long_line,
        std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"),
        std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + long_line,
        std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n")}) {
    for (const size_t piece : {1U, 100'000U}) EXPECT_FALSE(read(text, piece, false).status) << text.substr(0, 80);
  }
  for (const char* cut : {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
                          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"}) {
    EXPECT_FALSE(read(cut, 1000).status) << cut;
  }
}

std::vector<std::string> events(std::string_view text, size_t piece) {
  std::vector<std::string> out;
  EventReader reader;
  for (size_t at = 0; at < text.size(); at += piece) {
    const Status status = reader.feed(text.substr(at, piece), [&](std::string_view data) -> Status {
      out.emplace_back(data);
      return {};
    });
    EXPECT_TRUE(status);
  }
  return out;
}

TEST(EventReader, ReadsEveryVariant) {
  const std::vector<std::string> want = {"a", "b\nc", "", "{\"x\":1}"};
  for (const char* end : {"\n", "\r\n", "\r"}) {
    std::string text;
    for (const char* line : {": ping", "", "data: a", "", "event: x", "id: 1", "data:b", "data: c", "", "", "data:", "",
                             "retry: 5", "", "data: {\"x\":1}", ""}) {
      text += std::string(line) + end;
    }
    for (const size_t piece : {1U, 2U, 5U, 1000U}) EXPECT_EQ(events(text, piece), want) << piece;
  }
  // An event that is not ended by a blank line is none.
  EXPECT_TRUE(events("data: a\n", 1).empty());
}

TEST(EventReader, HasALimit) {
  EventReader reader;
  const std::string much(1 << 20, 'x');
  Status status;
  for (int i = 0; i < 20 && status; ++i) status = reader.feed("data: " + much + "\n", [](auto) { return Status(); });
  EXPECT_FALSE(status);
}

TEST(ReadChunk, TheVariantsOfServers) {
  const auto text = [](std::string_view data) { return read_chunk(data)->text; };
  EXPECT_TRUE(text(R"({"choices":[{"text":"x","finish_reason":null}]})"));
  EXPECT_TRUE(text(R"({"choices":[{"text":""}]})"));  // a token that completes no character
  EXPECT_TRUE(text(R"({"choices":[{"delta":{"content":"x"}}]})"));
  EXPECT_TRUE(text(R"({"choices":[{"delta":{"role":"assistant","content":"x"}}]})"));
  EXPECT_TRUE(text(R"({"choices":[{"delta":{"content":null,"reasoning_content":"x"}}]})"));
  EXPECT_TRUE(text(R"({"choices":[{"delta":{"tool_calls":[{"index":0}]}}]})"));
  EXPECT_FALSE(text(R"({"choices":[{"delta":{"role":"assistant","content":""}}]})"));
  EXPECT_FALSE(text(R"({"choices":[{"delta":{"role":"assistant","content":null}}]})"));
  EXPECT_FALSE(text(R"({"choices":[{"delta":{},"finish_reason":"stop"}]})"));
  EXPECT_FALSE(text(R"({"choices":[{"delta":{"content":""},"finish_reason":"stop"}]})"));
  EXPECT_FALSE(text(R"({"choices":[{"text":"","finish_reason":"length"}]})"));
  EXPECT_FALSE(text(R"({"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}})"));
  EXPECT_FALSE(text("{}"));
  EXPECT_FALSE(text(R"({"choices":[5]})"));
  EXPECT_FALSE(text(R"({"choices":{"a":1}})"));
  EXPECT_TRUE(read_chunk(R"({"choices":[{"text":"","finish_reason":"length"}]})")->finished);
  EXPECT_TRUE(read_chunk("[DONE]")->done);
  const Chunk usage = *read_chunk(R"({"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}})");
  EXPECT_TRUE(usage.has_usage);
  EXPECT_EQ(usage.prompt_tokens, 3U);
  EXPECT_EQ(usage.output_tokens, 4U);
  EXPECT_FALSE(read_chunk(R"({"choices":[],"usage":null})")->has_usage);
  EXPECT_EQ(read_chunk(R"({"usage":{"completion_tokens":-4}})")->output_tokens, 0U);
  EXPECT_EQ(read_chunk(R"({"error":{"message":"no"}})")->error, "no");
  EXPECT_EQ(read_chunk(R"({"error":"no"})")->error, "no");
  EXPECT_EQ(read_chunk(R"({"error":null})")->error, "");
  for (const char* wrong : {"", "x", "[1]", "{", "[DONE] ", "null"}) EXPECT_FALSE(read_chunk(wrong)) << wrong;
}

TEST(ErrorMessage, FindsTheServersWords) {
  EXPECT_EQ(error_message(R"({"error":{"message":"a\nb"}})"), "a\\nb");
  EXPECT_EQ(error_message(R"({"error":"a"})"), "a");
  EXPECT_EQ(error_message(R"({"detail":"a"})"), "a");
  EXPECT_EQ(error_message("<html>"), "<html>");
  EXPECT_EQ(error_message(""), "");
  EXPECT_LE(error_message(std::string(10'000, 'x')).size(), 310U);
}

// ---- Requests ----

TEST(Url, Parses) {
  const Url url = *Url::parse("http://example.org:8080/base/v1/");
  EXPECT_EQ(url.host, "example.org");
  EXPECT_EQ(url.port, "8080");
  EXPECT_EQ(url.authority, "example.org:8080");
  EXPECT_EQ(url.path, "/base");
  EXPECT_EQ(Url::parse("localhost")->port, "80");
  EXPECT_EQ(Url::parse("localhost:1/v1")->path, "");
  EXPECT_EQ(Url::parse("http://[::1]:5")->host, "::1");
  EXPECT_EQ(Url::parse("http://[::1]")->port, "80");
  for (const char* wrong :
       {"", "https://x", "ftp://x", "http://", "http://x:", "http://x:y", "http://x:99999", "http://x/?a", "http://a b",
        "http://a\r\nb", "http://[::1", "http://[::1]5", "http://u@h"}) {
    EXPECT_FALSE(Url::parse(wrong)) << wrong;
  }
}

nlohmann::json body_of(const std::string& request) {
  return nlohmann::json::parse(request.substr(request.find("\r\n\r\n") + 4));
}

TEST(Workload, RequestsAreTheSameForTheSameSeedAndDifferOtherwise) {
  LoadOptions options;
  options.prompt_words = "uniform:5,10";
  options.output_tokens = "uniform:1,1000";
  const auto make = [&] { return *Workload::create(options, *Url::parse("http://h:1/p"), "m"); };
  Workload a = make(), b = make();
  EXPECT_EQ(a.request(1, 5), b.request(1, 5));
  EXPECT_EQ(b.request(2, 0), a.request(2, 0));
  std::set<std::string> prompts;
  for (uint32_t level = 0; level < 3; ++level) {
    for (uint32_t i = 0; i < 50; ++i) prompts.insert(a.prompt(level, i));
  }
  EXPECT_EQ(prompts.size(), 150U);
  const std::string request = a.request(1, 5);
  EXPECT_TRUE(request.starts_with("POST /p/v1/completions HTTP/1.1\r\nHost: h:1\r\n")) << request;
  const auto body = body_of(request);
  EXPECT_EQ(body["model"], "m");
  EXPECT_EQ(body["prompt"], a.prompt(1, 5));
  EXPECT_EQ(body["stream"], true);
  options.seed = 2;
  EXPECT_NE(make().request(1, 5), request);
}

TEST(Workload, SharedPrefixAndExtraMembers) {
  LoadOptions options;
  options.prompt_words = "10";
  options.shared_prefix = 0.5;
  options.chat = true;
  options.api_key = "k";
  options.extra = R"({"ignore_eos": null, "stream_options": null, "top_k": 5})";
  Workload load = *Workload::create(options, *Url::parse("h"), "m");
  const auto words = [&](uint32_t level, uint32_t i) {
    const std::string text = load.prompt(level, i);
    size_t half = 0;
    for (int k = 0; k < 5; ++k) half = text.find(' ', half) + 1;
    return std::pair(text.substr(0, half), text.substr(half));
  };
  EXPECT_EQ(words(1, 0).first, words(2, 7).first);
  EXPECT_NE(words(1, 0).second, words(2, 7).second);
  const std::string request = load.request(1, 0);
  EXPECT_NE(request.find("/v1/chat/completions"), std::string::npos);
  EXPECT_NE(request.find("\r\nAuthorization: Bearer k\r\n"), std::string::npos);
  const auto body = body_of(request);
  EXPECT_FALSE(body.contains("ignore_eos") || body.contains("stream_options"));
  EXPECT_EQ(body["top_k"], 5);
  EXPECT_EQ(body["messages"][0]["role"], "user");
}

TEST(Workload, ArrivalsArePoisson) {
  const LoadOptions options;
  const Workload load = *Workload::create(options, *Url::parse("h"), "m");
  const std::vector<double> times = load.arrivals(1, 50, 10'000);
  EXPECT_EQ(times[0], 0);
  double sum = 0, squares = 0;
  for (size_t i = 1; i < times.size(); ++i) {
    const double gap = times[i] - times[i - 1];
    ASSERT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
  }
  const double n = static_cast<double>(times.size() - 1), mean = sum / n;
  EXPECT_NEAR(mean, 0.02, 6 * 0.02 / std::sqrt(n));
  // An exponential distribution's deviation equals its mean.
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean) / mean, 1, 0.1);
  EXPECT_NE(load.arrivals(2, 50, 10), load.arrivals(1, 50, 10));
}

TEST(Workload, RefusesWhatCannotBeMet) {
  const auto fails = [](auto change) {
    LoadOptions options;
    change(options);
    return !Workload::create(options, *Url::parse("h"), "m");
  };
  EXPECT_TRUE(fails([](LoadOptions& o) { o.shared_prefix = 1.5; }));
  EXPECT_TRUE(fails([](LoadOptions& o) { o.shared_prefix = NAN; }));
  EXPECT_TRUE(fails([](LoadOptions& o) { o.extra = "[]"; }));
  EXPECT_TRUE(fails([](LoadOptions& o) { o.extra = "{"; }));
  EXPECT_TRUE(fails([](LoadOptions& o) { o.words = " \n"; }));
  EXPECT_TRUE(fails([](LoadOptions& o) { o.api_key = "a\r\nb"; }));
  EXPECT_TRUE(fails([](LoadOptions& o) { o.prompt_words = "x"; }));
  EXPECT_FALSE(fails([](LoadOptions&) {}));
}

TEST(RunLoad, RefusesLevelsThatAreNone) {
  LoadOptions options;
  options.url = "http://127.0.0.1:1";
  options.streams = {0};
  EXPECT_EQ(run_load(options).error().code, Code::kUsage);
  options.streams = {};
  EXPECT_EQ(run_load(options).error().code, Code::kUsage);
  options.rates = {-1};
  EXPECT_EQ(run_load(options).error().code, Code::kUsage);
  options.rates = {1};
  EXPECT_EQ(run_load(options).error().code, Code::kNoInput);
}

// ---- Reports ----

TEST(Report, HoldsTheFiguresAndEscapesTheServersWords) {
  LoadOptions options;
  options.url = "http://h";
  options.api_key = "secret";
  options.slo_first_token = 1000;
  Sample failed;
  failed.error_kind = "status 500";
  failed.error_text = "<script>alert(1)</script>";
  LoadResult result;
  result.model = "<b>m</b>";
  result.levels = {evaluate(options, {sample(0, 0.1, {0.05, 0.05}, 0.2, 3), failed}), evaluate(options, {})};
  result.levels[0].streams = 1;
  result.levels[1].streams = 2;
  const auto json = nlohmann::json::parse(json_report(options, result));
  EXPECT_EQ(json["levels"][0]["first_token_ms"]["p50"], 100);
  EXPECT_EQ(json["levels"][0]["errors"]["status 500"], 1);
  EXPECT_EQ(json["levels"][0]["goodput"]["share"], 0.5);
  EXPECT_EQ(json["levels"][1]["per_second"]["output_tokens"], 0);
  const std::string html = html_report(options, result), svg = svg_report(result), text = text_report(options, result);
  for (const std::string& report : {json_report(options, result), html, svg, text}) {
    EXPECT_EQ(report.find("secret"), std::string::npos);
    EXPECT_EQ(report.find("nan"), std::string::npos);
  }
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_NE(html.find("&lt;b&gt;m"), std::string::npos);
  EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
  EXPECT_EQ(svg.find("href"), std::string::npos);
  EXPECT_NE(text.find("| 1 | 1 | 1 |"), std::string::npos) << text;
}

}  // namespace
}  // namespace ll::load
