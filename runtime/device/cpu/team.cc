#include "runtime/device/cpu/team.h"

#include <emmintrin.h>
#include <pthread.h>
#include <signal.h>
#include <xmmintrin.h>

#include <chrono>
#include <system_error>

namespace ll {
namespace {

constexpr uint32_t kDefaultControlWord = 0x1F80;  // all exceptions masked, round to nearest, denormals kept

// Longer than the gap between two launches or between two steps of a decode loop, short enough that nobody notices the
// heat.
constexpr int64_t kSpinNanoseconds = 100'000;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Signals are for the embedding program's threads.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

}  // namespace

Team::Team(int threads) : size_(threads) {
  // With more threads than CPUs, whoever spins keeps the one it waits for from running.
  if (static_cast<unsigned>(threads) <= std::thread::hardware_concurrency()) spin_ns_ = kSpinNanoseconds;
}

Result<std::unique_ptr<Team>> Team::create(int threads) {
  if (threads < 1 || threads > kMaxThreads) return usage("{} threads, expected 1 to {}", threads, kMaxThreads);
  std::unique_ptr<Team> team(new Team(threads));
  const BlockSignals block;
  team->threads_.reserve(static_cast<size_t>(threads - 1));
  for (int thread = 1; thread < threads; ++thread) {
    try {
      team->threads_.emplace_back([raw = team.get(), thread] { raw->work(thread); });
    } catch (const std::system_error& e) {
      return error(Code::kOutOfMemory, "cannot start thread {} of {}: {}", thread + 1, threads, e.what());
    }
  }
  return team;
}

Team::~Team() {
  stop_ = true;
  epoch_.store(epoch_.load(std::memory_order_relaxed) + 1);
  epoch_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Team::work(int thread) {
  uint32_t seen = 0;
  while (true) {
    wait_while_equal(epoch_, seen);
    ++seen;
    if (stop_) return;
    body_(context_, thread);
    barrier();
  }
}

void Team::call(Body body, void* context) {
  const uint32_t control_word = _mm_getcsr();
  _mm_setcsr(kDefaultControlWord);
  body_ = body;
  context_ = context;
  if (size_ > 1) {
    // Sequentially consistent, here and in barrier(): notify_all skips the system call when it sees no waiter, and a
    // store that were still on its way then would be missed by a thread about to sleep.
    epoch_.store(epoch_.load(std::memory_order_relaxed) + 1);
    epoch_.notify_all();
  }
  body(context, 0);
  barrier();
  _mm_setcsr(control_word);
}

void Team::barrier() {
  if (size_ == 1) return;
  // Cannot be stale: the counter moves only after this thread has arrived.
  const uint32_t passed = passed_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_)) {
    arrived_.store(0, std::memory_order_relaxed);
    passed_.store(passed + 1);
    passed_.notify_all();
  } else {
    wait_while_equal(passed_, passed);
  }
}

void Team::wait_while_equal(const std::atomic<uint32_t>& value, uint32_t old) const {
  constexpr int kPausesPerLookAtTheClock = 32;
  if (spin_ns_ > 0) {
    const int64_t end = now_ns() + spin_ns_;
    do {
      for (int i = 0; i < kPausesPerLookAtTheClock; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        _mm_pause();
      }
    } while (now_ns() < end);
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace ll
