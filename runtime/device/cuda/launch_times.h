// Where a step's time goes on the device: an event between any two kernels of a graph.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/device/cuda/driver.h"

namespace ll::cuda {

// The events of one graph. Times are the device's own, of about half a microsecond, and hold what the kernel waits
// for as well as what it does.
class LaunchTimes {
 public:
  explicit LaunchTimes(const Driver& driver) : d_(driver) {}
  ~LaunchTimes();
  LaunchTimes(const LaunchTimes&) = delete;
  LaunchTimes& operator=(const LaunchTimes&) = delete;

  // Appends a node after `before`, which becomes the node. What runs between it and the one added before it counts as
  // `name`; "" for the first.
  Status add_node(CuHandle graph, CuHandle& before, std::string name);
  // After the graph has run to its end.
  Status collect();
  // A line for each name, the longest first: microseconds a step, share, launches a step, microseconds a launch.
  std::string table() const;

 private:
  struct Sum {
    uint64_t launches = 0;
    double microseconds = 0;
  };
  const Driver& d_;
  std::vector<CuHandle> events_;
  std::vector<std::string> names_;  // of what ends at the event
  uint64_t steps_ = 0;
  std::map<std::string, Sum> sums_;
};

}  // namespace ll::cuda
