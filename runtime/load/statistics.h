// Figures of many values.
#pragma once

#include <vector>

#include "runtime/load/load.h"

namespace ll::load {

// The value that a share q of 0 .. 1 of `sorted` lies below: between the two nearest ranks, linear (R's type 7, numpy's
// default). 0 for no values.
double quantile(const std::vector<double>& sorted, double q);
// Of values in seconds, as milliseconds. Sorts them.
Summary summarize(std::vector<double>& seconds);
// Quantiles 0, 1/100 .. 1 of sorted seconds, in milliseconds; empty for no values.
std::vector<double> curve(const std::vector<double>& sorted);

// What is kept of one request. Times in seconds from the level's beginning.
struct Sample {
  double start = 0, first = 0, last = 0, end = 0;  // first, last: of text
  uint32_t chunks = 0;
  bool has_usage = false;
  uint64_t prompt_tokens = 0, output_tokens = 0;
  std::vector<double> gaps;            // between texts
  std::string error_kind, error_text;  // empty: answered completely
};

// The level's result but for `streams`, `rate`, `most_open` and `client_load`.
LevelResult evaluate(const LoadOptions& options, std::vector<Sample> samples);

}  // namespace ll::load
