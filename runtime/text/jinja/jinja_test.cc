// The engine against Jinja2's own results, its trust marks, its budgets and its stack.
#include <gtest/gtest.h>
#include <pthread.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "runtime/text/jinja/json_value.h"
#include "runtime/text/jinja/template.h"
#include "tests/files.h"

namespace ll::jinja {
namespace {

using Json = nlohmann::ordered_json;

RenderOptions fixed_time() {
  RenderOptions options;
  options.now = CivilTime{2026, 1, 2, 3, 4, 5};
  return options;
}

Value input(std::string_view json) {
  auto value = parse_json(json);
  EXPECT_TRUE(value) << value.error().message;
  return value ? *std::move(value) : Value::dict();
}

// The text, or "error: message", or "syntax: line N: message".
std::string render(std::string_view source, const Value& context = Value::dict(),
                   RenderOptions options = fixed_time()) {
  const auto compiled = Template::compile(source);
  if (!compiled) return "syntax: " + compiled.error().message;
  const auto rendered = compiled->render(context, options);
  return rendered ? rendered->text : "error: " + rendered.error().message;
}

// Trusted pieces in [brackets].
std::string marked(std::string_view source, const Value& context) {
  const auto compiled = Template::compile(source);
  if (!compiled) return compiled.error().message;
  const auto rendered = compiled->render(context, fixed_time());
  if (!rendered) return rendered.error().message;
  std::string out;
  size_t at = 0;
  for (const Segment& segment : rendered->segments) {
    const std::string piece = rendered->text.substr(at, segment.size);
    out += segment.trusted ? "[" + piece + "]" : piece;
    at += segment.size;
  }
  EXPECT_EQ(at, rendered->text.size());
  return out;
}

TEST(Jinja, AgreesWithJinja2OnSmallTemplates) {
  const Json fixture = Json::parse(test_files::read_file(LLCUDA_SOURCE_DIR "/tests/data/jinja/cases.json"));
  const auto context = from_json(fixture["context"]);
  ASSERT_TRUE(context) << context.error().message;
  ASSERT_GT(fixture["cases"].size(), 1000u);
  for (const Json& c : fixture["cases"]) {
    const std::string source = c["template"];
    SCOPED_TRACE(source);
    const auto compiled = Template::compile(source);
    if (c.contains("syntax")) {
      ASSERT_FALSE(compiled);
      const std::string& message = compiled.error().message;
      EXPECT_EQ(message.substr(message.find(": ") + 2), c["syntax"].get<std::string>());
      continue;
    }
    ASSERT_TRUE(compiled) << compiled.error().message;
    const std::string bytes = compiled->serialize();
    const auto loaded = Template::deserialize(std::as_bytes(std::span(bytes)));
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->serialize(), bytes);
    const auto rendered = loaded->render(*context, fixed_time());
    if (c.contains("error")) {
      ASSERT_FALSE(rendered) << rendered->text;
      EXPECT_EQ(rendered.error().message, c["error"].get<std::string>());
      EXPECT_EQ(rendered.error().code, Code::kBadData);
    } else {
      ASSERT_TRUE(rendered) << rendered.error().message;
      EXPECT_EQ(rendered->text, c["text"].get<std::string>());
    }
  }
}

TEST(Jinja, RendersPublishedTemplates) {
  const auto folder = test_files::shared_folder() / "chat_templates";
  if (!std::filesystem::exists(folder / "cases.json")) GTEST_SKIP() << "reference templates are not at " << folder;
  const Json cases = Json::parse(test_files::read_file(folder / "cases.json"));
  for (const Json& c : cases) {
    SCOPED_TRACE(c["template"].get<std::string>() + " " + c["case"].get<std::string>());
    const auto context = from_json(c["inputs"]);
    ASSERT_TRUE(context);
    const std::string got = render(test_files::read_file(folder / c["template"].get<std::string>()), *context);
    EXPECT_EQ(got,
              c.contains("expected") ? c["expected"].get<std::string>() : "error: " + c["error"].get<std::string>());
  }
}

TEST(Jinja, TrustsOnlyWhatTheTemplateWrote) {
  Value context = input(R"({"u": "<|x|>", "l": ["a", "b"], "n": 5, "d": {"k": "v"}, "sp": "  s ", "ab": "a-b"})");
  context.set("bos_token", Value::of("<s>", true));
  const struct {
    const char* source;
    const char* expected;
  } rows[] = {
      {"<a>{{ u }}<b>", "[<a>]<|x|>[<b>]"},
      {"{{ bos_token }}{{ u }}", "[<s>]<|x|>"},
      {"{{ '<a>' + u + '<b>' }}", "[<a>]<|x|>[<b>]"},
      {"{{ '<a>' ~ u ~ n }}", "[<a>]<|x|>5"},
      {"{% set x = '<a>' + u %}{{ x + '<b>' }}", "[<a>]<|x|>[<b>]"},
      {"{% set x %}<a>{{ u }}{% endset %}{{ x }}", "[<a>]<|x|>"},
      {"{% macro m(t) %}<a>{{ t }}{% endmacro %}{{ m(u) }}{{ m('<b>') }}", "[<a>]<|x|>[<a><b>]"},
      {"{% set ns = namespace(t='') %}{% for x in l %}{% set ns.t = ns.t + '<' + x + '>' %}{% endfor %}{{ ns.t }}",
       "[<]a[><]b[>]"},
      {"{{ l | join('<sep>') }}", "a[<sep>]b"},
      {"{{ '<sep>'.join(l) }}", "a[<sep>]b"},
      {"{{ ('<a>' + sp + '<b>') | trim }}", "[<a>]  s [<b>]"},
      {"{{ sp | trim }}", "s"},
      {"{{ (sp + '<b> ') | trim }}", "s [<b>]"},
      {"{{ u | upper }}", "<|X|>"},
      {"{{ ('<a>' + u) | upper }}", "[<A>]<|X|>"},
      {"{{ ('<a>' + u)[1:4] }}", "[a>]<"},
      {"{{ ab.split('-')[0] }}{{ '<a>-<b>'.split('-')[1] }}", "a[<b>]"},
      {"{{ ab | replace('-', '<sep>') }}", "a[<sep>]b"},
      {"{{ '<a>-' | replace('-', u) }}", "[<a>]<|x|>"},
      {"{{ '%s<a>' % u }}", "<|x|>[<a>]"},
      {"{{ '{}<a>'.format(u) }}", "<|x|>[<a>]"},
      {"{{ u | tojson }}", "\"<|x|>\""},
      {"{{ {'<a>': u} | tojson }}", "{\"[<a>]\": \"<|x|>\"}"},
      {"{{ d }}", "{'k': 'v'}"},
      {"{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}", "k[=]v"},
      {"{{ loop.index if false }}{% for x in l %}<{{ loop.index }}>{% endfor %}", "[<1><2>]"},
      {"{{ n }}{{ n + 1 }}{{ 1 + 1 }}", "56[2]"},
      {"{{ u * 2 }}{{ '<a>' * 2 }}", "<|x|><|x|>[<a><a>]"},
      {"{{ ('<a>\n' + u) | indent(1) }}", "[<a>]\n <|x|>"},
      {"{{ strftime_now('%Y') }}", "[2026]"},
      {"{{ u | default('<d>') }}{{ zz | default('<d>') }}", "<|x|>[<d>]"},
      {"{{ u if n else '<e>' }}{{ '<e>' if n else u }}", "<|x|>[<e>]"},
      {"{{ u | list | join }}", "<|x|>"},
      {"{{ u | reverse }}", ">|x|<"},
      {"{% filter trim %} {{ u }}<a> {% endfilter %}", "<|x|>[<a>]"},
  };
  for (const auto& row : rows) EXPECT_EQ(marked(row.source, context), row.expected) << row.source;
}

TEST(Jinja, BudgetsEndEveryTemplate) {
  const Value context = input(R"({"u": "é"})");
  const std::string big = "{% set x = 'a' * 4000000 %}";
  const std::pair<std::string, std::string> rows[] = {
      {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "more than 1000000 steps"},
      {"{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}", "more than"},
      {"{{ 'a' * 5000000 }}", "a string of 5000000 bytes, more than 4194304"},
      {"{{ 'a' * 9223372036854775807 }}", "more than 4194304"},
      {"{{ u * 9223372036854775807 }}", "more than 4194304"},
      {"{{ [1] * 9223372036854775807 }}", "bytes of values"},
      {"{{ ['a'] * 10000000 }}", "more than 1000000 steps"},
      {"{% for a in range(100) %}{{ 'a' * 100000 }}{% endfor %}", "a string of"},
      {big + "{% for a in range(99999) %}{% set y = x + 'b' %}{% endfor %}", "more than"},
      {big + "{% for a in range(99999) %}{% if x == x + '' %}{% endif %}{% endfor %}", "more than"},
      {big + "{% for a in range(99999) %}{% if 'b' in x %}{% endif %}{% endfor %}", "more than"},
      {big + "{{ x | list | length }}", "more than"},
      {big + "{{ x.replace('a', 'bb') }}", "a string of"},
      {big + "{{ x.replace('', 'bb') }}", "a string of"},
      {big + "{{ x | urlencode | length }}", "more than"},
      {"{{ 'a'.center(9223372036854775807) }}", "a string of"},
      {"{{ 'a'.ljust(5000000, u) }}", "a string of"},
      {"{{ 'a'.zfill(5000000) }}", "a string of"},
      {"{{ '{:5000000}'.format(1) }}", "a string of"},
      {"{{ '%5000000d' % 1 }}", "a string of"},
      {"{{ '%*d' % (9223372036854775807, 1) }}", "a string of"},
      {"{{ '\t'.expandtabs(9223372036854775807) }}", "a string of"},
      {"{{ [] | batch(9, 1) | list }}{{ [1] | batch(9223372036854775807, 1) | list }}", "bytes of values"},
      {"{{ [1] | slice(9223372036854775807) | list }}", "bytes of values"},
      {"{{ 'a' | indent(9223372036854775807, true) }}", "a string of"},
      {"{{ [] | tojson(indent=9223372036854775807) }}", "a string of"},
      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth exceeded"},
      {"{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth exceeded"},
      {"{% macro m() %}{{ caller() if caller }}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}",
       "maximum recursion depth exceeded"},
      {"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "maximum recursion depth exceeded"},
      {"{{ 'a' | map('map', 'map', 'map', 'map', 'map', 'map', 'map', 'map', 'map', 'map', 'upper') | list }}",
       "generator object"},  // the error waits in the innermost
      {"{% set ns = namespace(x=[]) %}{% for i in range(100) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
       "nested deeper than 64 levels"},
      {"{% set ns = namespace(x=[]) %}{% for i in range(100) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
       "nested deeper than 64 levels"},
      {"{% set ns = namespace(x=[], y=[]) %}{% for i in range(100) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}"
       "{% endfor %}{{ ns.x == ns.y }}{{ ns.x < ns.y }}",
       "nested deeper than 64 levels"},
      {"{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "nested deeper than 64 levels"},
      // Shared parts: 2^60 comparisons and prints.
      {"{% set ns = namespace(x=[], y=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
       "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
       "more than"},
      {"{% set ns = namespace(x=(), y=()) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}"
       "{% set ns.y = (ns.y, ns.y) %}{% endfor %}{{ {ns.x: 1}[ns.y] }}",
       "more than"},
      {"{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
       "more than"},
      {"{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "more than"},
      {"{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
       "a string of"},
  };
  for (const auto& [source, expected] : rows) {
    const std::string got = render(source, context);
    EXPECT_NE(got.find(expected), std::string::npos) << source << "\n" << got.substr(0, 300);
  }
}

TEST(Jinja, LimitsOfSource) {
  const auto repeat = [](std::string_view part, size_t n) {
    std::string out;
    for (size_t i = 0; i < n; ++i) out += part;
    return out;
  };
  EXPECT_NE(render(std::string((1 << 20) + 1, 'a')).find("more than 1048576"), std::string::npos);
  EXPECT_EQ(render(std::string(1 << 20, 'a')), std::string(1 << 20, 'a'));
  EXPECT_NE(render("\xff").find("not UTF-8"), std::string::npos);
  const std::string deep = "nested deeper than 64 levels";
  const std::string rows[] = {
      "{{ " + repeat("(", 100'000),       "{{ " + repeat("[", 100'000),       "{{ " + repeat("{1:", 100'000),
      "{{ " + repeat("f(", 100'000),      "{{ " + repeat("x[", 100'000),      "{{ x" + repeat("|f(x", 100'000),
      repeat("{% if x %}", 50'000),       repeat("{% for x in y %}", 50'000), "{{ " + repeat("a if b else ", 50'000),
      "{{ x" + repeat(" is f(x", 50'000), "{% set " + repeat("(", 50'000),    repeat("{% macro m() %}", 50'000)};
  for (const std::string& source : rows) {
    EXPECT_NE(render(source).find(deep), std::string::npos) << source.substr(0, 30) << "\n"
                                                            << render(source).substr(0, 200);
  }
  // Long but flat.
  EXPECT_EQ(render("{{ 0" + repeat(" + 1", 100'000) + " }}"), "100000");
  EXPECT_EQ(render("{{ " + repeat("not ", 100'001) + "1 }}"), "False");
  EXPECT_EQ(render("{{ " + repeat("- ", 100'000) + "1 }}"), "1");
  EXPECT_EQ(render("{{ 'a'" + repeat("|upper", 50'000) + " }}"), "A");
  EXPECT_EQ(render("{{ 1" + repeat(" < 2 > 1", 10'000) + " }}"), "True");
  EXPECT_EQ(render("{% if 0 %}" + repeat("{% elif 0 %}", 50'000) + "{% else %}x{% endif %}"), "x");
  render("{{ 1" + repeat(" if 1", 200'000));
}

// Runs `work` on a thread with a stack of 256 KiB, or what sanitizers need for the same depth.
void on_small_stack(std::function<void()> work) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr size_t kStack = 4 << 20;
#else
  constexpr size_t kStack = 256 << 10;
#endif
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, kStack), 0);
  pthread_t thread;
  const auto entry = [](void* argument) -> void* {
    (*static_cast<std::function<void()>*>(argument))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, entry, &work), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

TEST(Jinja, NeedsLittleStack) {
  const auto nest = [](std::string_view open, std::string_view middle, std::string_view close, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += open;
    out += middle;
    for (int i = 0; i < n; ++i) out += close;
    return out;
  };
  on_small_stack([&] {
    EXPECT_EQ(render("{{ " + nest("(1 or 1 and 1 == 1 + 1 ~ 1 * 1 ** (", "1", "))", 31) + " }}"), "1");
    EXPECT_EQ(render(nest("{% if 1 %}", "x", "{% endif %}", 64)), "x");
    EXPECT_EQ(render(nest("{% for x in [1] %}", "x", "{% endfor %}", 63)), "x");
    EXPECT_NE(render("{{ " + nest("[", "", "]", 60) + " | tojson }}").find("[[["), std::string::npos);
    EXPECT_NE(render("{{ " + nest("[", "", "]", 60) + " == " + nest("[", "", "]", 60) + " }}").find("True"),
              std::string::npos);
    EXPECT_EQ(render("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{% else %}end{% endif %}{% endmacro %}{{ m(60) }}"),
              "end");
    EXPECT_NE(render("{{ " + nest("[", "", "]", 100'000)).find("nested deeper"), std::string::npos);
    EXPECT_FALSE(parse_json(nest("[", "", "]", 100'000)));
    const auto deepest = parse_json(nest("[", "", "]", 63));
    ASSERT_TRUE(deepest);
    Value context = Value::dict();
    context.set("x", *deepest);
    EXPECT_NE(render("{{ x }}{{ x | tojson(indent=2) }}{{ x == x[0] }}", context).find("[[["), std::string::npos);
    EXPECT_NE(render("{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}ok"),
              "");
  });
}

TEST(Jinja, DamagedProgramsAreHarmless) {
  const std::string source =
      "{% macro m(a, b=1) %}{{ a }}{{ varargs }}{{ caller() if caller }}{% endmacro %}{% set ns = namespace(x=1) %}"
      "{% for x in l if x recursive %}{{ loop.index }}{{ x | upper if x is string else [x, (1,), {'k': 2.5}] }}"
      "{% if loop.last %}{% break %}{% endif %}{% else %}none{% endfor %}{% set ns.x = 1 < 2 < 3 %}"
      "{% call m(1, *l) %}{% filter trim %}t{% endfilter %}{% endcall %}{% with q = l[0:1] %}{{ q ~ -1 }}{% endwith %}";
  const Value context = input(R"({"l": ["a", 1, "c"]})");
  const auto compiled = Template::compile(source);
  ASSERT_TRUE(compiled) << compiled.error().message;
  const std::string bytes = compiled->serialize();
  ASSERT_TRUE(compiled->render(context));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Template::deserialize(std::as_bytes(std::span(bytes.data(), size)))) << size;
  }
  const std::string longer = bytes + "x";
  EXPECT_FALSE(Template::deserialize(std::as_bytes(std::span(longer))));
  RenderOptions options;
  options.max_steps = 2000;
  size_t accepted = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const int change : {1, 0x80, 0xFF, 0x10}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ change);
      const auto loaded = Template::deserialize(std::as_bytes(std::span(damaged)));
      if (!loaded) continue;
      ++accepted;
      (void)loaded->render(context, options);
    }
  }
  EXPECT_GT(accepted, 100u);  // so that the machine itself was tested
}

TEST(Jinja, ErrorsNameTheirLine) {
  EXPECT_EQ(render("a\n{% if x %}\nb"),
            "syntax: line 3: Unexpected end of template. Jinja was looking for the following tags: 'elif' or 'else' or "
            "'endif'. The innermost block that needs to be closed is 'if'.");
  EXPECT_EQ(render("\n\n{{ x | nope }}"), "syntax: line 3: No filter named 'nope'.");
  EXPECT_EQ(render("{{ x\n\n@ }}"), "syntax: line 3: unexpected char '@' at 6");
  EXPECT_EQ(render("{{ 99999999999999999999 }}"), "syntax: line 1: integer 99999999999999999999 does not fit 64 bits");
}

TEST(Jinja, DeparturesAreErrors) {
  for (const char* source : {"{{ 'a' | urlize }}", "{{ 'a' | wordwrap }}", "{{ [1] | random }}", "{{ 1 | pprint }}",
                             "{{ 'a' | striptags }}", "{{ 2 ** 63 }}", "{{ 9223372036854775807 + 1 }}",
                             "{{ lipsum() }}", "{% autoescape true %}{% endautoescape %}", "{{ (-8) ** 0.5 }}"}) {
    EXPECT_EQ(render(source).substr(0, 6), "error:") << source;
  }
}

TEST(Jinja, ReadsJson) {
  const struct {
    const char* json;
    const char* shown;
  } rows[] = {
      {R"({"b": 1, "a": 2, "b": 3})", "{'b': 3, 'a': 2}"},
      {R"([1, -1, 1.0, 1e2, true, null, "é\n"])", "[1, -1, 1.0, 100.0, True, None, 'é\\n']"},
      {"9223372036854775807", "9223372036854775807"},
      {"-9223372036854775808", "-9223372036854775808"},
  };
  for (const auto& row : rows) {
    Value context = Value::dict();
    context.set("x", input(row.json));
    EXPECT_EQ(render("{{ x }}", context), row.shown);
  }
  for (const char* bad : {"", "{", "[1,]", "nope", "9223372036854775808", "123456789012345678901234567890", "\"\xff\"",
                          "1 2", "{\"a\"}", "\"\\ud800\""}) {
    EXPECT_FALSE(parse_json(bad)) << bad;
  }
  EXPECT_EQ(render("x", Value::list()), "error: a template's input is a dict");
}

TEST(Jinja, ReadsTimes) {
  const auto time = parse_civil_time("2024-02-29T23:59:58");
  ASSERT_TRUE(time);
  EXPECT_EQ(time->day, 29);
  for (const char* bad : {"", "2024-02-29", "2023-02-29T00:00:00", "2024-13-01T00:00:00", "2024-00-01T00:00:00",
                          "2024-01-32T00:00:00", "2024-01-01T24:00:00", "2024-01-01T00:60:00", "x024-01-01T00:00:00"}) {
    EXPECT_FALSE(parse_civil_time(bad)) << bad;
  }
}

TEST(Jinja, ManyThreadsShareATemplate) {
  const auto compiled = Template::compile("{% for x in l %}{{ x | upper }}{{ loop.index }}{% endfor %}");
  ASSERT_TRUE(compiled);
  const Value context = input(R"({"l": ["a", "b"]})");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 200; ++j) {
        const auto rendered = compiled->render(context);
        ASSERT_TRUE(rendered);
        ASSERT_EQ(rendered->text, "A1B2");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace ll::jinja
