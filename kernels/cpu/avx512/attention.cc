#include "kernels/cpu/attention_pages.h"
#include "kernels/cpu/avx512/avx512.h"

namespace ll {
namespace {

struct Avx512Floats {
  static constexpr int kLanes = 16;
  template <int kRows>
  static constexpr int kVectors = 2;
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

  using Ints = __m512i;
  static Ints int_zeros() { return _mm512_setzero_si512(); }
  static Ints load_ints(const void* p) { return _mm512_loadu_si512(p); }
  static Ints broadcast_ints(const void* p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
  }
  static Ints even_bytes(Ints v) { return _mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8); }
  static Ints odd_bytes(Ints v) { return _mm512_srai_epi16(v, 8); }
  // Pinned: left alone, the compiler copies sums back and forth.
  static Ints dot(Ints sum, Ints a, Ints b) {
    sum = _mm512_dpwssd_epi32(sum, a, b);
    asm("" : "+v"(sum));
    return sum;
  }
  static Floats floats(Ints v) { return _mm512_cvtepi32_ps(v); }
};

}  // namespace

namespace avx512 {

void attention(const KernelCall& call) { attention_of<Avx512Floats>(call); }

}  // namespace avx512
}  // namespace ll
