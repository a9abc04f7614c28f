#include <immintrin.h>

#include "kernels/cpu/avx2/vector.h"
#include "kernels/cpu/x16_dots.h"

namespace ll {
namespace {

// The words of kernels/cpu/x16_product.h in AVX2 with AVX-VNNI.
struct AvxVnniWords {
  static constexpr int kLanes = 8;
  using Ints = __m256i;
  using Floats = __m256;

  static Ints load(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static Ints set(int32_t v) { return _mm256_set1_epi32(v); }
  static Ints zeros() { return _mm256_setzero_si256(); }
  static Ints broadcast4(const std::byte* p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
  }
  static Ints dot(Ints sum, Ints u, Ints x) { return _mm256_dpbusd_avx_epi32(sum, u, x); }
  static Ints pin(Ints v) {
    asm("" : "+x"(v));
    return v;
  }
  static Ints bits(Ints v, int from, int count, int to) {
    if (from > to) v = _mm256_srli_epi16(v, from - to);
    if (from < to) v = _mm256_slli_epi16(v, to - from);
    return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(((1 << count) - 1) << to)));
  }
  static Ints either(Ints a, Ints b) { return _mm256_or_si256(a, b); }
  static Ints subtract8(Ints a, Ints b) { return _mm256_sub_epi8(a, b); }
  static Ints subtract32(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
  static Ints lookup(Ints v, const uint8_t* table) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), v);
  }
  static Ints unsigned_bytes(const std::byte* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static Ints signed_bytes(const std::byte* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }

  static Floats floats(Ints v) { return _mm256_cvtepi32_ps(v); }
  static Floats halves(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Floats float_zeros() { return _mm256_setzero_ps(); }
  static Floats broadcast(const void* p) {
    float v;
    std::memcpy(&v, p, 4);
    return _mm256_set1_ps(v);
  }
  static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats fnma(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }
  static void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }

  static Ints add32(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static Ints mul32(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
  static Ints shift_left32(Ints v, int n) { return _mm256_slli_epi32(v, n); }
  static Ints shift_right32_signed(Ints v, int n) { return _mm256_srai_epi32(v, n); }
  static Ints dot16(Ints sum, Ints a, Ints b) { return _mm256_dpwssd_avx_epi32(sum, a, b); }
  static void unpack_scales(const std::byte* p, std::byte* to) { avx2::unpack_scales(p, to); }
};

}  // namespace

namespace avxvnni {

void linear(const KernelCall& call, LinearForm form) { linear_of(call, form, x16_dots<AvxVnniWords>); }

}  // namespace avxvnni
}  // namespace ll
