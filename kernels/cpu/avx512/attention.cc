#include "kernels/cpu/attention_pages.h"
#include "kernels/cpu/avx512/avx512.h"

namespace ll {
namespace {

struct Avx512Floats {
  static constexpr int kLanes = 16;
  template <int kRows>
  static constexpr int kVectors = 2;
  static constexpr bool kInterleaved = false;
  static constexpr float kValueUnit = 1;
  using Floats = __m512;
  static Floats pinned(Floats v) {
    asm("" : "+v"(v));
    return v;
  }
  static Floats zeros() { return _mm512_setzero_ps(); }
  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
  static Floats broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats halves(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats codes(const std::byte* p, int64_t i) {
    const __m512i first = _mm512_set4_epi32(0x0c808080, 0x08808080, 0x04808080, 0x00808080);
    const __m512i from = _mm512_or_si512(first, _mm512_set1_epi32(static_cast<int>(i << 24)));
    return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(_mm512_loadu_si512(p), from));
  }
  static Floats value_codes(const std::byte* p, int64_t i) {
    const auto* codes = reinterpret_cast<const __m128i*>(p) + i;
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(codes)));
  }
};

}  // namespace

namespace avx512 {

void attention(const KernelCall& call) { attention_of<Avx512Floats>(call); }

}  // namespace avx512
}  // namespace ll
