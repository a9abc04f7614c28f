#include "runtime/load/statistics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace ll::load {

double quantile(const std::vector<double>& sorted, double q) {
  if (sorted.empty()) return 0;
  const double place = std::clamp(q, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Summary summarize(std::vector<double>& seconds) {
  std::sort(seconds.begin(), seconds.end());
  Summary s;
  s.count = seconds.size();
  if (seconds.empty()) return s;
  s.mean = 1e3 * std::accumulate(seconds.begin(), seconds.end(), 0.0) / static_cast<double>(seconds.size());
  s.p50 = 1e3 * quantile(seconds, 0.5);
  s.p95 = 1e3 * quantile(seconds, 0.95);
  s.p99 = 1e3 * quantile(seconds, 0.99);
  s.max = 1e3 * seconds.back();
  return s;
}

std::vector<double> curve(const std::vector<double>& sorted) {
  std::vector<double> points;
  for (int i = 0; i <= 100 && !sorted.empty(); ++i) points.push_back(1e3 * quantile(sorted, i / 100.0));
  return points;
}

LevelResult evaluate(const LoadOptions& options, std::vector<Sample> samples) {
  LevelResult level;
  level.sent = static_cast<uint32_t>(samples.size());
  std::map<std::string, uint32_t> errors;
  std::vector<double> first, between, per_token, end;
  const auto within = [](double limit, double seconds) { return limit == 0 || 1e3 * seconds <= limit; };
  level.counted_by_server =
      std::all_of(samples.begin(), samples.end(), [](const Sample& s) { return !s.error_kind.empty() || s.has_usage; });
  for (const Sample& s : samples) {
    level.seconds = std::max(level.seconds, s.end);
    if (!s.error_kind.empty()) {
      ++errors[s.error_kind];
      if (level.first_error.empty()) level.first_error = s.error_kind + ": " + s.error_text;
      continue;
    }
    ++level.answered;
    level.chunks += s.chunks;
    const uint64_t tokens = level.counted_by_server ? s.output_tokens : s.chunks;
    level.output_tokens += tokens;
    if (level.counted_by_server) level.prompt_tokens += s.prompt_tokens;
    const double token = tokens > 1 ? (s.last - s.first) / static_cast<double>(tokens - 1) : 0;
    first.push_back(s.first - s.start);
    end.push_back(s.end - s.start);
    if (tokens > 1) per_token.push_back(token);
    between.insert(between.end(), s.gaps.begin(), s.gaps.end());
    if (within(options.slo_first_token, s.first - s.start) && within(options.slo_per_token, token) &&
        within(options.slo_end_to_end, s.end - s.start)) {
      ++level.good;
      level.good_tokens += tokens;
    }
  }
  level.errors.assign(errors.begin(), errors.end());
  level.first_token = summarize(first);
  level.between = summarize(between);
  level.per_token = summarize(per_token);
  level.end_to_end = summarize(end);
  level.first_token_curve = curve(first);
  level.between_curve = curve(between);
  level.end_to_end_curve = curve(end);
  return level;
}

}  // namespace ll::load
