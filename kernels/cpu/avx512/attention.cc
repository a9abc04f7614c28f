#include "kernels/cpu/attention_pages.h"
#include "kernels/cpu/avx512/avx512.h"

namespace ll {
namespace {

struct Avx512Floats {
  static constexpr int kLanes = 16, kRows = 4, kKeys = 4, kVectors = 4;
  using Floats = __m512;
  static void pin(Floats& v) { asm("" : "+v"(v)); }
  static Floats zeros() { return _mm512_setzero_ps(); }
  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
  static Floats broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats halves(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats bytes(const std::byte* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static __m256 fold(Floats v) {
    const __m512 upper = _mm512_shuffle_f32x4(v, v, 0xee);
    return _mm512_castps512_ps256(_mm512_add_ps(v, upper));
  }
};

}  // namespace

namespace avx512 {

void attention(const KernelCall& call) { attention_of<Avx512Floats>(call); }

}  // namespace avx512
}  // namespace ll
