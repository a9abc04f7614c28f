#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/load/load.h"

namespace ll::load {
namespace {

using Json = nlohmann::ordered_json;

double per_second(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }
double rounded(double value) { return std::round(value * 1000) / 1000; }

Json json_of(const Summary& s) {
  return {{"count", s.count},      {"mean", rounded(s.mean)}, {"p50", rounded(s.p50)},
          {"p95", rounded(s.p95)}, {"p99", rounded(s.p99)},   {"max", rounded(s.max)}};
}

Json json_of(const std::vector<double>& curve) {
  Json list = Json::array();
  for (const double v : curve) list.push_back(rounded(v));
  return list;
}

}  // namespace

std::string json_report(const LoadOptions& options, const LoadResult& result) {
  Json json = {{"url", options.url}, {"model", result.model}, {"interrupted", result.interrupted}};
  json["settings"] = {{"endpoint", options.chat ? "chat/completions" : "completions"},
                      {"loop", options.rates.empty() ? "closed" : "open"},
                      {"prompt_words", options.prompt_words},
                      {"output_tokens", options.output_tokens},
                      {"shared_prefix", options.shared_prefix},
                      {"own_text", !options.words.empty()},
                      {"temperature", options.temperature},
                      {"extra", options.extra},
                      {"seed", options.seed},
                      {"warmup", options.warmup},
                      {"timeout_s", options.timeout},
                      {"slo_ms",
                       {{"first_token", options.slo_first_token},
                        {"per_token", options.slo_per_token},
                        {"end_to_end", options.slo_end_to_end}}}};
  json["levels"] = Json::array();
  for (const LevelResult& l : result.levels) {
    Json level;
    if (l.rate > 0) {
      level["requests_per_second_asked"] = l.rate;
    } else {
      level["streams"] = l.streams;
    }
    level["seconds"] = rounded(l.seconds);
    level["requests"] = {{"ended", l.sent}, {"answered", l.answered}, {"most_at_once", l.most_open}};
    Json errors = Json::object();
    for (const auto& [kind, count] : l.errors) errors[kind] = count;
    level["errors"] = errors;
    level["first_error"] = l.first_error;
    level["tokens"] = {{"prompt", l.prompt_tokens},
                       {"output", l.output_tokens},
                       {"chunks", l.chunks},
                       {"counted_by", l.counted_by_server ? "server" : "chunks"}};
    level["per_second"] = {{"requests", rounded(per_second(l.answered, l.seconds))},
                           {"output_tokens", rounded(per_second(static_cast<double>(l.output_tokens), l.seconds))},
                           {"prompt_tokens", rounded(per_second(static_cast<double>(l.prompt_tokens), l.seconds))}};
    level["goodput"] = {
        {"requests", l.good},
        {"share", l.sent > 0 ? rounded(static_cast<double>(l.good) / l.sent) : 0},
        {"requests_per_second", rounded(per_second(l.good, l.seconds))},
        {"output_tokens_per_second", rounded(per_second(static_cast<double>(l.good_tokens), l.seconds))}};
    level["first_token_ms"] = json_of(l.first_token);
    level["between_ms"] = json_of(l.between);
    level["per_token_ms"] = json_of(l.per_token);
    level["end_to_end_ms"] = json_of(l.end_to_end);
    level["quantiles_ms"] = {{"first_token", json_of(l.first_token_curve)},
                             {"between", json_of(l.between_curve)},
                             {"end_to_end", json_of(l.end_to_end_curve)}};
    level["client_load"] = rounded(l.client_load);
    json["levels"].push_back(level);
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string text_report(const LoadOptions& options, const LoadResult& result) {
  const bool slo = options.slo_first_token > 0 || options.slo_per_token > 0 || options.slo_end_to_end > 0;
  std::string out = fmt::format(
      "| {} | answered | failed | requests/s | output tokens/s | first token ms p50 / p95 / p99 | between ms p50 / p95 "
      "/ "
      "p99 | end to end ms p50 / p95 / p99 |{}\n|---:|---:|---:|---:|---:|---:|---:|---:|{}\n",
      options.rates.empty() ? "streams" : "requests/s asked", slo ? " good requests/s |" : "", slo ? "---:|" : "");
  const auto three = [](const Summary& s) {
    const int digits = s.p99 < 100 ? 2 : 0;
    return fmt::format("{:.{}f} / {:.{}f} / {:.{}f}", s.p50, digits, s.p95, digits, s.p99, digits);
  };
  for (const LevelResult& l : result.levels) {
    out += fmt::format("| {} | {} | {} | {:.2f} | {:.1f} | {} | {} | {} |",
                       l.rate > 0 ? fmt::format("{}", l.rate) : fmt::format("{}", l.streams), l.answered,
                       l.sent - l.answered, per_second(l.answered, l.seconds),
                       per_second(static_cast<double>(l.output_tokens), l.seconds), three(l.first_token),
                       three(l.between), three(l.end_to_end));
    if (slo)
      out +=
          fmt::format(" {:.2f} ({:.0f} %) |", per_second(l.good, l.seconds), l.sent > 0 ? 100.0 * l.good / l.sent : 0);
    out += '\n';
  }
  return out;
}

}  // namespace ll::load
