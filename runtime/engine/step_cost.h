// What a step of so many tokens takes, learned from the steps that ran.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ll {

// A curve over the number of tokens: straight between the sizes of the plan's programs, each corner moved a little
// towards every step seen near it. Sizes that were not seen lie on the line of the two nearest that were, and in
// proportion to a single one: too little below it and too much above; the steps that follow correct it.
class StepCost {
 public:
  // `sizes`: ascending, at least one, none 0.
  explicit StepCost(std::vector<uint32_t> sizes);

  void observe(uint32_t tokens, double seconds);
  // 0 before the first observation. `tokens` up to the largest size.
  double predict(uint32_t tokens) const;
  // The most tokens whose step takes at most so long; 0 when even the fewest take longer. The largest size before the
  // first observation.
  uint32_t most_tokens(double seconds) const;

 private:
  size_t corner(uint32_t tokens) const;  // the first that is not smaller
  void complete();

  std::vector<uint32_t> sizes_;
  std::vector<double> seen_;     // seconds at each size; 0: unknown
  std::vector<double> curve_;    // the same without gaps, never descending; all 0 before the first observation
  std::vector<uint32_t> count_;  // observations of each size and what is below it
};

}  // namespace ll
