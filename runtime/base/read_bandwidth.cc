#include "runtime/base/read_bandwidth.h"

#include <emmintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

namespace ll {
namespace {

constexpr int kPasses = 7;

// Sums 16-byte words into eight registers: loads are all it waits for.
int64_t sum(const __m128i* begin, const __m128i* end) {
  constexpr size_t kSums = 8;
  __m128i sums[kSums] = {};
  for (; begin + kSums <= end; begin += kSums) {
    for (size_t i = 0; i < kSums; ++i) sums[i] = _mm_add_epi64(sums[i], _mm_load_si128(begin + i));
  }
  __m128i total = _mm_setzero_si128();
  for (const __m128i s : sums) total = _mm_add_epi64(total, s);
  return _mm_cvtsi128_si64(total) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(total, total));
}

}  // namespace

Result<double> measure_read_bandwidth(uint64_t bytes, int threads, std::span<const CpuSet> cpus) {
  bytes = bytes / (4096U * static_cast<unsigned>(threads)) * (4096U * static_cast<unsigned>(threads));
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return error(Code::kOutOfMemory, "cannot map {} bytes to measure memory bandwidth", bytes);
  madvise(memory, bytes, MADV_HUGEPAGE);
  auto* const words = static_cast<__m128i*>(memory);
  const size_t part = bytes / sizeof(__m128i) / static_cast<size_t>(threads);
  std::vector<double> seconds;
  std::vector<int64_t> sums(static_cast<size_t>(threads));
  std::barrier start(threads), end(threads);
  const auto work = [&](size_t thread) {
    const BoundThread bound(cpus.empty() ? CpuSet() : cpus[thread]);
    __m128i* const mine = words + thread * part;
    std::fill(mine, mine + part, _mm_set1_epi8(1));  // so that each page is real and near who reads it
    for (int pass = 0; pass < kPasses; ++pass) {
      start.arrive_and_wait();
      const auto begin = std::chrono::steady_clock::now();
      sums[thread] += sum(mine, mine + part);
      end.arrive_and_wait();
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
      if (thread == 0) seconds.push_back(passed.count());
    }
  };
  std::vector<std::thread> team;
  for (int thread = 1; thread < threads; ++thread) {
    try {
      team.emplace_back(work, static_cast<size_t>(thread));
    } catch (const std::system_error&) {
      start.arrive_and_drop();  // its part is not read; the others' passes then take their usual time
      end.arrive_and_drop();
    }
  }
  const size_t running = team.size() + 1;
  work(0);
  for (std::thread& thread : team) thread.join();
  munmap(memory, bytes);
  std::nth_element(seconds.begin(), seconds.begin() + kPasses / 2, seconds.end());
  // The sums are used, so that no compiler leaves the loads out.
  const bool read_all =
      std::all_of(sums.begin(), sums.begin() + static_cast<ptrdiff_t>(running), [](int64_t s) { return s != 0; });
  if (!read_all) return error(Code::kInternal, "the bandwidth measurement read other bytes than it wrote");
  return static_cast<double>(part * sizeof(__m128i) * running) / seconds[kPasses / 2];
}

}  // namespace ll
