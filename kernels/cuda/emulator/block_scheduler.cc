#include "kernels/cuda/emulator/block_scheduler.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/emulator/fiber.h"

namespace ll::cuda {
namespace {

constexpr size_t kStackBytes = 128 << 10;
constexpr uint32_t kLanes = 32, kMaxThreads = 1024, kMaxResident = 3;
constexpr uint64_t kSharedLimit = 64 << 10, kStaticLimit = 48 << 10, kPageBytes = 4096;
constexpr uint64_t kMaxPauses = 2'000'000;  // in a row, with nothing else happening

using WarpFunction = void (*)(const void*, void*);

struct Fiber {
  enum class State : uint8_t { kReady, kWarp, kBlock, kDone };
  void* at = nullptr;
  State state = State::kReady;
  emulated::Index thread{};
  const char* waits = "";  // the word it waits in
  WarpFunction all = nullptr;
  const void* in = nullptr;
  void* out = nullptr;
  bool vote = false;
};

// One shared array of one resident block, its end on a page that faults.
struct Region {
  std::byte* data = nullptr;
  uint64_t bytes = 0;
};

struct Block {
  emulated::Index index{};
  std::vector<Fiber> fibers;
  std::vector<uint16_t> ready;
  std::vector<uint32_t> warp_waiting;  // lanes that have arrived, by warp
  uint32_t block_waiting = 0, done = 0, votes = 0;
  std::map<const void*, Region> shared;
  uint64_t static_shared = 0;
};

Region allocate_shared(uint64_t bytes) {
  const uint64_t pages = (std::max<uint64_t>(bytes, 1) + kPageBytes - 1) / kPageBytes * kPageBytes;
  void* memory = mmap(nullptr, pages + kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return {};
  mprotect(static_cast<std::byte*>(memory) + pages, kPageBytes, PROT_NONE);
  const uint64_t rounded = (bytes + 15) / 16 * 16;
  return {static_cast<std::byte*>(memory) + pages - rounded, bytes};
}

void free_shared(const Region& region) {
  const auto start = reinterpret_cast<uint64_t>(region.data) / kPageBytes * kPageBytes;
  const uint64_t end = reinterpret_cast<uint64_t>(region.data) + (region.bytes + 15) / 16 * 16;
  munmap(reinterpret_cast<void*>(start), end - start + kPageBytes);
}

// The launch that runs. A plain pointer: one at a time, on one thread.
class Scheduler;
Scheduler* g_running = nullptr;

class Scheduler {
 public:
  Scheduler(const KernelLaunch& launch, EntryPoint entry, const Args& args, uint64_t seed)
      : launch_(launch), entry_(entry), args_(args), seed_(seed), random_(seed) {}
  ~Scheduler() {
    for (Block& block : blocks_) {
      for (const auto& [site, region] : block.shared) free_shared(region);
    }
  }

  Status run();

  // From fibers.
  void warp(const char* name, const void* in, uint32_t in_bytes, void* out, uint32_t out_bytes, WarpFunction all);
  uint32_t block_barrier(const char* name, bool vote);
  void* shared(const void* site, uint64_t bytes);
  void pause();
  [[noreturn]] void fail(std::string message);
  void finish();
  bool in_fiber() const { return in_fiber_; }
  [[noreturn]] void fault(int signal, const void* address);
  void call_kernel() { entry_(args_); }

 private:
  Fiber& current() { return block_->fibers[fiber_]; }
  uint64_t pick(uint64_t count) { return seed_ == 0 ? 0 : random_() % count; }
  void start(Block& block, uint64_t index);
  Status step(Block& block);
  void wait() { switch_fiber(&current().at, scheduler_at_); }
  std::string where(const Block& block, const Fiber& fiber) const;
  std::string stuck(const Block& block) const;

  const KernelLaunch& launch_;
  EntryPoint entry_;
  const Args& args_;
  uint64_t seed_;
  std::mt19937_64 random_;
  std::vector<Block> blocks_;  // resident
  Block* block_ = nullptr;     // running
  uint16_t fiber_ = 0;
  uint64_t pauses_ = 0;
  void* scheduler_at_ = nullptr;
  bool in_fiber_ = false, failed_ = false;
  std::string message_;
  std::array<std::byte, size_t{64} * kLanes> inputs_{}, outputs_{};
};

emulated::Runtime g_runtime = {
    {},
    {},
    {},
    {},
    [](const char* name, const void* in, unsigned in_bytes, void* out, unsigned out_bytes, WarpFunction all) {
      g_running->warp(name, in, in_bytes, out, out_bytes, all);
    },
    [](const char* name, bool vote) { return g_running->block_barrier(name, vote); },
    [](const void* site, unsigned long bytes) { return g_running->shared(site, bytes); },
    [] { g_running->pause(); },
    [](const char* message) { g_running->fail(message); },
};

// Stacks outlive launches: making a thousand of them costs more than most launches.
std::byte* stack_of(uint32_t resident, uint32_t thread) {
  static std::array<std::byte*, size_t{kMaxResident} * kMaxThreads> stacks{};
  std::byte*& stack = stacks[resident * kMaxThreads + thread];
  if (stack == nullptr) stack = allocate_stack(kStackBytes);
  return stack;
}

void fiber_main() {
  g_running->call_kernel();
  g_running->finish();
}

std::string Scheduler::where(const Block& block, const Fiber& fiber) const {
  return fmt::format("block ({},{},{}) thread ({},{},{})", block.index.x, block.index.y, block.index.z, fiber.thread.x,
                     fiber.thread.y, fiber.thread.z);
}

void Scheduler::start(Block& block, uint64_t index) {
  const auto [x, y, z] = launch_.grid;
  block.index = {static_cast<unsigned>(index % x), static_cast<unsigned>(index / x % y),
                 static_cast<unsigned>(index / x / y)};
  const auto threads = static_cast<uint32_t>(launch_.instance.threads);
  block.fibers.assign(threads, {});
  block.ready.clear();
  block.warp_waiting.assign((threads + kLanes - 1) / kLanes, 0);
  block.block_waiting = block.done = block.votes = 0;
  for (auto& [site, region] : block.shared) std::memset(region.data, 0xff, region.bytes);
  const auto resident = static_cast<uint32_t>(&block - blocks_.data());
  for (uint32_t t = 0; t < threads; ++t) {
    block.fibers[t].thread = {t, 0, 0};
    block.fibers[t].at = prepare_fiber(stack_of(resident, t), kStackBytes, fiber_main);
    block.ready.push_back(static_cast<uint16_t>(t));
  }
}

std::string Scheduler::stuck(const Block& block) const {
  std::map<std::string, int> waiting;
  for (const Fiber& f : block.fibers)
    ++waiting[f.state == Fiber::State::kDone ? "have returned" : fmt::format("wait in {}", f.waits)];
  std::string text;
  for (const auto& [what, count] : waiting) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, what);
  return fmt::format("block ({},{},{}): {} of its threads, expected all to reach the same place", block.index.x,
                     block.index.y, block.index.z, text);
}

Status Scheduler::step(Block& block) {
  if (block.ready.empty()) return bad_data("{}", stuck(block));
  const uint64_t i = pick(block.ready.size());
  block_ = &block;
  fiber_ = block.ready[i];
  if (seed_ == 0) {
    block.ready.erase(block.ready.begin());
  } else {
    block.ready[i] = block.ready.back();
    block.ready.pop_back();
  }
  g_runtime.thread = current().thread;
  g_runtime.block = block.index;
  in_fiber_ = true;
  switch_fiber(&scheduler_at_, current().at);
  in_fiber_ = false;
  if (failed_) return bad_data("{}", message_);
  return {};
}

Status Scheduler::run() {
  const uint64_t total = uint64_t{launch_.grid[0]} * launch_.grid[1] * launch_.grid[2];
  std::vector<uint64_t> order(total);
  for (uint64_t i = 0; i < total; ++i) order[i] = i;
  if (seed_ != 0) std::shuffle(order.begin(), order.end(), random_);
  uint64_t next = 0;
  blocks_.resize(std::min<uint64_t>(total, 1 + seed_ % kMaxResident));
  std::vector<Block*> active;
  for (Block& block : blocks_) {
    start(block, order[next++]);
    active.push_back(&block);
  }
  g_runtime.block_dim = {static_cast<unsigned>(launch_.instance.threads), 1, 1};
  g_runtime.grid_dim = {launch_.grid[0], launch_.grid[1], launch_.grid[2]};
  while (!active.empty()) {
    const uint64_t i = pick(active.size());
    Block& block = *active[i];
    TRY(step(block));
    if (block.done < block.fibers.size()) continue;
    if (next < total) {
      start(block, order[next++]);
    } else {
      active.erase(active.begin() + static_cast<ptrdiff_t>(i));
    }
  }
  return {};
}

void Scheduler::warp(const char* name, const void* in, uint32_t in_bytes, void* out, uint32_t out_bytes,
                     WarpFunction all) {
  Block& block = *block_;
  Fiber& self = current();
  pauses_ = 0;
  const uint32_t w = fiber_ / kLanes, first = w * kLanes;
  self.in = in, self.out = out, self.all = all, self.waits = name;
  if (first + kLanes > block.fibers.size()) fail(fmt::format("{} in a warp of fewer than 32 threads", name));
  if (++block.warp_waiting[w] < kLanes) {
    self.state = Fiber::State::kWarp;
    wait();
    return;
  }
  block.warp_waiting[w] = 0;
  for (uint32_t l = 0; l < kLanes; ++l) {
    const Fiber& f = block.fibers[first + l];
    if (f.all != all || f.waits != name) {
      fail(fmt::format("{} where thread {} of its warp is in {}, expected the whole warp at one place", name,
                       f.thread.x, f.waits));
    }
    std::memcpy(inputs_.data() + l * in_bytes, f.in, in_bytes);
  }
  all(inputs_.data(), outputs_.data());
  for (uint32_t l = 0; l < kLanes; ++l) {
    Fiber& f = block.fibers[first + l];
    std::memcpy(f.out, outputs_.data() + l * out_bytes, out_bytes);
    f.state = Fiber::State::kReady;
    if (&f != &self) block.ready.push_back(static_cast<uint16_t>(first + l));
  }
}

uint32_t Scheduler::block_barrier(const char* name, bool vote) {
  Block& block = *block_;
  Fiber& self = current();
  pauses_ = 0;
  self.waits = name;
  self.vote = vote;
  if (++block.block_waiting < block.fibers.size()) {
    self.state = Fiber::State::kBlock;
    wait();
    return block.votes;
  }
  block.block_waiting = block.votes = 0;
  for (Fiber& f : block.fibers) {
    if (f.waits != name) fail(fmt::format("{} where thread {} is in {}", name, f.thread.x, f.waits));
    block.votes += f.vote ? 1 : 0;
    f.state = Fiber::State::kReady;
    if (&f != &self) block.ready.push_back(static_cast<uint16_t>(&f - block.fibers.data()));
  }
  return block.votes;
}

void* Scheduler::shared(const void* site, uint64_t bytes) {
  if (site == nullptr) bytes = launch_.dynamic_shared;
  Region& region = block_->shared[site];
  if (region.data != nullptr) return region.data;
  if (site != nullptr) block_->static_shared += (bytes + 15) / 16 * 16;
  if (block_->static_shared > kStaticLimit) {
    fail(fmt::format("{} bytes of static shared memory, expected at most {}", block_->static_shared, kStaticLimit));
  }
  if (block_->static_shared + launch_.dynamic_shared > kSharedLimit) {
    fail(fmt::format("{} bytes of shared memory, expected at most {}", block_->static_shared + launch_.dynamic_shared,
                     kSharedLimit));
  }
  region = allocate_shared(bytes);
  if (region.data == nullptr) fail("no memory for shared memory");
  std::memset(region.data, 0xff, bytes);
  return region.data;
}

void Scheduler::pause() {
  if (++pauses_ > kMaxPauses) fail("waits for ever");
  block_->ready.push_back(fiber_);
  wait();
}

// Goes on in the scheduler and never comes back: the fiber's stack, or the signal's, is simply left.
void Scheduler::fail(std::string message) {
  message_ = fmt::format("{}: {}", where(*block_, current()), message);
  failed_ = true;
  wait();
  __builtin_unreachable();
}

void Scheduler::finish() {
  Block& block = *block_;
  pauses_ = 0;
  current().state = Fiber::State::kDone;
  ++block.done;
  wait();
}

void Scheduler::fault(int signal, const void* address) {
  const char* what = signal == SIGILL   ? "an index outside its array"
                     : signal == SIGFPE ? "a division by zero"
                                        : "access";
  fail(signal == SIGILL || signal == SIGFPE
           ? std::string(what)
           : fmt::format("{} to {} outside every operand and shared array", what, address));
}

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};

// On a stack of its own: the fiber's may be what overflowed.
void on_signal(int signal, siginfo_t* info, void*) {
  if (g_running != nullptr && g_running->in_fiber()) g_running->fault(signal, info->si_addr);
  ::signal(signal, SIG_DFL);  // not the kernel's: happens again, and ends the process
}

class SignalHandlers {
 public:
  SignalHandlers() : stack_(64 << 10) {
    stack_t stack{};
    stack.ss_sp = stack_.data();
    stack.ss_size = stack_.size();
    sigaltstack(&stack, &old_stack_);
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // the handler does not return
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &old_[i]);
  }
  ~SignalHandlers() {
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &old_[i], nullptr);
    sigaltstack(&old_stack_, nullptr);
  }

 private:
  std::vector<std::byte> stack_;
  stack_t old_stack_{};
  struct sigaction old_[std::size(kSignals)]{};
};

}  // namespace

const emulated::Runtime* emulator_runtime() { return &g_runtime; }

Status run_blocks(const KernelLaunch& launch, EntryPoint entry, const Args& args, uint64_t seed) {
  const int threads = launch.instance.threads;
  if (threads < 1 || threads > static_cast<int>(kMaxThreads)) {
    return bad_data("{} threads a block, expected 1 to {}", threads, kMaxThreads);
  }
  for (const uint32_t size : launch.grid) {
    if (size == 0) return bad_data("a grid of no blocks");
  }
  SignalHandlers handlers;
  auto scheduler = std::make_unique<Scheduler>(launch, entry, args, seed);
  g_running = scheduler.get();
  const Status status = scheduler->run();
  g_running = nullptr;
  return status;
}

}  // namespace ll::cuda
