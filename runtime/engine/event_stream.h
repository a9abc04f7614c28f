// The bounded queue of one request's events, from the engine's thread to whoever serves the request.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <vector>

#include "runtime/engine/request.h"

namespace ll {

// Thread safe. One side pushes, the other takes. Nobody ever waits: the scheduler does not run a request whose stream
// has no room for what a step can bring, so a slow consumer delays its own request only.
class EventStream {
 public:
  // `capacity`: events that a stream holds before its request pauses; kLeastCapacity at least. `on_room` is called by
  // take(), on the thread that takes, when that makes room the scheduler had missed; may be empty.
  static constexpr size_t kLeastCapacity = 8;
  EventStream(RequestId id, size_t capacity, std::function<void()> on_room = {});
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  RequestId id() const { return id_; }

  // Appends all events so far to `out`, in order; returns how many. Once DoneEvent was taken nothing follows.
  size_t take(std::vector<Event>& out);

  // ---- The scheduler's side ----
  // Pushes even into a full stream: the scheduler asked for room before, and the end of a request always fits. Returns
  // true when the consumer is to be told: for the first event since it last took.
  bool push(Event event);
  // How many events fit. When fewer than `wanted` do, the next take() calls on_room.
  size_t room(size_t wanted);

 private:
  const RequestId id_;
  const size_t capacity_;
  const std::function<void()> on_room_;
  std::mutex mutex_;
  std::vector<Event> events_;
  bool missed_ = false;  // room() was asked for more than there was
};

}  // namespace ll
