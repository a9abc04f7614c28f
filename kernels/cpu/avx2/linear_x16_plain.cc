#include "kernels/cpu/avx2/linear_x16.h"

namespace ll::avx2 {
namespace {

template <int kLow, int kHigh, int kZeroCode, bool kTableCodes, bool kAddend>
struct Plain {
  static constexpr int kElements = 32, kLowBits = kLow, kHighBits = kHigh, kZero = kZeroCode, kGroup = 0;
  static constexpr bool kTable = kTableCodes, kSigned = kTableCodes || kLow == 8, kSignedScale = false, kMin = kAddend;
  static constexpr int kScaleBytes = 0, kHeadBytes = kAddend ? 64 : 32;
};

constexpr Dots kDots[] = {
    dots_of<Plain<4, 0, 8, false, false>>(DType::kQ4_0),  dots_of<Plain<4, 0, 0, false, true>>(DType::kQ4_1),
    dots_of<Plain<4, 1, 16, false, false>>(DType::kQ5_0), dots_of<Plain<4, 1, 0, false, true>>(DType::kQ5_1),
    dots_of<Plain<8, 0, 0, false, false>>(DType::kQ8_0),  dots_of<Plain<4, 0, 0, true, false>>(DType::kIQ4_NL),
};

}  // namespace

const Dots* plain_x16_dots(DType dtype) {
  for (const Dots& d : kDots) {
    if (d.dtype == dtype) return &d;
  }
  return nullptr;
}

}  // namespace ll::avx2
