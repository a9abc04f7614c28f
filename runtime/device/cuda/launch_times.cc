#include "runtime/device/cuda/launch_times.h"

#include <utility>

namespace ll::cuda {

LaunchTimes::~LaunchTimes() {
  for (CuHandle event : events_) d_.event_destroy(event);
}

Status LaunchTimes::add_node(CuHandle graph, CuHandle& before, std::string name) {
  CuHandle event = nullptr, node = nullptr;
  TRY(d_.check(d_.event_create(&event, 0), "cuEventCreate"));
  events_.push_back(event);
  names_.push_back(std::move(name));
  TRY(d_.check(d_.graph_add_event(&node, graph, &before, before == nullptr ? 0 : 1, event),
               "cuGraphAddEventRecordNode"));
  before = node;
  return {};
}

Status LaunchTimes::collect() {
  for (size_t i = 1; i < events_.size(); ++i) {
    float milliseconds = 0;
    TRY(d_.check(d_.event_elapsed(&milliseconds, events_[i - 1], events_[i]), "cuEventElapsedTime"));
    sums_.add(names_[i], 1e3 * static_cast<double>(milliseconds));
  }
  sums_.end_step();
  return {};
}

}  // namespace ll::cuda
