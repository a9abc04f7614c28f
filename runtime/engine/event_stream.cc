#include "runtime/engine/event_stream.h"

#include <algorithm>
#include <utility>

namespace ll {

EventStream::EventStream(RequestId id, size_t capacity, std::function<void()> on_room)
    : id_(id), capacity_(std::max(capacity, kLeastCapacity)), on_room_(std::move(on_room)) {}

size_t EventStream::take(std::vector<Event>& out) {
  size_t count = 0;
  bool missed = false;
  {
    const std::lock_guard lock(mutex_);
    count = events_.size();
    std::move(events_.begin(), events_.end(), std::back_inserter(out));
    events_.clear();
    missed = std::exchange(missed_, false);
  }
  if (missed && on_room_) on_room_();
  return count;
}

bool EventStream::push(Event event) {
  const std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
  return events_.size() == 1;
}

size_t EventStream::room(size_t wanted) {
  const std::lock_guard lock(mutex_);
  const size_t room = capacity_ - std::min(capacity_, events_.size());
  missed_ |= room < wanted;
  return room;
}

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      break;
  }
  return "error";
}

}  // namespace ll
