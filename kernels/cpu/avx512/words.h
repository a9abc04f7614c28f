// The words of kernels/cpu/x16_product.h in AVX-512 with VNNI. Include only from files compiled for it.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/avx2/vector.h"

namespace ll {
namespace {

struct Avx512Words {
  static constexpr int kLanes = 16;
  using Ints = __m512i;
  using Floats = __m512;

  static Ints load(const std::byte* p) { return _mm512_loadu_si512(p); }
  static Ints set(int32_t v) { return _mm512_set1_epi32(v); }
  static Ints zeros() { return _mm512_setzero_si512(); }
  static Ints broadcast4(const std::byte* p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
  }
  static Ints dot(Ints sum, Ints u, Ints x) { return _mm512_dpbusd_epi32(sum, u, x); }
  static Ints pin(Ints v) {
    asm("" : "+v"(v));
    return v;
  }
  static Ints bits(Ints v, int from, int count, int to) {
    if (from > to) v = _mm512_srli_epi16(v, static_cast<unsigned>(from - to));
    if (from < to) v = _mm512_slli_epi16(v, static_cast<unsigned>(to - from));
    return _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>(((1 << count) - 1) << to)));
  }
  static Ints either(Ints a, Ints b) { return _mm512_or_si512(a, b); }
  static Ints subtract8(Ints a, Ints b) { return _mm512_sub_epi8(a, b); }
  static Ints subtract32(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
  static Ints lookup(Ints v, const uint8_t* table) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), v);
  }
  static Ints unsigned_bytes(const std::byte* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Ints signed_bytes(const std::byte* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store(std::byte* p, Ints v) { _mm512_storeu_si512(p, v); }

  static Floats floats(Ints v) { return _mm512_cvtepi32_ps(v); }
  static Floats halves(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats float_zeros() { return _mm512_setzero_ps(); }
  static Floats broadcast(const void* p) {
    float v;
    std::memcpy(&v, p, 4);
    return _mm512_set1_ps(v);
  }
  static Floats load_floats(const float* p) { return _mm512_loadu_ps(p); }
  static Floats load_unless(bool zeros, const float* p) { return _mm512_maskz_loadu_ps(zeros ? 0 : 0xffff, p); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats fnma(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }
  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }

  static Ints add32(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Ints mul32(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
  static Ints shift_left32(Ints v, unsigned n) { return _mm512_slli_epi32(v, n); }
  static Ints shift_right32_signed(Ints v, unsigned n) { return _mm512_srai_epi32(v, n); }
  static Ints shift_right32(Ints v, unsigned n) { return _mm512_srli_epi32(v, n); }
  static Ints float_bits(Floats v) { return _mm512_castps_si512(v); }
  static Floats from_bits(Ints v) { return _mm512_castsi512_ps(v); }
  static Ints load_low(const std::byte* p) {
    return _mm512_zextsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Ints signed_halves(const std::byte* p) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Ints shift_left16(Ints v, unsigned n) { return _mm512_slli_epi16(v, n); }
  static Ints dot16(Ints sum, Ints a, Ints b) { return _mm512_dpwssd_epi32(sum, a, b); }
  static Ints products16(Ints a, Ints b) { return _mm512_madd_epi16(a, b); }
  static void unpack_scales(const std::byte* p, std::byte* to) { avx2::unpack_scales(p, to); }
  static Ints mul16(Ints a, Ints b) { return _mm512_mullo_epi16(a, b); }
  static Ints subtract16(Ints a, Ints b) { return _mm512_sub_epi16(a, b); }
  static Ints shift_right16(Ints v, unsigned n) { return _mm512_srli_epi16(v, n); }
  static Ints shift_right16_signed(Ints v, unsigned n) { return _mm512_srai_epi16(v, n); }
  static Ints both(Ints a, Ints b) { return _mm512_and_si512(a, b); }
  static Ints add16(Ints a, Ints b) { return _mm512_add_epi16(a, b); }
  static Ints add16_saturated(Ints a, Ints b) { return _mm512_adds_epi16(a, b); }
  static Ints mulhrs16(Ints a, Ints b) { return _mm512_mulhrs_epi16(a, b); }
  static Ints two_halves(const int32_t* p) {
    return _mm512_inserti64x4(_mm512_set1_epi32(p[0]), _mm256_set1_epi32(p[1]), 1);
  }
  static Ints nearest(Floats v) { return _mm512_cvtps_epi32(v); }
  static Floats magnitude(Floats v) { return _mm512_abs_ps(v); }
  static Floats largest(Floats a, Floats b) { return _mm512_max_ps(b, a); }
  static Floats quotient_or_zero(Floats a, Floats b) {
    const __mmask16 in_range = _mm512_cmp_ps_mask(b, _mm512_set1_ps(0x1p-100F), _CMP_GE_OQ) &
                               _mm512_cmp_ps_mask(b, _mm512_set1_ps(0x1p100F), _CMP_LE_OQ);
    return _mm512_maskz_div_ps(in_range, a, b);
  }
};

}  // namespace
}  // namespace ll
