#include "kernels/quant/formats.h"

#include <cassert>
#include <cstring>

#include "kernels/quant/blocks.h"
#include "kernels/quant/half.h"
#include "runtime/base/checked.h"

namespace ll {
namespace {

void dequantize_f32(const std::byte* src, int64_t k, float* y) { std::memcpy(y, src, static_cast<size_t>(k) * 4); }
void quantize_f32(const float* x, int64_t k, std::byte* dst) { std::memcpy(dst, x, static_cast<size_t>(k) * 4); }

template <float (*kConvert)(uint16_t)>
void dequantize_16bit(const std::byte* src, int64_t k, float* y) {
  for (int64_t i = 0; i < k; ++i) {
    uint16_t h;
    std::memcpy(&h, src + 2 * i, 2);
    y[i] = kConvert(h);
  }
}
template <uint16_t (*kConvert)(float)>
void quantize_16bit(const float* x, int64_t k, std::byte* dst) {
  for (int64_t i = 0; i < k; ++i) {
    const uint16_t h = kConvert(x[i]);
    std::memcpy(dst + 2 * i, &h, 2);
  }
}

using enum FormatKind;
using namespace blocks;

constexpr Format kFormats[] = {
    {DType::kF32, "f32", 0, 1, 4, kFloat, dequantize_f32, quantize_f32},
    {DType::kF16, "f16", 1, 1, 2, kFloat, dequantize_16bit<f16_to_f32>, quantize_16bit<f32_to_f16>},
    {DType::kBF16, "bf16", 30, 1, 2, kFloat, dequantize_16bit<bf16_to_f32>, quantize_16bit<f32_to_bf16>},
    {DType::kI32, "i32", 26, 1, 4, kInteger, nullptr, nullptr},
    {DType::kI8, "i8", 24, 1, 1, kInteger, nullptr, nullptr},
    {DType::kQ4_0, "q4_0", 2, 32, 18, kQuantized, dequantize_blocks<DType::kQ4_0>, quantize_blocks<DType::kQ4_0>},
    {DType::kQ4_1, "q4_1", 3, 32, 20, kQuantized, dequantize_blocks<DType::kQ4_1>, quantize_blocks<DType::kQ4_1>},
    {DType::kQ5_0, "q5_0", 6, 32, 22, kQuantized, dequantize_blocks<DType::kQ5_0>, quantize_blocks<DType::kQ5_0>},
    {DType::kQ5_1, "q5_1", 7, 32, 24, kQuantized, dequantize_blocks<DType::kQ5_1>, quantize_blocks<DType::kQ5_1>},
    {DType::kQ8_0, "q8_0", 8, 32, 34, kQuantized, dequantize_blocks<DType::kQ8_0>, quantize_blocks<DType::kQ8_0>},
    {DType::kQ2_K, "q2_K", 10, 256, 84, kQuantized, dequantize_blocks<DType::kQ2_K>, quantize_blocks<DType::kQ2_K>},
    {DType::kQ3_K, "q3_K", 11, 256, 110, kQuantized, dequantize_blocks<DType::kQ3_K>, quantize_blocks<DType::kQ3_K>},
    {DType::kQ4_K, "q4_K", 12, 256, 144, kQuantized, dequantize_blocks<DType::kQ4_K>, quantize_blocks<DType::kQ4_K>},
    {DType::kQ5_K, "q5_K", 13, 256, 176, kQuantized, dequantize_blocks<DType::kQ5_K>, quantize_blocks<DType::kQ5_K>},
    {DType::kQ6_K, "q6_K", 14, 256, 210, kQuantized, dequantize_blocks<DType::kQ6_K>, quantize_blocks<DType::kQ6_K>},
    {DType::kIQ4_NL, "iq4_nl", 20, 32, 18, kQuantized, dequantize_blocks<DType::kIQ4_NL>,
     quantize_blocks<DType::kIQ4_NL>},
    {DType::kIQ4_XS, "iq4_xs", 23, 256, 136, kQuantized, dequantize_blocks<DType::kIQ4_XS>,
     quantize_blocks<DType::kIQ4_XS>},
    {DType::kQ8A, "q8a", -1, 32, 40, kActivation, nullptr, nullptr},
    {DType::kQ8A256, "q8a256", -1, 256, 320, kActivation, nullptr, nullptr},
};

// Ids and sizes: enum ggml_type in ggml/include/ggml.h and the block structs in ggml/src/ggml-common.h.
constexpr GgmlType kGgmlTypes[] = {
    {0, "f32", 1, 4},         {1, "f16", 1, 2},         {2, "q4_0", 32, 18},      {3, "q4_1", 32, 20},
    {6, "q5_0", 32, 22},      {7, "q5_1", 32, 24},      {8, "q8_0", 32, 34},      {9, "q8_1", 32, 36},
    {10, "q2_K", 256, 84},    {11, "q3_K", 256, 110},   {12, "q4_K", 256, 144},   {13, "q5_K", 256, 176},
    {14, "q6_K", 256, 210},   {15, "q8_K", 256, 292},   {16, "iq2_xxs", 256, 66}, {17, "iq2_xs", 256, 74},
    {18, "iq3_xxs", 256, 98}, {19, "iq1_s", 256, 50},   {20, "iq4_nl", 32, 18},   {21, "iq3_s", 256, 110},
    {22, "iq2_s", 256, 82},   {23, "iq4_xs", 256, 136}, {24, "i8", 1, 1},         {25, "i16", 1, 2},
    {26, "i32", 1, 4},        {27, "i64", 1, 8},        {28, "f64", 1, 8},        {29, "iq1_m", 256, 56},
    {30, "bf16", 1, 2},       {34, "tq1_0", 256, 54},   {35, "tq2_0", 256, 66},   {39, "mxfp4", 32, 17},
    {40, "nvfp4", 64, 36},    {41, "q1_0", 128, 18},    {42, "q2_0", 64, 18},
};

}  // namespace

std::span<const Format> formats() { return kFormats; }
std::span<const GgmlType> ggml_types() { return kGgmlTypes; }

const Format* find_format(DType dtype) {
  for (const Format& f : kFormats) {
    if (f.dtype == dtype) return &f;
  }
  return nullptr;
}

const Format* find_format(std::string_view name) {
  for (const Format& f : kFormats) {
    if (f.name == name) return &f;
  }
  return nullptr;
}

const Format* find_format_of_ggml(uint32_t ggml_id) {
  for (const Format& f : kFormats) {
    if (f.ggml_id >= 0 && static_cast<uint32_t>(f.ggml_id) == ggml_id) return &f;
  }
  return nullptr;
}

std::string_view dtype_name(DType dtype) {
  const Format* f = find_format(dtype);
  return f != nullptr ? f->name : "unknown";
}

const GgmlType* find_ggml_type(uint32_t id) {
  for (const GgmlType& t : kGgmlTypes) {
    if (t.id == id) return &t;
  }
  return nullptr;
}

bool is_weight_dtype(DType dtype) {
  const Format* f = find_format(dtype);
  return f != nullptr && (f->kind == kFloat || f->kind == kQuantized);
}

bool is_quantized_dtype(DType dtype) {
  const Format* f = find_format(dtype);
  return f != nullptr && f->kind == kQuantized;
}

int64_t row_bytes(DType dtype, int64_t k) {
  const Format* f = find_format(dtype);
  assert(f != nullptr && k >= 0 && k % f->block_elements == 0);
  return k / f->block_elements * f->block_bytes;
}

std::optional<int64_t> checked_row_bytes(DType dtype, int64_t k) {
  const Format* f = find_format(dtype);
  if (f == nullptr || k < 0 || k % f->block_elements != 0) return std::nullopt;
  return checked_mul<int64_t>(k / f->block_elements, f->block_bytes);
}

}  // namespace ll
