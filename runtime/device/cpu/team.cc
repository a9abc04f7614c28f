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

// Spinning: longer than the gap between two steps of a decode loop, short enough that nobody notices the heat.
constexpr int64_t kSpinNanoseconds = 100'000;
// How late a thread may be before others take its part: longer than threads drift apart on a machine of their own.
constexpr int64_t kPatienceNanoseconds = 20'000;

// Launches of current_ that are none.
constexpr uint32_t kFinished = 0xFFFFFFFF, kStopped = 0xFFFFFFFE;

bool is_launch(uint64_t current) { return static_cast<uint32_t>(current) < kStopped; }
uint32_t index_of(uint64_t launch) { return static_cast<uint32_t>(launch) >> 8; }
int pieces_of(uint64_t launch) { return static_cast<int>(launch & 0xff); }

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

Team::Team(int threads, std::span<const NodeShare> shares)
    : size_(threads), parts_(static_cast<size_t>(threads * kMaxPieces)), current_(kFinished) {
  // With more threads than CPUs, whoever spins keeps the one it waits for from running.
  spins_ = static_cast<unsigned>(threads) <= std::thread::hardware_concurrency();
  for (const NodeShare& share : shares) spins_ &= static_cast<size_t>(share.threads) <= share.cpus.size();
  if (!shares.empty()) caller_cpus_ = CpuSet(shares.front().cpus);
}

Result<std::unique_ptr<Team>> Team::create(int threads, std::span<const NodeShare> shares) {
  if (threads < 1 || threads > kMaxThreads) return usage("{} threads, expected 1 to {}", threads, kMaxThreads);
  std::unique_ptr<Team> team(new Team(threads, shares));
  const BlockSignals block;
  team->threads_.reserve(static_cast<size_t>(threads - 1));
  const auto start = [&](int until) -> Status {
    for (int thread = static_cast<int>(team->threads_.size()) + 1; thread < until; ++thread) {
      try {
        team->threads_.emplace_back([raw = team.get(), thread] { raw->work(thread); });
      } catch (const std::system_error& e) {
        return error(Code::kOutOfMemory, "cannot start thread {} of {}: {}", thread + 1, threads, e.what());
      }
    }
    return {};
  };
  int until = 0;
  for (const NodeShare& share : shares) {
    const BoundThread bound((CpuSet(share.cpus)));  // which the threads inherit
    if (bound.error() != 0) team->binding_error_ = bound.error();
    until += share.threads;
    TRY(start(until));
  }
  TRY(start(threads));
  return team;
}

Team::~Team() {
  publish(kStopped);
  for (std::thread& thread : threads_) thread.join();
}

void Team::work(int thread) {
  _mm_setcsr(kDefaultControlWord);  // else it is that of whoever made the team
  bool patient = true;
  while (true) {
    // In this order: a change of current_ after the first line ends the wait below at once.
    const uint32_t seen = published_.load(std::memory_order_acquire);
    const uint64_t current = current_.load(std::memory_order_acquire);
    if (static_cast<uint32_t>(current) == kStopped) return;
    if (is_launch(current)) take_own(current, thread);
    wait(seen, current, thread, patient);
  }
}

void Team::call(Body body, void* context, std::span<const uint8_t> pieces) {
  if (pieces.empty()) return;
  const BoundThread bound(caller_cpus_);
  const uint32_t control_word = _mm_getcsr();
  _mm_setcsr(kDefaultControlWord);
  if (size_ == 1) {
    for (uint32_t launch = 0; launch < pieces.size(); ++launch) {
      for (int part = 0; part < pieces[launch]; ++part) body(context, launch, part, 0);
    }
  } else {
    body_ = body;
    context_ = context;
    pieces_ = pieces;
    publish(((current_.load(std::memory_order_relaxed) >> 32) + 1) << 32 | pieces[0]);
    bool patient = true;
    while (true) {
      const uint32_t seen = published_.load(std::memory_order_acquire);
      const uint64_t current = current_.load(std::memory_order_acquire);
      if (!is_launch(current)) break;
      take_own(current, 0);
      wait(seen, current, 0, patient);
    }
  }
  _mm_setcsr(control_word);
}

// Runs the part unless it was taken. A launch ends only when each of its parts has been taken for it, so as long as
// `taken` is older than `launch`, `launch` is the current one, and stays it until this part is done: body_ and context_
// are its own.
bool Team::take(uint64_t launch, int part, int thread) {
  std::atomic<uint64_t>& taken = parts_[static_cast<size_t>(part)].taken;
  uint64_t old = taken.load(std::memory_order_relaxed);
  if (old >= launch || !taken.compare_exchange_strong(old, launch, std::memory_order_acq_rel)) return false;
  body_(context_, index_of(launch), part, thread);
  const auto parts = static_cast<uint32_t>(size_ * pieces_of(launch));
  if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == parts) advance(launch);
  return true;
}

void Team::take_own(uint64_t launch, int thread) {
  const int pieces = pieces_of(launch);
  for (int i = 0; i < pieces; ++i) take(launch, thread * pieces + i, thread);
  if (pieces > 1) take_from_others(launch, thread);
}

// Their last pieces first: they begin with the first ones.
bool Team::take_from_others(uint64_t launch, int thread) {
  const int pieces = pieces_of(launch);
  bool took = false;
  for (int i = 1; i < size_; ++i) {
    for (int piece = pieces - 1; piece >= 0; --piece) {
      took |= take(launch, (thread + i) % size_ * pieces + piece, thread);
    }
  }
  return took;
}

void Team::advance(uint64_t launch) {
  done_.store(0, std::memory_order_relaxed);
  const uint32_t next = index_of(launch) + 1;
  const uint64_t run = launch >> 32 << 32;
  publish(next == pieces_.size() ? run | kFinished : run | uint64_t{next} << 8 | pieces_[next]);
}

void Team::publish(uint64_t launch) {
  current_.store(launch, std::memory_order_release);
  // Sequentially consistent: notify_all skips the system call when it sees no waiter, and a change that were still on
  // its way then would be missed by a thread about to sleep.
  published_.fetch_add(1);
  published_.notify_all();
}

// Returns when published_ differs from `seen`, or after running parts of `launch` that their threads are late for.
// `patient`: whether to give them time first; who was late once is likely late again.
void Team::wait(uint32_t seen, uint64_t launch, int thread, bool& patient) {
  constexpr int kPausesPerLookAtTheClock = 32;
  const auto changed = [&] { return published_.load(std::memory_order_acquire) != seen; };
  const auto spin_until = [&](int64_t end) {
    do {
      for (int i = 0; i < kPausesPerLookAtTheClock; ++i) {
        if (changed()) return true;
        _mm_pause();
      }
    } while (now_ns() < end);
    return false;
  };
  const int64_t start = now_ns();
  if (spins_ && patient && spin_until(start + kPatienceNanoseconds)) return;
  if (is_launch(launch) && !changed()) {
    patient = !take_from_others(launch, thread);
    if (!patient) return;
  }
  if (spins_ && spin_until(start + kSpinNanoseconds)) return;
  published_.wait(seen, std::memory_order_acquire);
}

}  // namespace ll
