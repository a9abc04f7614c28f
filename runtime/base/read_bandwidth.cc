#include "runtime/base/read_bandwidth.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <limits>
#include <system_error>
#include <thread>
#include <vector>

namespace ll {
namespace {

constexpr size_t kPasses = 5;  // of each way

// Sums 16-byte words into eight registers: loads are all it waits for.
int64_t sum(const std::byte* begin, const std::byte* end) {
  constexpr size_t kSums = 8;
  __m128i sums[kSums] = {};
  for (; begin < end; begin += sizeof(sums)) {
    for (size_t i = 0; i < kSums; ++i) {
      sums[i] = _mm_add_epi64(sums[i], _mm_load_si128(reinterpret_cast<const __m128i*>(begin) + i));
    }
  }
  __m128i total = _mm_setzero_si128();
  for (const __m128i s : sums) total = _mm_add_epi64(total, s);
  return _mm_cvtsi128_si64(total) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(total, total));
}

// The same in words of 32 bytes, a line of each of kStreams parts in turn; with kAhead each line is asked for so many
// bytes before its turn. Where a core has few lines on their way at once (Intel's servers), memory gives it more so.
template <size_t kStreams, size_t kAhead>
[[gnu::target("avx2")]] int64_t sum_lines(const std::byte* begin, const std::byte* end) {
  constexpr size_t kLine = 64;
  __m256i sums[kStreams][2] = {};
  const size_t part = static_cast<size_t>(end - begin) / kStreams;
  for (size_t at = 0; at < part; at += kLine) {
    for (size_t i = 0; i < kStreams; ++i) {
      const std::byte* const line = begin + i * part + at;
      if (kAhead > 0) _mm_prefetch(reinterpret_cast<const char*>(line) + kAhead, _MM_HINT_T1);
      for (size_t half = 0; half < 2; ++half) {
        const __m256i word = _mm256_load_si256(reinterpret_cast<const __m256i*>(line) + half);
        sums[i][half] = _mm256_add_epi64(sums[i][half], word);
      }
    }
  }
  int64_t total = 0;
  for (const auto& [first, second] : sums) {
    const __m256i both = _mm256_add_epi64(first, second);
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    total += _mm_cvtsi128_si64(half) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(half, half));
  }
  return total;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

Result<double> measure_read_bandwidth(uint64_t bytes, int threads, std::span<const CpuSet> cpus) {
  bytes = bytes / (4096U * static_cast<unsigned>(threads)) * (4096U * static_cast<unsigned>(threads));
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return error(Code::kOutOfMemory, "cannot map {} bytes to measure memory bandwidth", bytes);
  madvise(memory, bytes, MADV_HUGEPAGE);
  // Each part is whole pages.
  const size_t part = bytes / static_cast<size_t>(threads);
  std::vector<int64_t (*)(const std::byte*, const std::byte*)> ways = {sum};
  if (__builtin_cpu_supports("avx2") != 0) ways.insert(ways.end(), {sum_lines<1, 5120>, sum_lines<4, 0>});
  std::vector<std::vector<double>> seconds(ways.size());
  std::vector<int64_t> sums(static_cast<size_t>(threads));
  std::barrier start(threads), end(threads);
  const auto work = [&](size_t thread) {
    const BoundThread bound(cpus.empty() ? CpuSet() : cpus[thread]);
    std::byte* const mine = static_cast<std::byte*>(memory) + thread * part;
    std::fill(mine, mine + part, std::byte{1});  // so that each page is real and near who reads it
    for (size_t pass = 0; pass < kPasses * ways.size(); ++pass) {
      start.arrive_and_wait();
      const auto begin = std::chrono::steady_clock::now();
      sums[thread] += ways[pass % ways.size()](mine, mine + part);
      end.arrive_and_wait();
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
      if (thread == 0) seconds[pass % ways.size()].push_back(passed.count());
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
  // The sums are used, so that no compiler leaves the loads out.
  const bool read_all =
      std::all_of(sums.begin(), sums.begin() + static_cast<ptrdiff_t>(running), [](int64_t s) { return s != 0; });
  if (!read_all) return error(Code::kInternal, "the bandwidth measurement read other bytes than it wrote");
  double least = std::numeric_limits<double>::infinity();
  for (const std::vector<double>& way : seconds) least = std::min(least, median(way));
  return static_cast<double>(part * running) / least;
}

}  // namespace ll
