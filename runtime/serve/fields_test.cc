#include "runtime/serve/fields.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/serve/app.h"
#include "runtime/serve/openapi.h"

namespace ll::serve {
namespace {

// The least that each endpoint needs.
Json base(Endpoints endpoint) {
  if (endpoint == kCompletion) return Json{{"prompt", "a"}};
  if (endpoint == kDetokenize) return Json{{"tokens", {1}}};
  if (endpoint == kTokenize) return Json{{"content", "a"}};
  return Json{{"messages", {{{"role", "user"}, {"content", "a"}}}}};
}

Json with(Endpoints endpoint, std::string_view name, const Json& value) {
  Json body = base(endpoint);
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos) {
    body[std::string(name)] = value;
  } else {
    body[std::string(name.substr(0, dot))] = Json{{std::string(name.substr(dot + 1)), value}};
  }
  return body;
}

// The status that a body gets from the table; 200 when it passes.
int status(Endpoints endpoint, const Json& body, std::string* param = nullptr) {
  auto checked = Fields::check(body, endpoint);
  if (checked) return 200;
  if (param != nullptr) *param = checked.error().param;
  return checked.error().status;
}

constexpr Endpoints kAll[] = {kChat, kCompletion, kTokenize, kDetokenize, kTemplate};

TEST(Fields, TheTableIsWellFormed) {
  std::set<std::pair<std::string, Endpoints>> seen;
  for (const Field& f : fields()) {
    EXPECT_NE(f.endpoints, 0U) << f.name;
    EXPECT_LE(f.min, f.max) << f.name;
    EXPECT_GT(std::string_view(f.doc).size(), 3U) << f.name;
    for (const Endpoints e : kAll) {
      if ((f.endpoints & e) == 0) continue;
      EXPECT_TRUE(seen.emplace(f.name, e).second) << f.name << " twice";
      if (*f.default_json == 0) continue;
      const Json fallback = Json::parse(f.default_json, nullptr, false);
      ASSERT_FALSE(fallback.is_discarded()) << f.name;
      EXPECT_EQ(status(e, with(e, f.name, fallback)), 200) << f.name;
    }
    if (f.type == FieldType::kChoice) {
      EXPECT_NE(*f.choices, 0) << f.name;
    }
  }
}

TEST(Fields, EveryFieldHoldsToItsTypeAndRange) {
  const Json values[] = {nullptr,
                         true,
                         3,
                         -7,
                         1.5,
                         "text",
                         Json::array(),
                         Json::object(),
                         Json::array({1}),
                         Json::array({"a"}),
                         Json::array({Json::object()}),
                         Json{{"type", "text"}}};
  for (const Field& f : fields()) {
    for (const Endpoints e : kAll) {
      if ((f.endpoints & e) == 0) continue;
      std::string param;
      if (f.use == FieldUse::kRefused) {
        EXPECT_EQ(status(e, with(e, f.name, 3), &param), 501) << f.name;
        EXPECT_EQ(param, f.name);
        EXPECT_EQ(status(e, with(e, f.name, nullptr)), 200) << f.name;
        continue;
      }
      size_t accepted = 0;
      for (const Json& value : values) accepted += status(e, with(e, f.name, value)) == 200 ? 1 : 0;
      if (f.type != FieldType::kAny) {
        EXPECT_LT(accepted, std::size(values)) << f.name << " takes anything";
      }
      if (f.type != FieldType::kInteger && f.type != FieldType::kNumber) continue;
      const bool integer = f.type == FieldType::kInteger;
      const auto number = [&](double v) {
        return integer && std::abs(v) < 9e15 ? Json(static_cast<int64_t>(v)) : Json(v);
      };
      if (std::abs(f.max) < 9e15) {
        EXPECT_EQ(status(e, with(e, f.name, number(f.min))), 200) << f.name;
        EXPECT_EQ(status(e, with(e, f.name, number(f.max))), 200) << f.name;
        EXPECT_EQ(status(e, with(e, f.name, number(f.max + (integer ? 1 : 1e-6 * (1 + std::abs(f.max))))), &param), 400)
            << f.name;
        EXPECT_EQ(param, f.name);
        EXPECT_EQ(status(e, with(e, f.name, number(f.min - (integer ? 1 : 1e-6 * (1 + std::abs(f.min)))))), 400)
            << f.name;
      }
      EXPECT_EQ(status(e, with(e, f.name, std::nan(""))), 400) << f.name;
      EXPECT_EQ(status(e, with(e, f.name, 1e300)), 400) << f.name;
      EXPECT_EQ(status(e, with(e, f.name, "1")), 400) << f.name;
      if (integer) {
        EXPECT_EQ(status(e, with(e, f.name, 1.5)), 400) << f.name;
      }
    }
  }
}

TEST(Fields, UnknownMembersAreIgnored) {
  for (const Endpoints e : kAll) EXPECT_EQ(status(e, with(e, "next_years_feature", {1, 2})), 200);
}

TEST(Fields, ListsHaveLengthsAndEntries) {
  std::string param;
  EXPECT_EQ(status(kChat, with(kChat, "stop", std::vector<std::string>(16, "a"))), 200);
  EXPECT_EQ(status(kChat, with(kChat, "stop", std::vector<std::string>(17, "a"))), 400);
  EXPECT_EQ(status(kChat, with(kChat, "stop", {"a", 3}), &param), 400);
  EXPECT_EQ(param, "stop[1]");
  EXPECT_EQ(status(kChat, with(kChat, "stop", std::string(257, 'a'))), 400);
  EXPECT_EQ(status(kChat, with(kChat, "logit_bias", {{"5", 101}}), &param), 400);
  EXPECT_EQ(param, "logit_bias.5");
  EXPECT_EQ(status(kChat, with(kChat, "logit_bias", {{"-5", 1}})), 400);
  EXPECT_EQ(status(kChat, with(kChat, "logit_bias", {{"five", 1}})), 400);
  EXPECT_EQ(status(kChat, with(kChat, "logit_bias", {{"99999999999", 1}})), 400);
  Json many = Json::object();
  for (int i = 0; i < 1025; ++i) many[std::to_string(i)] = 0;
  EXPECT_EQ(status(kChat, with(kChat, "logit_bias", many)), 400);
  EXPECT_EQ(status(kCompletion, with(kCompletion, "prompt", Json::array({Json::array({1, -1})})), &param), 400);
  EXPECT_EQ(param, "prompt[0][1]");
}

TEST(Fields, MessagesAreOpenAIs) {
  const auto text = [](const Json& body) {
    auto checked = Fields::check(body, kChat);
    return checked ? std::string() : error_body(checked.error());
  };
  EXPECT_EQ(
      text(with(kChat, "n", 9)),
      R"({"error":{"message":"Invalid 'n': integer above maximum value. Expected a value <= 8, but got 9 instead.","type":"invalid_request_error","param":"n","code":400}})");
  EXPECT_EQ(
      text(with(kChat, "temperature", "warm")),
      R"({"error":{"message":"Invalid type for 'temperature': expected a number, but got a string instead.","type":"invalid_request_error","param":"temperature","code":400}})");
  EXPECT_EQ(
      text(Json::object()),
      R"({"error":{"message":"Missing required parameter: 'messages'.","type":"invalid_request_error","param":"messages","code":400}})");
}

TEST(Fields, BodiesAreBounded) {
  const auto message = [](const std::string& body) {
    auto parsed = parse_body(body);
    return parsed ? std::string() : parsed.error().message;
  };
  EXPECT_EQ(message("{}"), "");
  EXPECT_NE(message(""), "");
  EXPECT_NE(message("[]"), "");
  EXPECT_NE(message("{\"a\": 1"), "");
  EXPECT_NE(message("{\"a\": NaN}"), "");
  EXPECT_NE(message("{\"a\": 1e999}"), "");
  EXPECT_NE(message("{\"a\": \"\xff\"}"), "");
  EXPECT_NE(message("{\"a\": \"\\ud800\"}"), "");
  EXPECT_NE(message(std::string("{\"a\": \"\0\"}", 11)), "");
  const auto nested = [](size_t depth) { return "{\"a\": " + std::string(depth, '[') + std::string(depth, ']') + "}"; };
  EXPECT_EQ(message(nested(kMostJsonDepth - 1)), "");
  EXPECT_NE(message(nested(kMostJsonDepth)), "");
  EXPECT_NE(message(nested(1'000'000)), "");
  EXPECT_NE(message("{\"a\": " + std::string(1'000'000, '[')), "");
  std::string keys = "{\"k\": 0";
  for (int i = 0; i < 10'000; ++i) keys += ", \"" + std::to_string(i) + "\": 0";
  EXPECT_NE(message(keys + "}"), "") << "an object of so many keys takes quadratic time";
  std::string values = "{\"a\": [0";
  for (size_t i = 0; i < kMostJsonValues; ++i) values += ",0";
  EXPECT_NE(message(values + "]}"), "");
  EXPECT_EQ(message("{\"a\": \"" + std::string(100'000, '[') + ",\\\"" + "\"}"), "") << "brackets in text are text";
}

// The table of docs/server.md.
std::string markdown() {
  constexpr const char* kTypes[] = {"boolean", "integer", "number", "text", "text or list", "list of integers",
                                    "prompt",  "object",  "list",   "word", "object",       "any"};
  std::string out = "| field | of | type | range | default | |\n|---|---|---|---|---|---|\n";
  for (const Field& f : fields()) {
    std::string endpoints, range;
    for (size_t i = 0; i < std::size(kAll); ++i) {
      if ((f.endpoints & kAll[i]) != 0) endpoints += "CTKDA"[i];
    }
    if (f.type == FieldType::kInteger || f.type == FieldType::kNumber || f.type == FieldType::kTokenBiases) {
      range = fmt::format("{} .. {}", f.min, f.max);
    } else if (f.type == FieldType::kString && f.use != FieldUse::kRefused) {
      range = fmt::format("{} bytes", f.max);
    } else if (f.type == FieldType::kChoice) {
      range = f.choices;
    } else if (f.type == FieldType::kList || f.type == FieldType::kStrings || f.type == FieldType::kPrompt) {
      range = fmt::format("at most {}", f.max);
    }
    for (size_t at = 0; (at = range.find('|', at)) != std::string::npos; at += 2) range.insert(at, "\\");
    std::string fallback = *f.default_json != 0 ? fmt::format("`{}`", f.default_json) : "";
    const char* use = f.use == FieldUse::kIgnored   ? "ignored: "
                      : f.use == FieldUse::kRefused ? "refused: "
                      : f.required                  ? "required; "
                                                    : "";
    out += fmt::format("| `{}` | {} | {} | {} | {} | {}{} |\n", f.name, endpoints, kTypes[static_cast<size_t>(f.type)],
                       range, fallback, use, f.doc);
  }
  return out;
}

TEST(Fields, AreDocumented) {
  std::ifstream in(LLCUDA_SOURCE_DIR "/docs/server.md");
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const std::string table = markdown();
  if (text.ends_with("-->\n\n" + table)) return;
  std::ofstream(LLCUDA_BINARY_DIR "/server_fields.md") << table;
  FAIL() << "docs/server.md does not end in the table that is now in " LLCUDA_BINARY_DIR "/server_fields.md";
}

TEST(OpenApi, DescribesEveryFieldAndRoute) {
  const Json api = Json::parse(openapi_json(routes(), true), nullptr, false);
  ASSERT_FALSE(api.is_discarded());
  size_t described = 0;
  for (const Route& route : routes()) {
    std::string method = route.method;
    for (char& c : method) c = static_cast<char>(c + 32);
    const std::string path = openapi_path(route.path);
    EXPECT_EQ(path.find('*'), std::string::npos);
    ASSERT_TRUE(api["paths"].contains(path)) << path;
    const Json& operation = api["paths"][path][method];
    EXPECT_EQ(operation.contains("parameters"), path != route.path);
    EXPECT_EQ(operation.contains("security"), !route.is_public) << route.path;
    if (route.endpoint == 0) continue;
    const Json& schema = operation["requestBody"]["content"]["application/json"]["schema"];
    for (const Field& f : fields()) {
      if ((f.endpoints & route.endpoint) == 0) continue;
      const std::string name = f.name;
      const size_t dot = name.find('.');
      const Json& at = schema["properties"][name.substr(0, dot)];
      const Json& field = dot == std::string::npos ? at : at["properties"][name.substr(dot + 1)];
      EXPECT_EQ(field["description"], f.doc) << name;
      if (f.type == FieldType::kInteger || f.type == FieldType::kNumber) {
        EXPECT_EQ(field["minimum"].get<double>(), f.min) << name;
        EXPECT_EQ(field["maximum"].get<double>(), f.max) << name;
      }
      ++described;
    }
  }
  EXPECT_GT(described, 100U);
}

}  // namespace
}  // namespace ll::serve
