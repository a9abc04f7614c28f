// Where a step's time goes: what its launches took, added up by name.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace ll {

class LaunchSums {
 public:
  void add(const std::string& name, double microseconds);
  void end_step() { ++steps_; }
  // A line for each name, the longest first: microseconds a step, share, launches a step, microseconds a launch. ""
  // when no step has ended.
  std::string table() const;

 private:
  struct Sum {
    uint64_t launches = 0;
    double microseconds = 0;
  };
  uint64_t steps_ = 0;
  std::map<std::string, Sum> sums_;
};

}  // namespace ll
