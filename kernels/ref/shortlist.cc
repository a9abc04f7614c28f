#include "kernels/shortlist.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/check.h"
#include "kernels/ref/ref.h"

namespace ll::ref {

Status check_shortlist(const LaunchSpec& spec) {
  TRY(check::operands(spec, 2, 1));
  TRY(check::tensor(spec.in[0], "logits", DType::kF32, 2));
  TRY(check::tensor(spec.in[1], "inverse_temperatures", DType::kF32, 1));
  TRY(check::tensor(spec.out[0], "shortlist", DType::kF32, 2));
  if (spec.in[0].last().value > kMostShortlistVocab) {
    return bad_data("'logits' is {}, expected at most {} columns", check::describe(spec.in[0]), kMostShortlistVocab);
  }
  TRY(check::dim(spec.in[1], "inverse_temperatures", 0, spec.in[0].dim(0), "rows of logits"));
  TRY(check::dim(spec.out[0], "shortlist", 0, spec.in[0].dim(0), "rows of logits"));
  return check::dim(spec.out[0], "shortlist", 1, Dim(kShortlistWords), "words of a shortlist");
}

Cost cost_shortlist(const LaunchSpec& spec) {
  return {cost::all_bytes(spec), cost::product({4, spec.in[0].dim(0).value, spec.in[0].last().value})};
}

namespace {

void list_row(const float* logits, int64_t vocab, float inverse_temperature, float* list) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::fill_n(list, kShortlistWords, 0.0F);
  if (!(inverse_temperature > 0 && inverse_temperature < kInfinity)) return;
  const auto bad = std::count_if(logits, logits + vocab, [](float l) { return !(l < kInfinity); });
  list[kShortlistBad] = static_cast<float>(bad);
  if (bad > 0) return;
  const int64_t count = std::min(vocab, kShortlist);
  std::vector<int64_t> order(static_cast<size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](int64_t a, int64_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  list[kShortlistCount] = static_cast<float>(count);
  for (int64_t i = 0; i < count; ++i) {
    list[kShortlistLogits + i] = logits[order[static_cast<size_t>(i)]];
    list[kShortlistTokens + i] = static_cast<float>(order[static_cast<size_t>(i)]);
  }
  const double largest = static_cast<double>(logits[order[0]]);
  if (largest < static_cast<double>(std::numeric_limits<float>::lowest())) return;
  double sum = 0, sum_at_one = 0;
  for (int64_t i = 0; i < vocab; ++i) {
    const double below = static_cast<double>(logits[i]) - largest;
    sum += std::exp(below * static_cast<double>(inverse_temperature));
    sum_at_one += std::exp(below);
  }
  list[kShortlistSum] = static_cast<float>(sum);
  list[kShortlistSumAtOne] = static_cast<float>(sum_at_one);
}

}  // namespace

void shortlist(const KernelCall& call) {
  const TensorView &logits = call.in[0], &list = call.out[0];
  const float* inverse = reinterpret_cast<const float*>(call.in[1].data);
  const Range rows = split(logits.dim(0), 1, call.thread, call.threads);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    list_row(logits.row<float>(r), logits.last(), inverse[r], list.row<float>(r));
  }
}

}  // namespace ll::ref
