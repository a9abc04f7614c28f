// The bounded queue of one request's events, from the engine's thread to whoever serves the request.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <vector>

#include "runtime/engine/request.h"

namespace ll {

// Thread safe. One side pushes, the other takes. Nobody ever waits: the scheduler does not run a request whose stream
// has no room for what a step can bring, so a slow consumer delays its own request only.
class EventStream {
 public:
  // `capacity`: events that a stream holds before its request pauses. Never less than a step of it can bring.
  EventStream(RequestId id, size_t capacity) : id_(id), capacity_(capacity) {}
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  RequestId id() const { return id_; }

  // Appends all events so far to `out`, in order; returns how many. Once DoneEvent was taken nothing follows.
  size_t take(std::vector<Event>& out);

  // Producer's side. Pushes even into a full stream (the scheduler asked room() before).
  void push(Event event);
  size_t room() const;
  // True once after each push into a stream that was empty: the consumer is to be told.
  bool claim_notice();

 private:
  const RequestId id_;
  const size_t capacity_;
  mutable std::mutex mutex_;
  std::vector<Event> events_;
  bool notice_ = false;
};

}  // namespace ll
