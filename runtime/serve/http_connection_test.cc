#include "runtime/serve/http_connection.h"

#include "runtime/serve/http_cases_test.h"

namespace ll::serve {
namespace {

// Answers at once with the target, or keeps the exchange for the test to answer.
class Echo : public HttpHandler {
 public:
  std::optional<Response> refuse(const HttpRequest& request) override {
    if (request.header("x-refuse") == nullptr) return std::nullopt;
    return Response{.status = 401, .body = "no"};
  }
  void handle(std::shared_ptr<Exchange> exchange) override {
    ++requests;
    last = exchange;
    body = exchange->take_body();
    if (!later) exchange->respond({.content_type = "text/plain", .body = exchange->request().target});
  }
  Response malformed(int status, const char* reason) override { return {.status = status, .body = reason}; }

  bool later = false;
  int requests = 0;
  std::string body;
  std::shared_ptr<Exchange> last;
};

struct Fixture : ::testing::Test {
  ConnectionLimits limits;
  ConnectionTotals totals;
  Echo echo;
  int wakes = 0;
  std::unique_ptr<HttpConnection> connection =
      std::make_unique<HttpConnection>(limits, echo, totals, [this] { ++wakes; });

  std::string take() {
    const std::string out(connection->output());
    connection->sent(out.size());
    return out;
  }
  static size_t count(const std::string& text, const std::string& what) {
    size_t n = 0;
    for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) ++n;
    return n;
  }
  void pass(double seconds) {
    totals.now += std::chrono::duration_cast<Time::duration>(std::chrono::duration<double>(seconds));
  }
  bool due() const { return connection->deadline() && *connection->deadline() <= totals.now; }
};
using HttpConnectionTest = Fixture;

TEST_F(HttpConnectionTest, AnswersRequestsOneAfterAnother) {
  connection->receive("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HT");
  const std::string out = take();
  EXPECT_EQ(count(out, "HTTP/1.1 200 OK\r\n"), 2U);
  EXPECT_TRUE(out.ends_with("\r\n\r\n/b"));
  EXPECT_GT(wakes, 0);
  connection->receive("TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /d HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(connection->output().find("Connection: close"), std::string::npos);
  EXPECT_FALSE(connection->finished());
  EXPECT_TRUE(take().ends_with("/c"));
  EXPECT_TRUE(connection->finished());
  EXPECT_EQ(echo.requests, 3);
}

TEST_F(HttpConnectionTest, TheNextRequestWaitsForTheAnswer) {
  echo.later = true;
  connection->receive("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(echo.requests, 1);
  EXPECT_EQ(take(), "");
  const auto first = echo.last;
  first->respond({.body = "1"});
  EXPECT_EQ(echo.requests, 2);
  first->respond({.body = "again"});
  echo.last->respond({.body = "2"});
  EXPECT_EQ(count(take(), "HTTP/1.1 200"), 2U);
}

TEST_F(HttpConnectionTest, MalformedRequestsAreAnsweredOnceAndClosed) {
  for (const HttpCase& c : read_http_cases("malformed.txt", false)) {
    for (const size_t piece : {size_t{1}, c.bytes.size()}) {
      connection = std::make_unique<HttpConnection>(limits, echo, totals, nullptr);
      for (size_t at = 0; at < c.bytes.size(); at += piece)
        connection->receive(std::string_view(c.bytes).substr(at, piece));
      connection->receive("GET /second HTTP/1.1\r\nHost: x\r\n\r\n");
      const std::string out = take();
      EXPECT_TRUE(out.starts_with("HTTP/1.1 " + std::to_string(c.status))) << c.name << ": " << out;
      EXPECT_EQ(count(out, "HTTP/1.1 "), 1U) << c.name;
      EXPECT_NE(out.find("Connection: close"), std::string::npos) << c.name;
      EXPECT_TRUE(connection->finished()) << c.name;
      EXPECT_TRUE(connection->lingers()) << c.name;
    }
  }
  EXPECT_EQ(echo.requests, 0);
}

TEST_F(HttpConnectionTest, StreamsInChunks) {
  echo.later = true;
  connection->receive("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  echo.last->begin({.content_type = "text/event-stream"});
  echo.last->write("hello");
  echo.last->write("");
  echo.last->write(std::string(17, 'x'));
  echo.last->end();
  const std::string out = take();
  EXPECT_NE(out.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_TRUE(out.ends_with("\r\n\r\n5\r\nhello\r\n11\r\n" + std::string(17, 'x') + "\r\n0\r\n\r\n"));
  EXPECT_FALSE(connection->finished());
}

TEST_F(HttpConnectionTest, StreamsToHttp10UntilTheConnectionCloses) {
  echo.later = true;
  connection->receive("GET /a HTTP/1.0\r\n\r\n");
  echo.last->begin({});
  echo.last->write("hello");
  EXPECT_TRUE(connection->wants_input());  // to see the client leave
  EXPECT_FALSE(connection->finished());
  echo.last->end();
  const std::string out = take();
  EXPECT_EQ(out.find("chunked"), std::string::npos);
  EXPECT_TRUE(out.ends_with("\r\n\r\nhello"));
  EXPECT_TRUE(connection->finished());
}

TEST_F(HttpConnectionTest, HeadGetsTheHeadAlone) {
  connection->receive("HEAD /abc HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string out = take();
  EXPECT_NE(out.find("Content-Length: 4\r\n"), std::string::npos);
  EXPECT_TRUE(out.ends_with("\r\n\r\n"));
}

TEST_F(HttpConnectionTest, SaysWhenTheClientHasGone) {
  echo.later = true;
  connection->receive("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  int gone = 0;
  echo.last->on_gone = [&] { ++gone; };
  connection->peer_closed();
  EXPECT_EQ(gone, 1);
  EXPECT_TRUE(echo.last->gone());
  EXPECT_TRUE(echo.last->lost());
  echo.last->respond({.body = "nobody reads"});
  EXPECT_EQ(take(), "");
  EXPECT_TRUE(connection->finished());
  connection = std::make_unique<HttpConnection>(limits, echo, totals, nullptr);
  connection->receive("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  echo.last->on_gone = [&] { ++gone; };
  connection.reset();
  EXPECT_EQ(gone, 2);
}

TEST_F(HttpConnectionTest, TellsSlowReadersFromOthers) {
  limits.output_bytes = 1000;
  echo.later = true;
  connection->receive("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  int rooms = 0;
  echo.last->on_room = [&] { ++rooms; };
  echo.last->begin({});
  echo.last->write(std::string(500, 'x'));
  EXPECT_FALSE(echo.last->full());
  echo.last->write(std::string(1000, 'x'));
  EXPECT_TRUE(echo.last->full());
  connection->sent(300);
  EXPECT_EQ(rooms, 0);
  connection->sent(connection->output().size() - 900);
  EXPECT_EQ(rooms, 1);
  EXPECT_FALSE(echo.last->full());
  // A byte now and then is no progress.
  for (int i = 0; i < 30; ++i) {
    EXPECT_FALSE(due()) << i;
    pass(1);
    if (i < 29) connection->sent(1);
  }
  EXPECT_TRUE(due());
  EXPECT_TRUE(connection->expire());
}

TEST_F(HttpConnectionTest, ReadingFourKilobytesIsProgress) {
  echo.later = true;
  connection->receive("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  echo.last->begin({});
  echo.last->write(std::string(100'000, 'x'));
  for (int i = 0; i < 10; ++i) {
    pass(29);
    EXPECT_FALSE(due());
    connection->sent(kLeastProgress);
  }
}

TEST_F(HttpConnectionTest, Deadlines) {
  pass(74);
  EXPECT_FALSE(due());
  pass(2);
  EXPECT_TRUE(due());
  EXPECT_TRUE(connection->expire());  // an idle connection just goes

  connection = std::make_unique<HttpConnection>(limits, echo, totals, nullptr);
  connection->receive("GET / HT");
  pass(6);
  connection->receive("T");  // does not buy time
  EXPECT_FALSE(due());
  pass(5);
  EXPECT_TRUE(due());
  EXPECT_FALSE(connection->expire());
  EXPECT_TRUE(take().starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(connection->finished());

  connection = std::make_unique<HttpConnection>(limits, echo, totals, nullptr);
  connection->receive("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
  pass(29);
  connection->receive("x");
  EXPECT_FALSE(due());
  pass(2);
  EXPECT_TRUE(due());
  EXPECT_FALSE(connection->expire());
  EXPECT_TRUE(take().starts_with("HTTP/1.1 408 "));

  // Answers may take their time.
  echo.later = true;
  connection = std::make_unique<HttpConnection>(limits, echo, totals, nullptr);
  connection->receive("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(connection->deadline(), std::nullopt);
}

TEST_F(HttpConnectionTest, RefusesBeforeTheBody) {
  connection->receive("POST / HTTP/1.1\r\nHost: x\r\nX-Refuse: 1\r\nContent-Length: 100\r\n\r\nabc");
  EXPECT_TRUE(take().starts_with("HTTP/1.1 401 "));
  EXPECT_TRUE(connection->finished());
  EXPECT_EQ(totals.body_bytes, 0U);
  // Without a body the connection can go on.
  connection = std::make_unique<HttpConnection>(limits, echo, totals, nullptr);
  connection->receive("GET / HTTP/1.1\r\nHost: x\r\nX-Refuse: 1\r\n\r\n");
  EXPECT_TRUE(take().starts_with("HTTP/1.1 401 "));
  EXPECT_FALSE(connection->finished());
}

TEST_F(HttpConnectionTest, AsksForBodiesThatWait) {
  connection->receive("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(take(), "HTTP/1.1 100 Continue\r\n\r\n");
  connection->receive("abc");
  EXPECT_EQ(echo.body, "abc");
  EXPECT_EQ(count(take(), "HTTP/1.1 200"), 1U);
}

TEST_F(HttpConnectionTest, BoundsTheBodiesOfAllConnections) {
  limits.all_bodies = 1000;
  const std::string head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 700\r\n\r\n";
  connection->receive(head + std::string(600, 'x'));
  EXPECT_EQ(totals.body_bytes, 600U);
  HttpConnection second(limits, echo, totals, nullptr);
  second.receive(head + std::string(600, 'x'));
  EXPECT_TRUE(second.output().starts_with("HTTP/1.1 429 "));
  EXPECT_NE(second.output().find("Retry-After: 1"), std::string::npos);
  connection->receive(std::string(100, 'x'));
  EXPECT_EQ(echo.body.size(), 700U);
  connection.reset();
  EXPECT_LE(totals.body_bytes, 600U);
}

TEST_F(HttpConnectionTest, StopsReadingWhatIsSentTooEarly) {
  echo.later = true;
  connection->receive("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(connection->wants_input());
  connection->receive(std::string(70'000, 'G'));
  EXPECT_FALSE(connection->wants_input());
}

TEST_F(HttpConnectionTest, DrainingEndsAfterTheAnswer) {
  echo.later = true;
  connection->receive("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  connection->drain();
  EXPECT_FALSE(connection->finished());
  echo.last->respond({.body = "done"});
  EXPECT_EQ(echo.requests, 1);
  EXPECT_TRUE(take().ends_with("done"));
  EXPECT_TRUE(connection->finished());
  HttpConnection idle(limits, echo, totals, nullptr);
  idle.drain();
  EXPECT_TRUE(idle.finished());
}

}  // namespace
}  // namespace ll::serve
