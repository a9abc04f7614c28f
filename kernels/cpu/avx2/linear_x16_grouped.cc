#include "kernels/cpu/avx2/linear_x16.h"

namespace ll::avx2 {
namespace {

// Each decode undoes the packing that kernels/quant/layouts.h describes, two scales of 16 rows at a time (v).

struct Q2K {
  static constexpr int kElements = 256, kLowBits = 2, kHighBits = 0, kZero = 0, kGroup = 16;
  static constexpr bool kTable = false, kSigned = false, kSignedScale = false, kMin = true;
  static constexpr int kScaleBytes = 256, kHeadBytes = 64;
  static void decode(const std::byte* block, const std::byte*, GroupScales& s) {
    for (int v = 0; v < 8; ++v) {
      const __m256i both = load(block + 32 * v);
      store(s.scale + 32 * v, move_bits(both, 0, 4, 0));
      store(s.min + 32 * v, move_bits(both, 4, 4, 0));
    }
  }
};

struct Q3K {
  static constexpr int kElements = 256, kLowBits = 2, kHighBits = 1, kZero = 4, kGroup = 16;
  static constexpr bool kTable = false, kSigned = false, kSignedScale = true, kMin = false;
  static constexpr int kScaleBytes = 192, kHeadBytes = 32;
  static void decode(const std::byte* block, const std::byte*, GroupScales& s) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
      const __m256i low = move_bits(load(block + 32 * (v % 4)), v / 4 * 4, 4, 0);
      const __m256i high = move_bits(load(block + 128 + 32 * (v % 2)), v / 2 * 2, 2, 4);
      store(s.scale + 32 * v, _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32)));
    }
  }
};

template <int kHigh>
struct Q4KOr5K {
  static constexpr int kElements = 256, kLowBits = 4, kHighBits = kHigh, kZero = 0, kGroup = 32;
  static constexpr bool kTable = false, kSigned = false, kSignedScale = false, kMin = true;
  static constexpr int kScaleBytes = 192, kHeadBytes = 64;
  static void decode(const std::byte* block, const std::byte*, GroupScales& s) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m256i low = load(block + 32 * v), high = load(block + 128 + 32 * (v / 2));
      const int shift = v % 2 * 4;
      store(s.scale + 32 * v, _mm256_or_si256(move_bits(low, 0, 4, 0), move_bits(high, shift, 2, 4)));
      store(s.min + 32 * v, _mm256_or_si256(move_bits(low, 4, 4, 0), move_bits(high, shift + 2, 2, 4)));
    }
  }
};

struct Q6K {
  static constexpr int kElements = 256, kLowBits = 4, kHighBits = 2, kZero = 32, kGroup = 16;
  static constexpr bool kTable = false, kSigned = false, kSignedScale = true, kMin = false;
  static constexpr int kScaleBytes = 256, kHeadBytes = 32;
  static void decode(const std::byte* block, const std::byte*, GroupScales& s) {
    for (int v = 0; v < 8; ++v) store(s.scale + 32 * v, load(block + 32 * v));
  }
};

struct IQ4XS {
  static constexpr int kElements = 256, kLowBits = 4, kHighBits = 0, kZero = 0, kGroup = 32;
  static constexpr bool kTable = true, kSigned = true, kSignedScale = true, kMin = false;
  static constexpr int kScaleBytes = 64, kHeadBytes = 64;
  static void decode(const std::byte* block, const std::byte* head, GroupScales& s) {
    const __m256i upper = load(head + 32);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m256i low = move_bits(load(block + 32 * (v % 2)), v / 2 * 4, 4, 0);
      store(s.scale + 32 * v,
            _mm256_sub_epi8(_mm256_or_si256(low, move_bits(upper, 2 * v, 2, 4)), _mm256_set1_epi8(32)));
    }
  }
};

constexpr Dots kDots[] = {
    dots_of<Q2K>(DType::kQ2_K),        dots_of<Q3K>(DType::kQ3_K), dots_of<Q4KOr5K<0>>(DType::kQ4_K),
    dots_of<Q4KOr5K<1>>(DType::kQ5_K), dots_of<Q6K>(DType::kQ6_K), dots_of<IQ4XS>(DType::kIQ4_XS),
};

}  // namespace

const Dots* grouped_x16_dots(DType dtype) {
  for (const Dots& d : kDots) {
    if (d.dtype == dtype) return &d;
  }
  return nullptr;
}

}  // namespace ll::avx2
