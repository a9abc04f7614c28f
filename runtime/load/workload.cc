#include "runtime/load/workload.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/base/escape.h"

namespace ll::load {
namespace {

using Json = nlohmann::ordered_json;

// Streams of random numbers that do not follow each other, for each purpose and request.
Random stream(uint64_t seed, uint64_t purpose, uint64_t index) {
  Random mix(seed);
  Random mixed(mix.next() ^ (purpose * 0xD6E8FEB86659FD93));
  return Random(mixed.next() ^ (index * 0xA0761D6478BD642F));
}
constexpr uint64_t kShared = 1, kArrivals = 2, kPrompts = 1000;

std::string key_header(const std::string& key) {
  return key.empty() ? "" : fmt::format("Authorization: Bearer {}\r\n", key);
}

bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

}  // namespace

Result<Url> Url::parse(std::string_view text) {
  const auto wrong = [&](const char* what) {
    return usage("{}: {}, expected an address such as http://127.0.0.1:8080", quote(text), what);
  };
  std::string_view rest = text;
  if (rest.starts_with("https://")) return wrong("there is no TLS here: measure behind the proxy that ends it");
  if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else if (rest.find("://") != std::string_view::npos) {
    return wrong("this is not HTTP");
  }
  if (!is_plain(rest)) return wrong("it holds spaces or control characters");
  Url url;
  const size_t slash = std::min(rest.find_first_of("/?#"), rest.size());
  const std::string_view authority = rest.substr(0, slash);
  std::string_view path = rest.substr(slash);
  if (path.find_first_of("?#") != std::string_view::npos) return wrong("it has a query");
  while (path.ends_with('/')) path.remove_suffix(1);
  if (path.ends_with("/v1")) path.remove_suffix(3);
  url.path = path;
  size_t colon = authority.rfind(':');
  if (authority.starts_with('[')) {
    const size_t bracket = authority.find(']');
    if (bracket == std::string_view::npos) return wrong("the address has no closing bracket");
    url.host = authority.substr(1, bracket - 1);
    colon = bracket + 1 < authority.size() ? bracket + 1 : std::string_view::npos;
    if (colon != std::string_view::npos && authority[colon] != ':') return wrong("the port is not behind a colon");
  } else {
    url.host = authority.substr(0, colon);
  }
  url.port = colon == std::string_view::npos ? "80" : authority.substr(colon + 1);
  const bool digits = !url.port.empty() && url.port.size() <= 5 &&
                      url.port.find_first_not_of("0123456789") == std::string::npos && std::stoi(url.port) <= 65535;
  if (!digits) return wrong("the port is no number");
  if (url.host.empty() || url.host.find('@') != std::string::npos) return wrong("the host is missing or has a user");
  url.authority = authority;
  return url;
}

std::string get_request(const Url& url, std::string_view path, const std::string& api_key) {
  return fmt::format("GET {}{} HTTP/1.1\r\nHost: {}\r\n{}Connection: close\r\n\r\n", url.path, path, url.authority,
                     key_header(api_key));
}

Result<Workload> Workload::create(const LoadOptions& options, Url url, std::string model) {
  Workload load(options, std::move(url));
  load.model_ = std::move(model);
  TRY_ASSIGN(load.prompt_words_, Length::parse(options.prompt_words));
  TRY_ASSIGN(load.output_tokens_, Length::parse(options.output_tokens));
  if (!(options.shared_prefix >= 0 && options.shared_prefix <= 1)) {
    return usage("a share of {} of each prompt is shared, expected 0 to 1", options.shared_prefix);
  }
  if (!is_plain(options.api_key)) return usage("the API key holds characters that no header can carry");
  load.extra_ = options.extra.empty() ? "{}" : options.extra;
  const Json extra = Json::parse(load.extra_, nullptr, false);
  if (extra.is_discarded() || !extra.is_object()) {
    return usage("what is added to requests is {}, expected a JSON object", quote(options.extra));
  }
  std::istringstream words(options.words);
  for (std::string one; words >> one;) load.words_.push_back(one);
  if (!options.words.empty() && load.words_.empty()) return usage("the text for prompts holds no words");
  for (int i = 0; load.words_.size() < 5000 && options.words.empty(); ++i)
    load.words_.push_back(fmt::format("word{}", i));
  load.shared_random_ = stream(options.seed, kShared, 0);
  return load;
}

std::string Workload::prompt(uint32_t level, uint32_t index) {
  Random random = stream(options_.seed, kPrompts + level, index);
  const uint32_t count = prompt_words_.draw(random);
  const auto same = static_cast<uint32_t>(std::round(options_.shared_prefix * count));
  while (shared_.size() < same) shared_.push_back(word(shared_random_));
  std::string text;
  for (uint32_t i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    text += i < same ? shared_[i] : word(random);
  }
  return text;
}

std::string Workload::request(uint32_t level, uint32_t index) {
  Random random = stream(options_.seed ^ 0x5DEECE66D, kPrompts + level, index);
  Json body = {{"model", model_}};
  if (options_.chat) {
    body["messages"] = Json::array({{{"role", "user"}, {"content", prompt(level, index)}}});
  } else {
    body["prompt"] = prompt(level, index);
  }
  body["max_tokens"] = output_tokens_.draw(random);
  body["temperature"] = options_.temperature;
  body["ignore_eos"] = true;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  body.merge_patch(Json::parse(extra_));
  const std::string text = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  return fmt::format(
      "POST {}/v1/{} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: application/json\r\nAccept: text/event-stream\r\n"
      "Content-Length: {}\r\nConnection: close\r\n\r\n{}",
      url_.path, options_.chat ? "chat/completions" : "completions", url_.authority, key_header(options_.api_key),
      text.size(), text);
}

std::vector<double> Workload::arrivals(uint32_t level, double rate, uint32_t count) const {
  Random random = stream(options_.seed, kArrivals, level);
  std::vector<double> times;
  for (double now = 0; times.size() < count; now += random.exponential(rate)) times.push_back(now);
  return times;
}

}  // namespace ll::load
