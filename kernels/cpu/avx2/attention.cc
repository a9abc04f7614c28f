#include "kernels/cpu/attention_pages.h"
#include "kernels/cpu/avx2/avx2.h"

namespace ll {
namespace {

struct Avx2Floats {
  static constexpr int kLanes = 8;
  template <int kRows>
  static constexpr int kVectors = kRows > 2 ? 2 : 4;
  static constexpr bool kInterleaved = true;
  static constexpr float kValueUnit = kCodeUnit;
  using Floats = __m256;
  static Floats pinned(Floats v) {
    asm("" : "+x"(v));
    return v;
  }
  static Floats zeros() { return _mm256_setzero_ps(); }
  static Floats load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
  static Floats broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) {
    asm("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return c;
  }
  static Floats halves(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  // Loads that end at the byte and a mask keep the ports of the products free, as shuffles would not.
  static Floats codes(const std::byte* p, int64_t i) {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i - 3));
    return _mm256_cvtepi32_ps(_mm256_and_si256(words, _mm256_set1_epi32(static_cast<int>(0xff000000))));
  }
  static Floats value_codes(const std::byte* p, int64_t i) { return codes(p, i); }
};

}  // namespace

namespace avx2 {

void attention(const KernelCall& call) { attention_of<Avx2Floats>(call); }

}  // namespace avx2
}  // namespace ll
