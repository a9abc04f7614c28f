#include "compiler/frontend/to_f32.h"

#include <cmath>
#include <cstring>

#include "kernels/quant/formats.h"

namespace ll {
namespace {

template <class T>
void convert_plain(const std::byte* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, from + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    to[i] = static_cast<float>(value);
  }
}

// OCP 8-bit floats: kMantissa bits of mantissa, kBias, and, for E5M2 alone, infinities.
template <int kMantissa, int kBias, bool kInfinities>
void convert_f8(const std::byte* from, int64_t count, float* to) {
  constexpr int kExponents = 0x7f >> kMantissa;
  for (int64_t i = 0; i < count; ++i) {
    const int bits = std::to_integer<int>(from[i]);
    const int exponent = (bits & 0x7f) >> kMantissa, mantissa = bits & ((1 << kMantissa) - 1);
    float value;
    if (kInfinities && exponent == kExponents) {
      value = mantissa == 0 ? INFINITY : NAN;
    } else if (!kInfinities && (bits & 0x7f) == 0x7f) {
      value = NAN;
    } else if (exponent == 0) {
      value = std::ldexp(static_cast<float>(mantissa), 1 - kBias - kMantissa);
    } else {
      value = std::ldexp(static_cast<float>(mantissa + (1 << kMantissa)), exponent - kBias - kMantissa);
    }
    to[i] = (bits & 0x80) != 0 ? -value : value;
  }
}

struct PlainRow {
  safetensors::DType dtype;
  ToF32 convert;
};
constexpr PlainRow kPlain[] = {
    {safetensors::DType::kBool, convert_plain<uint8_t>},    {safetensors::DType::kU8, convert_plain<uint8_t>},
    {safetensors::DType::kI8, convert_plain<int8_t>},       {safetensors::DType::kU16, convert_plain<uint16_t>},
    {safetensors::DType::kI16, convert_plain<int16_t>},     {safetensors::DType::kU32, convert_plain<uint32_t>},
    {safetensors::DType::kI32, convert_plain<int32_t>},     {safetensors::DType::kU64, convert_plain<uint64_t>},
    {safetensors::DType::kI64, convert_plain<int64_t>},     {safetensors::DType::kF32, convert_plain<float>},
    {safetensors::DType::kF64, convert_plain<double>},      {safetensors::DType::kF8E4M3, convert_f8<3, 7, false>},
    {safetensors::DType::kF8E5M2, convert_f8<2, 15, true>},
};

}  // namespace

ToF32 safetensors_to_f32(safetensors::DType dtype) {
  if (dtype == safetensors::DType::kF16) return find_format(DType::kF16)->dequantize;
  if (dtype == safetensors::DType::kBF16) return find_format(DType::kBF16)->dequantize;
  for (const PlainRow& row : kPlain) {
    if (row.dtype == dtype) return row.convert;
  }
  return nullptr;
}

ToF32 ggml_to_f32(uint32_t id) {
  if (const Format* format = find_format_of_ggml(id); format != nullptr && format->dequantize != nullptr) {
    return format->dequantize;
  }
  const GgmlType* type = find_ggml_type(id);
  if (type == nullptr) return nullptr;
  if (type->name == "i8") return convert_plain<int8_t>;
  if (type->name == "i16") return convert_plain<int16_t>;
  if (type->name == "i32") return convert_plain<int32_t>;
  if (type->name == "i64") return convert_plain<int64_t>;
  if (type->name == "f64") return convert_plain<double>;
  return nullptr;
}

}  // namespace ll
