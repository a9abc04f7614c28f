// A team of threads that runs a list of launches, each cut into parts: one or some for each thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <type_traits>
#include <vector>

#include "runtime/base/cpu_affinity.h"
#include "runtime/base/result.h"
#include "runtime/device/cpu/placement.h"

namespace ll {

inline constexpr int kMaxThreads = 256;
inline constexpr int kMaxPieces = 64;  // parts of a launch for each thread

// Threads 1 .. size-1 are the team's own and block all signals; thread 0 is whoever calls run(). A waiting thread spins
// briefly, then parks on a futex: an idle team uses no CPU. One caller at a time.
//
// A launch has the same number of parts, its pieces, for each thread, neighbours, so that a thread finds its share of
// the weights in its own cache again. Whoever is done with its own takes what others have not begun: at once where
// there are several pieces, else when the other is late (the system runs something else on its CPU). A step waits for a
// thread that is in the middle of a part, never for one that has not begun.
class Team {
 public:
  // 1 <= threads <= kMaxThreads, else kUsage. kOutOfMemory when a thread cannot be started. `shares` of as many threads
  // in all: each thread runs on the CPUs of its share, thread 0 while it is in run(). None: wherever the caller may.
  static Result<std::unique_ptr<Team>> create(int threads, std::span<const NodeShare> shares = {});
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team();

  int size() const { return size_; }
  // The errno for which the system would not keep threads to their CPUs, 0 otherwise.
  int binding_error() const { return binding_error_; }

  // Calls body(launch, part, thread) once for each launch in [0, pieces.size()) and part in [0, pieces[launch] *
  // size()), on some thread; a launch begins when all parts of the one before have returned. Returns after the last.
  // What was written before a launch is visible to it, whoever wrote it, and to the caller afterwards. `body` must not
  // throw and must not call run(). It runs with the default floating-point environment; the caller's own is restored.
  // Pieces are 1 to kMaxPieces, launches at most 2^24 - 2.
  template <class F>
  void run(std::span<const uint8_t> pieces, F&& body) {
    call([](void* f, uint32_t launch, int part,
            int thread) noexcept { (*static_cast<std::remove_reference_t<F>*>(f))(launch, part, thread); },
         &body, pieces);
  }
  // One launch of a part for each thread.
  template <class F>
  void run(F&& body) {
    constexpr uint8_t kOne[] = {1};
    run(kOne, body);
  }

 private:
  using Body = void (*)(void*, uint32_t, int, int) noexcept;
  // The last launch whose part was taken. On a cache line of its own: as a rule one thread alone writes it.
  struct alignas(64) Part {
    std::atomic<uint64_t> taken{0};
  };

  Team(int threads, std::span<const NodeShare> shares);
  void call(Body body, void* context, std::span<const uint8_t> pieces);
  void work(int thread);
  bool take(uint64_t launch, int part, int thread);
  void take_own(uint64_t launch, int thread);
  bool take_from_others(uint64_t launch, int thread);
  void advance(uint64_t launch);
  void publish(uint64_t launch);
  void wait(uint32_t seen, uint64_t launch, int thread, bool& patient);

  const int size_;
  CpuSet caller_cpus_;  // of thread 0; none: any
  int binding_error_ = 0;
  bool spins_ = false;
  Body body_ = nullptr;
  void* context_ = nullptr;
  std::span<const uint8_t> pieces_;
  std::vector<Part> parts_;
  // Each on a cache line of its own: waiting threads poll one while the others change.
  // Number of the run << 32 | launch << 8 | its pieces; for the lower half also kFinished or kStopped.
  alignas(64) std::atomic<uint64_t> current_;
  alignas(64) std::atomic<uint32_t> published_{0};  // times that current_ changed: what threads wait for
  alignas(64) std::atomic<uint32_t> done_{0};       // parts of the current launch that have returned
  std::vector<std::thread> threads_;
};

}  // namespace ll
