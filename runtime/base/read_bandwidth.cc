#include "runtime/base/read_bandwidth.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <system_error>
#include <utility>

namespace ll {
namespace {

constexpr uint64_t kPage = 4096;

uint64_t sum_of(__m128i v) {
  return static_cast<uint64_t>(_mm_cvtsi128_si64(v)) +
         static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(v, v)));
}

// Sums 16-byte words into eight registers: loads are all it waits for.
uint64_t sum(const std::byte* begin, const std::byte* end) {
  constexpr size_t kSums = 8;
  __m128i sums[kSums] = {};
  for (; begin < end; begin += sizeof(sums)) {
    for (size_t i = 0; i < kSums; ++i) {
      sums[i] = _mm_add_epi64(sums[i], _mm_load_si128(reinterpret_cast<const __m128i*>(begin) + i));
    }
  }
  __m128i total = _mm_setzero_si128();
  for (const __m128i s : sums) total = _mm_add_epi64(total, s);
  return sum_of(total);
}

// The same in words of 32 bytes, a line of each of kStreams parts in turn; with kAhead each line is asked for so many
// bytes before its turn. Where a core has few lines on their way at once (Intel's servers), memory gives it more so.
template <size_t kStreams, size_t kAhead>
[[gnu::target("avx2")]] uint64_t sum_lines(const std::byte* begin, const std::byte* end) {
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
  uint64_t total = 0;
  for (const auto& [first, second] : sums) {
    const __m256i both = _mm256_add_epi64(first, second);
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    total += sum_of(half);
  }
  return total;
}

}  // namespace

Result<std::unique_ptr<ReadBandwidth>> ReadBandwidth::open(uint64_t bytes, int threads, std::span<const CpuSet> cpus) {
  const auto count = static_cast<uint64_t>(threads);
  bytes = bytes / (kPage * count) * (kPage * count);
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return error(Code::kOutOfMemory, "cannot map {} bytes to measure memory bandwidth", bytes);
  madvise(memory, bytes, MADV_HUGEPAGE);
  std::unique_ptr<ReadBandwidth> reader(new ReadBandwidth(static_cast<std::byte*>(memory), bytes, threads, cpus));
  for (size_t thread = 1; thread < count; ++thread) {
    try {
      reader->team_.emplace_back([&reader = *reader, thread] {
        const BoundThread bound(reader.cpus_of(thread));
        reader.fill(thread);
        while (reader.pass_of(thread)) {
        }
      });
    } catch (const std::system_error& e) {
      // Those that wait for the next pass wait for this one too.
      for (size_t i = thread; i < count; ++i) reader->start_.arrive_and_drop(), reader->end_.arrive_and_drop();
      return error(Code::kOutOfMemory, "cannot start thread {} of {} to measure memory bandwidth: {}", thread + 1,
                   count, e.what());
    }
  }
  {
    const BoundThread bound(reader->cpus_of(0));
    reader->fill(0);
  }
  std::vector<std::pair<double, Way>> by_rate;
  std::vector<Way> ways = {sum};
  if (__builtin_cpu_supports("avx2") != 0) ways.insert(ways.end(), {sum_lines<1, 5120>, sum_lines<4, 0>});
  for (const Way way : ways) {
    reader->way_ = way;
    by_rate.emplace_back(reader->measure(), way);
  }
  reader->way_ = std::max_element(by_rate.begin(), by_rate.end())->second;
  return reader;
}

ReadBandwidth::ReadBandwidth(std::byte* memory, uint64_t bytes, int threads, std::span<const CpuSet> cpus)
    : memory_(memory),
      bytes_(bytes),
      threads_(static_cast<size_t>(threads)),
      cpus_(cpus.begin(), cpus.end()),
      sums_(threads_),
      start_(threads),
      end_(threads) {}

ReadBandwidth::~ReadBandwidth() {
  way_ = nullptr;
  start_.arrive_and_wait();
  for (std::thread& thread : team_) thread.join();
  munmap(memory_, bytes_);
}

CpuSet ReadBandwidth::cpus_of(size_t thread) const { return cpus_.empty() ? CpuSet() : cpus_[thread]; }

void ReadBandwidth::fill(size_t thread) {
  std::fill_n(memory_ + thread * (bytes_ / threads_), bytes_ / threads_, std::byte{1});
}

bool ReadBandwidth::pass_of(size_t thread) {
  start_.arrive_and_wait();
  if (way_ == nullptr) return false;
  const std::byte* const begin = memory_ + thread * (bytes_ / threads_);
  sums_[thread] += way_(begin, begin + bytes_ / threads_);
  end_.arrive_and_wait();
  return true;
}

double ReadBandwidth::measure(int passes) {
  const BoundThread bound(cpus_of(0));
  std::vector<double> seconds;
  for (int i = 0; i < passes; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    pass_of(0);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  const auto middle = seconds.begin() + passes / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return static_cast<double>(bytes_) / *middle;
}

Result<double> measure_read_bandwidth(uint64_t bytes, int threads) {
  TRY_ASSIGN(const auto reader, ReadBandwidth::open(bytes, threads));
  return reader->measure();
}

}  // namespace ll
