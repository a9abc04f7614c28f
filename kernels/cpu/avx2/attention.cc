#include "kernels/cpu/attention_pages.h"
#include "kernels/cpu/avx2/avx2.h"

namespace ll {
namespace {

struct Avx2Floats {
  static constexpr int kLanes = 8;
  template <int kRows>
  static constexpr int kVectors = kRows > 2 ? 2 : 4;
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
  using Ints = __m256i;
  static Ints int_zeros() { return _mm256_setzero_si256(); }
  static Ints load_ints(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static Ints broadcast_ints(const void* p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
  }
  // A sum of one product, on ports that shifts do not share.
  static Ints even_bytes(Ints v) { return _mm256_maddubs_epi16(_mm256_set1_epi16(1), v); }
  static Ints odd_bytes(Ints v) { return _mm256_srai_epi16(v, 8); }
  // Pinned: left alone, the compiler makes trees of chains of additions and spills them.
  static Ints dot(Ints sum, Ints a, Ints b) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
    asm("" : "+x"(sum));
    return sum;
  }
  static Floats floats(Ints v) { return _mm256_cvtepi32_ps(v); }
};

}  // namespace

namespace avx2 {

void attention(const KernelCall& call) { attention_of<Avx2Floats>(call); }

}  // namespace avx2
}  // namespace ll
