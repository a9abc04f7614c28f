#include "runtime/serve/json_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace ll::serve {
namespace {

std::string as_json(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(JsonWriter, NestsAndSeparates) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().string("a", "b").key("c").begin_array().integer(1).null().boolean(true).number(0.5).end_array();
  json.key("d").begin_object().end_object().raw("e", "[2]").integer("f", -3).end_object();
  EXPECT_EQ(out, R"({"a":"b","c":[1,null,true,0.5],"d":{},"e":[2],"f":-3})");
}

TEST(JsonWriter, StringsAreAlwaysValid) {
  EXPECT_EQ(as_json("a\"\\\n\r\t\x01\x7f/ü🎉"), "\"a\\\"\\\\\\n\\r\\t\\u0001\\u007f/ü🎉\"");
  EXPECT_EQ(as_json("\xff"
                    "a\xC3"
                    "b\xE2\x82"),
            "\"\xEF\xBF\xBD"
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD\"");
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  EXPECT_FALSE(nlohmann::json::parse(as_json(all + all), nullptr, false).is_discarded());
}

TEST(JsonWriter, NumbersAreAlwaysValid) {
  for (const double value : {0.0, -1.5, 1e300, 1e-300, double{NAN}, double{INFINITY}, -double{INFINITY}, 3.0}) {
    std::string out;
    append_json_number(out, value);
    EXPECT_FALSE(nlohmann::json::parse(out, nullptr, false).is_discarded()) << out;
  }
}

}  // namespace
}  // namespace ll::serve
