#include "runtime/serve/http_parser.h"

#include "runtime/serve/http_cases_test.h"

namespace ll::serve {
namespace {

using State = RequestParser::State;

// Feeds the bytes in pieces of one size until the parser stops.
size_t feed(RequestParser& parser, std::string_view bytes, size_t piece) {
  size_t taken = 0;
  while (taken < bytes.size() && parser.state() != State::kDone && parser.state() != State::kFailed) {
    const std::string_view part = bytes.substr(taken, piece);
    const size_t n = parser.feed(part);
    taken += n;
    if (n < part.size()) break;
  }
  return taken;
}

TEST(HttpParser, RefusesEveryMalformedCaseHoweverItIsCut) {
  const auto cases = read_http_cases("malformed.txt", false);
  size_t plain = 0;
  for (const HttpCase& c : cases) {
    plain += c.status == 400 ? 1 : 0;
    for (const size_t piece : {size_t{1}, size_t{2}, size_t{7}, c.bytes.size()}) {
      RequestParser parser({});
      feed(parser, c.bytes, piece);
      EXPECT_EQ(parser.state(), State::kFailed) << c.name;
      EXPECT_EQ(parser.status(), c.status) << c.name << ": " << parser.reason();
    }
  }
  EXPECT_GE(plain, 80U);
}

TEST(HttpParser, TakesEveryValidCaseWholeHoweverItIsCut) {
  for (const HttpCase& c : read_http_cases("valid.txt", true)) {
    for (size_t piece = 1; piece <= c.bytes.size(); piece = piece * 2 + 1) {
      RequestParser parser({});
      EXPECT_EQ(feed(parser, c.bytes, piece), c.bytes.size()) << c.name;
      EXPECT_EQ(parser.state(), State::kDone) << c.name << ": " << parser.reason();
    }
  }
}

TEST(HttpParser, ReadsARequest) {
  RequestParser parser({});
  const std::string bytes =
      "POST /a/b?c=d HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n";
  const size_t end = bytes.find("GET");
  EXPECT_EQ(parser.feed(bytes), end);
  ASSERT_EQ(parser.state(), State::kDone);
  const HttpRequest& r = parser.request();
  EXPECT_EQ(r.method, "POST");
  EXPECT_EQ(r.path, "/a/b");
  EXPECT_EQ(r.query, "c=d");
  EXPECT_EQ(r.body, "abc");
  EXPECT_EQ(*r.header("x-two"), "1");
  EXPECT_EQ(r.header("x-three"), nullptr);
  EXPECT_TRUE(r.keep_alive);
  EXPECT_EQ(parser.feed("x"), 0U);
  parser.next();
  EXPECT_EQ(parser.state(), State::kIdle);
}

TEST(HttpParser, KeepsTheConnectionAsAskedFor) {
  const auto keep = [](std::string_view bytes) {
    RequestParser parser({});
    parser.feed(bytes);
    EXPECT_EQ(parser.state(), State::kDone);
    return parser.request().keep_alive;
  };
  EXPECT_TRUE(keep("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_FALSE(keep("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"));
  EXPECT_FALSE(keep("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keep("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

TEST(HttpParser, HoldsToItsLimits) {
  const HttpLimits limits{.head_bytes = 200, .headers = 3, .target_bytes = 20, .body_bytes = 10};
  const auto status = [&](const std::string& bytes) {
    RequestParser parser(limits);
    parser.feed(bytes);
    return parser.state() == State::kFailed ? parser.status() : 0;
  };
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\n";
  EXPECT_EQ(status("GET /" + std::string(30, 'a') + " HTTP/1.1\r\n"), 414);
  EXPECT_EQ(status("GET /" + std::string(300, 'a')), 414);
  EXPECT_EQ(status(head + "A: " + std::string(300, 'b')), 431);
  EXPECT_EQ(status(head + "A: b\r\nB: c\r\nC: d\r\n\r\n"), 431);
  EXPECT_EQ(status(head + "Content-Length: 10\r\n\r\n"), 0);
  EXPECT_EQ(status(head + "Content-Length: 11\r\n\r\n"), 413);
  EXPECT_EQ(status(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n5\r\nabcde\r\n0\r\n\r\n"), 0);
  EXPECT_EQ(status(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n6\r\n"), 413);
  // Many small chunks are no large head.
  std::string chunks;
  for (int i = 0; i < 10; ++i) chunks += "1\r\na\r\n";
  EXPECT_EQ(status(head + "Transfer-Encoding: chunked\r\n\r\n" + chunks + "0\r\n\r\n"), 0);
  EXPECT_EQ(status(head + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + std::string(300, 'a')), 431);
}

TEST(HttpParser, HostNames) {
  EXPECT_EQ(host_name("Example.ORG:80"), "example.org");
  EXPECT_EQ(host_name("[::1]:80"), "[::1]");
  EXPECT_EQ(host_name("127.0.0.1"), "127.0.0.1");
  for (const char* bad : {"", ":80", "a:b", "a:123456", "[::1", "[]", "[x]", "a b", "a/b", "a@b", "[::1]x"}) {
    EXPECT_EQ(host_name(bad), "") << bad;
  }
}

}  // namespace
}  // namespace ll::serve
