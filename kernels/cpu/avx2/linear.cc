// The linear family. Work is divided by panels of 16 weight rows; each panel meets all tokens while it is in the cache.
#include <algorithm>

#include "kernels/cpu/avx2/activate.h"
#include "kernels/cpu/avx2/linear_dots.h"
#include "kernels/cpu/avx2/vector.h"
#include "kernels/quant/layouts.h"
#include "kernels/ref/linear.h"

namespace ll::avx2 {
namespace {

// 1 to 16 rows of one weight, ready to be multiplied.
struct Panel {
  const std::byte* data = nullptr;
  const Dots* dots = nullptr;
};

int64_t panel_count(const TensorView& w) { return (w.dim(0) + kPanelRows - 1) / kPanelRows; }

// Quantized weights that meet f32 tokens become f32 rows in `scratch` first. No graph of ours does that at this level:
// it is here so that every launch that check accepts runs.
Panel open_panel(const TensorView& w, int64_t panel, bool q8, float* scratch) {
  const int64_t k = w.last(), first = panel * kPanelRows;
  if (q8) {
    const Dots* dots = plain_x16_dots(w.dtype);
    return {w.data + panel * x16_panel_bytes(w.dtype, k), dots != nullptr ? dots : grouped_x16_dots(w.dtype)};
  }
  if (const Dots* dots = float_dots(w.dtype)) return {w.data + first * row_bytes(w.dtype, k), dots};
  for (int64_t r = 0; r < std::min(kPanelRows, w.dim(0) - first); ++r) {
    dequantize_row(w.dtype, w.layout, w.data, first + r, k, scratch + r * k);
  }
  return {reinterpret_cast<const std::byte*>(scratch), float_dots(DType::kF32)};
}

// Up to four tokens, four or two or one at a time; how many does not change their bits.
int64_t multiply(const Panel& panel, int64_t rows, const TensorView& x, int64_t token, float* out) {
  const int64_t left = x.dim(0) - token, tokens = left >= 4 ? 4 : left >= 2 ? 2 : 1;
  const DotFn dot = tokens == 4 ? panel.dots->four : tokens == 2 ? panel.dots->two : panel.dots->one;
  dot(panel.data, rows, x.last(), x.row<std::byte>(token), x.row_bytes, out);
  return tokens;
}

}  // namespace

void linear(const KernelCall& call, LinearForm form) {
  const TensorView &x = call.in[0], &y = call.out[0];
  const LinearRoles roles = linear_roles(form, call.in.size(), call.attrs);
  // Weights laid out for a GPU have no SIMD kernel: no CPU plan of ours has them, but check accepts them.
  for (size_t i = 1; i <= roles.weights; ++i) {
    if (call.in[i].layout == Layout::kTile8) return ref::linear(call, form);
  }
  const bool q8 = x.dtype == DType::kQ8A, gated = form == LinearForm::kGated;
  const Activation act = gated ? *find_activation(call.attrs.text("act")) : Activation::kRelu;
  const size_t parts = gated ? 1 : roles.weights;
  auto* scratch = reinterpret_cast<float*>(call.scratch.data());
  const auto bias_of = [&](size_t part, int64_t row) {
    return roles.bias > 0 ? reinterpret_cast<const float*>(call.in[roles.bias + part].data) + row : nullptr;
  };

  int64_t panels = 0;
  for (size_t p = 0; p < parts; ++p) panels += panel_count(call.in[1 + p]);
  const Range range = split(panels, 1, call.thread, call.threads);
  int64_t part_begin = 0, column = 0;  // of the part's first panel and first output
  for (size_t p = 0; p < parts; ++p) {
    const TensorView& w = call.in[1 + p];
    const int64_t count = panel_count(w);
    const int64_t end = std::min(range.end - part_begin, count);
    for (int64_t i = std::max<int64_t>(range.begin - part_begin, 0); i < end; ++i) {
      const int64_t first = i * kPanelRows, rows = std::min(kPanelRows, w.dim(0) - first);
      const Panel panel = open_panel(w, i, q8, scratch);
      const Panel up = gated ? open_panel(call.in[2], i, q8, scratch + kPanelRows * x.last()) : Panel{};
      const float* bias = bias_of(p, first);
      const float* up_bias = gated ? bias_of(1, first) : nullptr;
      alignas(32) float sums[4 * kPanelRows] = {}, up_sums[4 * kPanelRows] = {};
      for (int64_t t = 0; t < x.dim(0);) {
        const int64_t tokens = multiply(panel, rows, x, t, sums);
        if (gated) multiply(up, rows, x, t, up_sums);
        for (int64_t i_token = 0; i_token < tokens; ++i_token, ++t) {
          float* out = y.row<float>(t) + column + first;
          const float* residual = form == LinearForm::kAdd ? call.in[roles.residual].row<float>(t) + first : nullptr;
          for (int64_t r = 0; r < rows; r += 8) {
            const int64_t n = rows - r;
            __m256 value = _mm256_load_ps(sums + kPanelRows * i_token + r);
            if (bias != nullptr) value = _mm256_add_ps(value, load_part(bias + r, n));
            if (gated) {
              __m256 factor = _mm256_load_ps(up_sums + kPanelRows * i_token + r);
              if (up_bias != nullptr) factor = _mm256_add_ps(factor, load_part(up_bias + r, n));
              value = _mm256_mul_ps(activate(act, value), factor);
            }
            if (residual != nullptr) value = _mm256_add_ps(value, load_part(residual + r, n));
            store_part(out + r, n, value);
          }
        }
      }
    }
    part_begin += count;
    column += w.dim(0);
  }
}

}  // namespace ll::avx2
