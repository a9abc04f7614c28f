// f32 values -> block formats. For each group of values a few scales around the obvious one are tried, each refitted by
// least squares to the codes it gives; the one with the smallest squared error wins. Ties go to the first, so results
// are deterministic.
#include <algorithm>
#include <cmath>

#include "kernels/quant/blocks.h"
#include "kernels/quant/half.h"

namespace ll::blocks {
namespace {

constexpr float kLargestF16 = 65504.0f;
constexpr float kSmallest = 1e-30f;  // below it a group is zero
constexpr int kTries = 9;            // scales tried on each side of the obvious one

uint16_t to_f16(float value) { return f32_to_f16(std::clamp(value, -kLargestF16, kLargestF16)); }
int round_to(float value, int low, int high) {  // NaN and infinities included
  return static_cast<int>(
      std::nearbyint(std::clamp(std::isnan(value) ? 0.0f : value, static_cast<float>(low), static_cast<float>(high))));
}

int largest_code(const BlockFormat& f) { return (1 << (f.low_bits + f.high_bits)) - 1; }

float value_of(const BlockFormat& f, int code) {
  if (f.table) return static_cast<float>(kIq4Values[static_cast<size_t>(code)]);
  if (f.low_bits == 8) return static_cast<float>(static_cast<int8_t>(code));
  return static_cast<float>(code - f.zero);
}

int nearest_code(const BlockFormat& f, float value) {
  if (f.low_bits == 8) return round_to(value, -127, 127) & 255;
  if (!f.table) return round_to(value, -f.zero, largest_code(f) - f.zero) + f.zero;
  int best = 0;
  for (int c = 1; c < 16; ++c) {
    if (std::fabs(value - value_of(f, c)) < std::fabs(value - value_of(f, best))) best = c;
  }
  return best;
}

// scale such that x is near scale * value_of(code).
float fit_scale(const BlockFormat& f, const float* x, int n) {
  float extreme = 0;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  if (std::fabs(extreme) < kSmallest) return 0;
  if (f.low_bits == 8) return std::fabs(extreme) / 127.0f;
  const float lowest = value_of(f, 0), step = f.table ? 1.0f : 0.1f;
  double best_score = -1;
  float best = 0;
  for (int t = -kTries; t <= kTries; ++t) {
    const float inverse = (lowest + step * static_cast<float>(t)) / extreme;
    double xv = 0, vv = 0;
    for (int i = 0; i < n; ++i) {
      const double v = value_of(f, nearest_code(f, x[i] * inverse));
      xv += v * x[i];
      vv += v * v;
    }
    if (vv > 0 && xv * xv / vv > best_score) {
      best_score = xv * xv / vv;
      best = static_cast<float>(xv / vv);
    }
  }
  return best;
}

struct Affine {
  float scale, min;  // x is near scale * code + min
};

Affine fit_affine(const BlockFormat& f, const float* x, int n, bool min_at_most_zero) {
  float low = *std::min_element(x, x + n), high = *std::max_element(x, x + n);
  if (min_at_most_zero) low = std::min(low, 0.0f), high = std::max(high, low);
  if (!(high - low >= kSmallest)) return {0, low};
  const int levels = largest_code(f);
  double best_error = -1;
  Affine best{(high - low) / static_cast<float>(levels), low};
  for (int t = -kTries; t <= kTries; ++t) {
    const float inverse = (static_cast<float>(levels) + 0.1f * static_cast<float>(t)) / (high - low);
    double sx = 0, sc = 0, scc = 0, sxc = 0;
    for (int i = 0; i < n; ++i) {
      const double c = round_to((x[i] - low) * inverse, 0, levels);
      sx += x[i], sc += c, scc += c * c, sxc += c * x[i];
    }
    const double determinant = n * scc - sc * sc;
    if (determinant <= 0) continue;
    double scale = (n * sxc - sx * sc) / determinant, min = (scc * sx - sc * sxc) / determinant;
    if (min_at_most_zero && min > 0) min = 0, scale = sxc / scc;
    double error = 0;
    for (int i = 0; i < n; ++i) {
      const double d = scale * round_to((x[i] - low) * inverse, 0, levels) + min - x[i];
      error += d * d;
    }
    if (best_error < 0 || error < best_error) {
      best_error = error;
      best = {static_cast<float>(scale), static_cast<float>(min)};
    }
  }
  return best;
}

// Codes of n values for factor and offset as `dequantize` will use them.
void encode(const BlockFormat& f, const float* x, int n, float factor, float offset, uint8_t* codes) {
  for (int i = 0; i < n; ++i) {
    const float value = factor != 0 ? (x[i] + offset) / factor : 0.0f;
    codes[i] = static_cast<uint8_t>(f.has_min ? round_to(value, 0, largest_code(f)) : nearest_code(f, value));
  }
}

void quantize_plain(const BlockFormat& f, const float* x, Fields& fields) {
  Affine fit{0, 0};
  if (f.has_min) {
    fit = fit_affine(f, x, f.elements, false);
    fields.m = to_f16(fit.min);
  } else {
    fit.scale = fit_scale(f, x, f.elements);
  }
  fields.d = to_f16(fit.scale);
  encode(f, x, f.elements, f16_to_f32(fields.d), f.has_min ? -f16_to_f32(fields.m) : 0.0f, fields.codes);
}

void quantize_grouped(const BlockFormat& f, const float* x, Fields& fields) {
  const int groups = f.elements / f.group;
  float scales[kMaxGroups], mins[kMaxGroups] = {}, extreme = 0, deepest = 0;
  for (int g = 0; g < groups; ++g) {
    if (f.has_min) {
      const Affine fit = fit_affine(f, x + f.group * g, f.group, true);
      scales[g] = fit.scale, mins[g] = -fit.min;
    } else {
      scales[g] = fit_scale(f, x + f.group * g, f.group);
    }
    if (std::fabs(scales[g]) > std::fabs(extreme)) extreme = scales[g];
    deepest = std::max(deepest, mins[g]);
  }
  // Signed scales reach further below zero than above: the largest takes the lowest code.
  const int low = f.packing == ScalePacking::kQ6K ? -128 : -f.scale_zero, high = low + f.scale_max;
  fields.d = to_f16(extreme / static_cast<float>(f.has_min ? high : low));
  fields.m = to_f16(deepest / static_cast<float>(f.scale_max));
  const float d = f16_to_f32(fields.d), m = f16_to_f32(fields.m);
  for (int g = 0; g < groups; ++g) {
    const int scale = d != 0 ? round_to(scales[g] / d, low, high) : 0;
    const int min = m != 0 ? round_to(mins[g] / m, 0, f.scale_max) : 0;
    fields.scales[g] = static_cast<uint8_t>(scale + f.scale_zero);
    fields.mins[g] = static_cast<uint8_t>(min);
    encode(f, x + f.group * g, f.group, d * static_cast<float>(scale), f.has_min ? m * static_cast<float>(min) : 0.0f,
           fields.codes + f.group * g);
  }
}

}  // namespace

void quantize(const BlockFormat& format, const float* x, int64_t k, std::byte* blocks) {
  Fields fields{};
  for (int64_t b = 0; b < k / format.elements; ++b) {
    const float* values = x + b * format.elements;
    format.group == 0 ? quantize_plain(format, values, fields) : quantize_grouped(format, values, fields);
    format.write(fields, blocks + b * format.bytes);
  }
}

}  // namespace ll::blocks
