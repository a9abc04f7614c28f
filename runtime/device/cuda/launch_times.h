// Where a step's time goes on the device: an event between any two kernels of a graph.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/device/cuda/driver.h"
#include "runtime/device/launch_sums.h"

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
  std::string table() const { return sums_.table(); }

 private:
  const Driver& d_;
  std::vector<CuHandle> events_;
  std::vector<std::string> names_;  // of what ends at the event
  LaunchSums sums_;
};

}  // namespace ll::cuda
