#include "kernels/cpu/attention_pages.h"
#include "kernels/cpu/avx2/avx2.h"

namespace ll {
namespace {

struct Avx2Floats {
  static constexpr int kLanes = 8, kRows = 4, kKeys = 2, kVectors = 2;
  using Floats = __m256;
  static void pin(Floats& v) { asm("" : "+x"(v)); }
  static Floats zeros() { return _mm256_setzero_ps(); }
  static Floats load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
  static Floats broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats halves(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Floats bytes(const std::byte* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static __m256 fold(Floats v) { return v; }
};

}  // namespace

namespace avx2 {

void attention(const KernelCall& call) { attention_of<Avx2Floats>(call); }

}  // namespace avx2
}  // namespace ll
