// A team of threads that runs one function on all of them at once (SPMD).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "runtime/base/result.h"

namespace ll {

inline constexpr int kMaxThreads = 256;

// Threads 1 .. size-1 are the team's own and block all signals; thread 0 is whoever calls run(). A waiting thread spins
// briefly, then parks on a futex: an idle team uses no CPU. One caller at a time.
class Team {
 public:
  // 1 <= threads <= kMaxThreads, else kUsage. kOutOfMemory when a thread cannot be started.
  static Result<std::unique_ptr<Team>> create(int threads);
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team();

  int size() const { return size_; }

  // Calls body(thread) once on every thread and returns when all have returned. What the caller wrote before is visible
  // to all, what they wrote is visible to the caller after. `body` must not throw and must not call run(). Every thread
  // of the team starts with the default floating-point environment; the caller's own is restored.
  template <class F>
  void run(F&& body) {
    call([](void* f, int thread) noexcept { (*static_cast<std::remove_reference_t<F>*>(f))(thread); }, &body);
  }

  // Inside body: waits until every thread of the team is here. All threads must call it equally often.
  void barrier();

 private:
  using Body = void (*)(void*, int) noexcept;
  explicit Team(int threads);
  void call(Body body, void* context);
  void work(int thread);
  void wait_while_equal(const std::atomic<uint32_t>& value, uint32_t old) const;

  const int size_;
  int64_t spin_ns_ = 0;
  Body body_ = nullptr;
  void* context_ = nullptr;
  bool stop_ = false;
  // Each on a cache line of its own: waiting threads poll one while the others change.
  alignas(64) std::atomic<uint32_t> epoch_{0};    // raised by each call()
  alignas(64) std::atomic<uint32_t> passed_{0};   // barriers passed
  alignas(64) std::atomic<uint32_t> arrived_{0};  // threads at the current barrier
  std::vector<std::thread> threads_;
};

}  // namespace ll
