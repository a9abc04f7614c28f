// GCC 12 with ASan sees uninitialized memory in std::regex: https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105562
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "runtime/serve/web_files.h"

#include <gtest/gtest.h>

#include <regex>
#include <set>

namespace ll::serve {
namespace {

std::set<std::string> matches(std::string_view text, const char* pattern) {
  std::set<std::string> found;
  const std::regex expression(pattern);
  for (std::cregex_iterator i(text.begin(), text.end(), expression), end; i != end; ++i) found.insert((*i)[1]);
  return found;
}

TEST(WebFiles, EveryReferenceLeadsToAFile) {
  const WebFile* index = find_web_file("/");
  ASSERT_NE(index, nullptr);
  EXPECT_EQ(index->content_type, "text/html; charset=utf-8");
  const auto references = matches(index->text, R"re((?:href|src)="(/[^"#]*)")re");
  EXPECT_GE(references.size(), 4U);
  for (const std::string& reference : references) EXPECT_NE(find_web_file(reference), nullptr) << reference;
  size_t modules = 0;
  for (const WebFile& file : web_files()) {
    for (const std::string& module : matches(file.text, R"re(from "\./([^"]*)")re")) {
      EXPECT_NE(find_web_file("/web/" + module), nullptr) << file.name << " imports " << module;
      ++modules;
    }
  }
  EXPECT_GE(modules, 10U);
}

// The policy would break them in the browser.
TEST(WebFiles, NothingInlineAndNothingFromElsewhere) {
  for (const WebFile& file : web_files()) {
    EXPECT_TRUE(matches(file.text, R"re(((?:src|href)="(?:https?:)?//[^"]*"))re").empty()) << file.name;
    EXPECT_TRUE(
        matches(file.text, R"re((\b(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\()))re").empty())
        << file.name;
    if (!file.name.ends_with(".html")) continue;
    EXPECT_TRUE(matches(file.text, R"re((<script(?![^>]*src=)[^>]*>))re").empty());
    EXPECT_TRUE(matches(file.text, R"re((\s(?:on\w+|style)=))re").empty());
    EXPECT_TRUE(matches(file.text, R"re((<style))re").empty());
  }
}

TEST(WebFiles, PathsThatAreNoFiles) {
  for (const char* path : {"", "/x", "/web/", "/web/x.js", "/web/../index.html", "/web/index.html/", "web/main.js"}) {
    EXPECT_EQ(find_web_file(path), nullptr) << path;
  }
}

std::string header(const Response& response, std::string_view name) {
  for (const auto& [key, value] : response.headers) {
    if (key == name) return value;
  }
  return {};
}

TEST(WebFiles, RevalidatedByTheirEtag) {
  const WebFile& file = *find_web_file("/");
  const Response whole = web_response(file, nullptr);
  EXPECT_EQ(whole.status, 200);
  EXPECT_EQ(whole.body, file.text);
  const std::string etag = header(whole, "ETag");
  EXPECT_TRUE(etag.starts_with('"') && etag.ends_with('"')) << etag;
  for (const std::string& same : {etag, "W/" + etag, "\"x\", " + etag, "\"x\" , W/" + etag + " ", std::string("*")}) {
    const Response response = web_response(file, &same);
    EXPECT_EQ(response.status, 304) << same;
    EXPECT_EQ(response.body, "");
    EXPECT_EQ(header(response, "ETag"), etag);
  }
  for (const std::string other : {"", "\"x\"", ",", ",,\"\"", "W/"}) {
    EXPECT_EQ(web_response(file, &other).status, 200) << other;
  }
}

TEST(WebFiles, PolicyAllowsNothingInline) {
  const Response response = web_response(*find_web_file("/"), nullptr);
  const std::string policy = header(response, "Content-Security-Policy");
  EXPECT_TRUE(policy.starts_with("default-src 'none'")) << policy;
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
}

}  // namespace
}  // namespace ll::serve
