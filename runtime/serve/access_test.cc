#include "runtime/serve/access.h"

#include <gtest/gtest.h>

namespace ll::serve {
namespace {

HttpRequest request(std::initializer_list<HttpHeader> headers) {
  HttpRequest r;
  r.method = "GET";
  r.target = r.path = "/v1/models";
  r.headers = headers;
  return r;
}

int status(const Access& access, const HttpRequest& r, bool is_public = false) {
  const auto refusal = access.refuse(r, is_public);
  return refusal ? refusal->status : 200;
}

TEST(Access, Keys) {
  const Access access({.keys = {"first-key", "second-key"}});
  const HttpHeader host = {"host", "localhost"};
  EXPECT_EQ(status(access, request({host})), 401);
  EXPECT_EQ(status(access, request({host}), true), 200);
  EXPECT_EQ(status(access, request({host, {"authorization", "Bearer first-key"}})), 200);
  EXPECT_EQ(status(access, request({host, {"authorization", "bearer second-key"}})), 200);
  EXPECT_EQ(status(access, request({host, {"x-api-key", "second-key"}})), 200);
  for (const char* wrong : {"", "Bearer", "Bearer ", "Bearer first-ke", "Bearer first-keys", "Basic first-key",
                            "first-key", "Bearer  first-key"}) {
    EXPECT_EQ(status(access, request({host, {"authorization", wrong}})), 401) << wrong;
  }
  EXPECT_EQ(status(access, request({host, {"authorization", "Bearer " + std::string(10'000, 'x')}})), 401);
  EXPECT_EQ(status(Access({}), request({host})), 200);
}

TEST(Access, KeyComparison) {
  EXPECT_TRUE(equal_keys("abc", "abc"));
  EXPECT_FALSE(equal_keys("abc", "abd"));
  EXPECT_FALSE(equal_keys("abc", "abcd"));
  EXPECT_FALSE(equal_keys("", "a"));
  EXPECT_FALSE(equal_keys(std::string("a\0", 2), "a"));
}

TEST(Access, HostsThatNameServersCannotPointAtUs) {
  const Access access({.hosts = {"my.server"}});
  for (const char* good :
       {"localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "192.168.1.5", "MY.server:80", "x.localhost"}) {
    EXPECT_EQ(status(access, request({{"host", good}})), 200) << good;
  }
  for (const char* bad :
       {"evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "my.server.evil.example"}) {
    EXPECT_EQ(status(access, request({{"host", bad}})), 403) << bad;
    EXPECT_EQ(status(access, request({{"host", bad}}), true), 403) << bad;
  }
  EXPECT_EQ(status(Access({.hosts = {"*"}}), request({{"host", "evil.example"}})), 200);
  EXPECT_EQ(status(Access({.any_host = true}), request({{"host", "anything"}})), 200);
}

TEST(Access, Origins) {
  const Access access({.origins = {"https://good.example"}});
  const HttpHeader host = {"host", "localhost:8080"};
  EXPECT_EQ(status(access, request({host, {"origin", "http://localhost:8080"}})), 200);
  EXPECT_EQ(status(access, request({host, {"origin", "https://good.example"}})), 200);
  for (const char* bad : {"null", "http://localhost:9090", "https://evil.example", "https://good.example.evil", ""}) {
    EXPECT_EQ(status(access, request({host, {"origin", bad}})), 403) << bad;
  }
  EXPECT_EQ(access.allowed_origin(request({host, {"origin", "https://good.example"}})), "https://good.example");
  EXPECT_EQ(access.allowed_origin(request({host, {"origin", "http://localhost:8080"}})), "");
  EXPECT_EQ(Access({}).allowed_origin(request({host, {"origin", "https://good.example"}})), "")
      << "off unless configured";
}

TEST(Access, KeyFiles) {
  EXPECT_EQ(*read_keys("# ours\n\n  key-1 \r\nkey-2"), (std::vector<std::string>{"key-1", "key-2"}));
  EXPECT_TRUE(read_keys("#x\n")->empty());
  EXPECT_FALSE(read_keys("two words\n"));
  EXPECT_FALSE(read_keys("k\xc3\xa4y"));
  EXPECT_FALSE(read_keys(std::string(257, 'x')));
}

}  // namespace
}  // namespace ll::serve
