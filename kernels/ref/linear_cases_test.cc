// Cases of the linear family and embed for the numerics suite.
#include <cmath>
#include <cstring>

#include "kernels/activation.h"
#include "kernels/numerics.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/half.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"
#include "kernels/quant/tile8.h"
#include "kernels/ref/linear.h"

namespace ll::numerics {
namespace {

using enum LinearForm;

// A weight and, for each element, a bound of what a kernel adds and subtracts on the way to it:
// |factor| * (|code| + 2 * zero) + |offset| for block formats (kernels/quant/blocks.h), |w| for the others.
struct Weight {
  Tensor tensor;
  std::vector<double> magnitude;
};

// Blocks whose codes and scales are random bits and whose factors are ordinary numbers.
void random_block(Random& random, const blocks::BlockFormat& format, std::byte* block, double* magnitude) {
  for (int i = 0; i < format.bytes; ++i) block[i] = static_cast<std::byte>(random());
  blocks::Fields f{};
  format.read(block, f);
  std::uniform_real_distribution<float> factor(-0.1f, 0.1f);
  f.d = f32_to_f16(factor(random));
  f.m = f32_to_f16(factor(random));
  format.write(f, block);
  for (int i = 0; i < format.elements; ++i) {
    const int g = format.group > 0 ? i / format.group : 0;
    double scale = 1, min = format.has_min ? 1 : 0;
    if (format.group > 0) {
      scale = format.packing == blocks::ScalePacking::kQ6K ? static_cast<int8_t>(f.scales[g])
                                                           : f.scales[g] - format.scale_zero;
      if (format.has_min) min = f.mins[g];
    }
    double code = f.codes[i];
    if (format.low_bits == 8) code = static_cast<int8_t>(f.codes[i]);
    if (format.table) code = blocks::kIq4Values[f.codes[i]];
    magnitude[i] =
        std::fabs(f16_to_f32(f.d) * scale) * (std::fabs(code) + 2 * format.zero) + std::fabs(f16_to_f32(f.m) * min);
  }
}

Weight weight(Random& random, DType dtype, Layout layout, int64_t n, int64_t k) {
  const int64_t row = row_bytes(dtype, k);
  std::vector<std::byte> rows(static_cast<size_t>(n * row));
  Weight w{{type(dtype, {n, k}, layout), 0, {}}, std::vector<double>(static_cast<size_t>(n * k))};
  if (const blocks::BlockFormat* format = blocks::find(dtype)) {
    for (int64_t b = 0; b < n * k / format->elements; ++b) {
      random_block(random, *format, rows.data() + b * format->bytes, w.magnitude.data() + b * format->elements);
    }
  } else {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(n * k));
    for (float& v : values) v = normal(random);
    find_format(dtype)->quantize(values.data(), n * k, rows.data());
    find_format(dtype)->dequantize(rows.data(), n * k, values.data());
    for (size_t i = 0; i < values.size(); ++i) w.magnitude[i] = std::fabs(values[i]);
  }
  if (layout == Layout::kX16) {
    w.tensor.bytes.resize(static_cast<size_t>(*tensor_bytes(dtype, layout, n, k)));
    for (int64_t first = 0; first < n; first += kPanelRows) {
      repack_rows_to_x16(dtype, rows.data() + first * row, std::min(kPanelRows, n - first), k,
                         w.tensor.bytes.data() + first * row);
    }
  } else if (layout == Layout::kTile8) {
    const int64_t row_tile = tile8_row_tile_bytes(dtype, k);
    w.tensor.bytes.resize(static_cast<size_t>(*tensor_bytes(dtype, layout, n, k)));
    for (int64_t first = 0; first < n; first += kTile8Rows) {
      repack_rows_to_tile8(dtype, rows.data() + first * row, std::min(kTile8Rows, n - first), k,
                           w.tensor.bytes.data() + first / kTile8Rows * row_tile);
    }
  } else {
    w.tensor.bytes = std::move(rows);
  }
  return w;
}

// What x is for weights of that type and layout.
DType q8a_for(DType dtype, Layout layout) { return layout == Layout::kX16 ? q8a_for_x16(dtype) : DType::kQ8A; }

Tensor tokens(Random& random, int64_t t, int64_t k, DType dtype) {
  Tensor x = floats(random, {Dim(Symbol::kT, t), k});
  if (dtype == DType::kF32) return x;
  Tensor quantized{type(dtype, {Dim(Symbol::kT, t), k}), 0, {}};
  quantized.bytes.resize(static_cast<size_t>(t * q8a_row_bytes(k)));
  for (int64_t i = 0; i < t; ++i) {
    q8a_quantize_row(dtype, reinterpret_cast<const float*>(x.bytes.data()) + i * k, k,
                     quantized.bytes.data() + i * q8a_row_bytes(k));
  }
  return quantized;
}

constexpr double kNormEps = 1e-5;

struct Shape {
  int64_t n, k, t;
  bool bias, slices;
  bool mixed = false;  // gate and up of two types
};

// sum over k of |w| |x|, and the value of the sum, for each token and row.
struct Products {
  std::vector<double> size, value;
};
Products products(const Weight& w, const std::vector<float>& x, int64_t t) {
  const int64_t n = w.tensor.type.dim(0).value, k = w.tensor.type.dim(1).value;
  Products p{std::vector<double>(static_cast<size_t>(t * n)), std::vector<double>(static_cast<size_t>(t * n))};
  std::vector<float> row(static_cast<size_t>(k));
  for (int64_t r = 0; r < n; ++r) {
    dequantize_row(w.tensor.type.dtype, w.tensor.type.layout, w.tensor.bytes.data(), r, k, row.data());
    for (int64_t i = 0; i < t; ++i) {
      double size = 0, value = 0;
      for (int64_t j = 0; j < k; ++j) {
        size += w.magnitude[static_cast<size_t>(r * k + j)] * std::fabs(x[static_cast<size_t>(i * k + j)]);
        value += static_cast<double>(row[static_cast<size_t>(j)]) * x[static_cast<size_t>(i * k + j)];
      }
      p.size[static_cast<size_t>(i * n + r)] = size;
      p.value[static_cast<size_t>(i * n + r)] = value;
    }
  }
  return p;
}

// How far each product may be off where both operands are rounded once more, to a scale for 512 k
// (kernels/cpu/x16_requantized.h): half a step, and for weights, whose scale is that of the largest value that codes of
// the block can make, as much again.
std::vector<double> requantized_slack(const Weight& w, const std::vector<float>& x, int64_t t) {
  const int64_t n = w.tensor.type.dim(0).value, k = w.tensor.type.dim(1).value, blocks = (k + 511) / 512;
  struct Block {
    double step, size;  // largest rounding of an element, sum of |elements|
  };
  const auto blocks_of = [&](const auto& values, double steps) {
    std::vector<Block> all;
    for (size_t row = 0; row < values.size(); row += static_cast<size_t>(k)) {
      for (int64_t b = 0; b < k; b += 512) {
        Block block = {};
        for (int64_t i = b; i < std::min(b + 512, k); ++i) {
          const double size = std::fabs(values[row + static_cast<size_t>(i)]);
          block.step = std::max(block.step, steps * size / 127), block.size += size;
        }
        all.push_back(block);
      }
    }
    return all;
  };
  const std::vector<Block> weights = blocks_of(w.magnitude, 1), tokens = blocks_of(x, 0.55);
  std::vector<double> slack(static_cast<size_t>(t * n));
  for (int64_t i = 0; i < t * n; ++i) {
    for (int64_t b = 0; b < blocks; ++b) {
      const Block &of_w = weights[static_cast<size_t>(i % n * blocks + b)],
                  &of_x = tokens[static_cast<size_t>(i / n * blocks + b)];
      const auto k_of_block = static_cast<double>(std::min<int64_t>(512, k - 512 * b));
      slack[static_cast<size_t>(i)] +=
          of_w.step * of_x.size + of_w.size * of_x.step + k_of_block * of_w.step * of_x.step;
    }
  }
  return slack;
}

// Roundings that one addend passes: at most k/8 additions in its lane and a few for lanes, scales, dequantization,
// bias.
double roundings(int64_t k) { return static_cast<double>(k) / 8 + 16; }

// Activations of a case whose kernel makes them q8a itself: what they become, and how far each value may be off where
// kernels norm rows each in their own way.
struct MadeTokens {
  Tensor quantized;
  std::vector<float> slack;  // [T][K]
};

Case make_case(Random& random, LinearForm form, bool q8, DType dtype, Layout layout, const Shape& s,
               std::string_view act = "silu", const MadeTokens* made = nullptr) {
  const std::vector<DType> others = {DType::kQ8_0, q8 ? DType::kQ5_1 : DType::kF16};
  const size_t count = form == kMerged ? 3 : form == kGated ? 2 : 1;
  Case c;
  c.name = std::string(dtype_name(dtype)) + " n=" + std::to_string(s.n) + " k=" + std::to_string(s.k) +
           " t=" + std::to_string(s.t);
  c.in.push_back(made != nullptr ? made->quantized
                                 : tokens(random, s.t, s.k, q8 ? q8a_for(dtype, layout) : DType::kF32));
  const std::vector<float> x = read(c.in[0].type, c.in[0].bytes);
  const bool requantized = q8 && layout == Layout::kX16 && s.t >= kRequantizedTokens;
  std::vector<Products> sums;
  std::vector<std::vector<double>> slack, more_slack;
  std::vector<int64_t> rows;
  for (size_t i = 0; i < count; ++i) {
    const bool other = (form == kMerged || s.mixed) && i > 0 && s.k % 32 == 0;
    const DType d = other ? others[i - 1] : dtype;
    rows.push_back(form == kMerged ? s.n + static_cast<int64_t>(7 * i) : s.n);
    const Weight w = weight(random, d, other ? (q8 ? layout : Layout::kRows) : layout, rows.back(), s.k);
    sums.push_back(products(w, x, s.t));
    slack.push_back(made != nullptr ? products(w, made->slack, s.t).size : std::vector<double>(sums[i].size.size()));
    more_slack.push_back(requantized ? requantized_slack(w, x, s.t) : std::vector<double>());
    c.in.push_back(w.tensor);
  }
  int64_t n = 0;
  for (const int64_t r : rows) n += r;
  if (form == kGated) n = s.n;
  if (form == kAdd) c.in.push_back(floats(random, {Dim(Symbol::kT, s.t), n}));
  const size_t first_bias = c.in.size();
  for (size_t i = 0; s.bias && i < count; ++i) c.in.push_back(floats(random, {rows[i]}));
  c.out.push_back(output(type(DType::kF32, {Dim(Symbol::kT, s.t), n})));
  if (form == kMerged) c.attrs.push_back({"parts", static_cast<int64_t>(count)});
  if (form == kGated) c.attrs.push_back({"act", act});
  if (s.slices) {
    c.out[0].row_bytes = 4 * n + 12;
    if (!q8) c.in[0].row_bytes = 4 * s.k + 20;
    if (form == kAdd) c.in[2].row_bytes = 4 * n + 4;
  }

  // Both levels stay within roundings(k) units of the exact sum, hence twice that apart. Where f32 tokens of bf16
  // weights become bf16, each product is off by half a unit of its 8 bits besides.
  const auto bias = [&](size_t part, int64_t r) {
    return s.bias ? read(c.in[first_bias + part].type, c.in[first_bias + part].bytes)[static_cast<size_t>(r)] : 0.0f;
  };
  const auto bounds = [&](bool bf16_tiles, bool twice_rounded) {
    std::vector<double> tolerance(static_cast<size_t>(s.t * n));
    const double unit = 2 * kEps * roundings(s.k);
    for (int64_t t = 0; t < s.t; ++t) {
      int64_t column = 0;
      for (size_t i = 0; i < (form == kGated ? 1 : count); ++i) {
        for (int64_t r = 0; r < rows[i]; ++r, ++column) {
          const auto at = static_cast<size_t>(t * rows[i] + r);
          const auto bound_of = [&](size_t part) {
            const double size = sums[part].size[at];
            const bool rounded = bf16_tiles && !q8 && c.in[1 + part].type.dtype == DType::kBF16;
            return unit * (size + std::fabs(bias(part, r))) + slack[part][at] + (rounded ? 0x1p-8 * size : 0) +
                   (twice_rounded ? more_slack[part][at] : 0);
          };
          double bound = bound_of(i);
          if (form == kGated) {
            const double up_bound = bound_of(1);
            const double gate = sums[0].value[at] + bias(0, r), up = sums[1].value[at] + bias(1, r);
            // |act'| <= 1.2 and |act(x)| <= |x|, or 0.2 below zero; the vector functions are within 64 roundings.
            bound = 1.2 * bound + 64 * kEps * (std::fabs(gate) + 1);
            bound = bound * (std::fabs(up) + up_bound) + up_bound * (std::fabs(gate) + 0.2) +
                    4 * kEps * std::fabs(gate * up);
          }
          if (form == kAdd) bound += 2 * kEps * (sums[i].size[at] + 4);
          tolerance[static_cast<size_t>(t * n + column)] = bound;
        }
      }
    }
    return tolerance;
  };
  c.tolerance.push_back(bounds(false, false));
  if (!q8 && dtype == DType::kBF16) c.tolerance_amx.push_back(bounds(true, false));
  if (requantized) c.tolerance_any.push_back(bounds(false, true));
  return c;
}

template <LinearForm kForm>
std::vector<Case> float_cases(Random& random) {
  std::vector<Case> cases;
  cases.push_back(make_case(random, kForm, false, DType::kF32, Layout::kRows, {5, 12, 3, false, false}));
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    cases.push_back(make_case(random, kForm, false, dtype, Layout::kRows, {1, 32, 1, true, false}));
    cases.push_back(make_case(random, kForm, false, dtype, Layout::kRows, {17, 67, 2, false, true}, "gelu"));
    cases.push_back(make_case(random, kForm, false, dtype, Layout::kRows, {48, 256, 5, true, true}, "gelu_tanh"));
    cases.push_back(make_case(random, kForm, false, dtype, Layout::kRows, {9, 3, 17, false, false}, "relu"));
    cases.push_back(make_case(random, kForm, false, dtype, Layout::kRows, {320, 8, 7, true, false}));
  }
  for (const Format& f : formats()) {
    if (f.kind != FormatKind::kQuantized) continue;
    cases.push_back(make_case(random, kForm, false, f.dtype, Layout::kRows, {5, 2 * f.block_elements, 3, true, false}));
    cases.push_back(make_case(random, kForm, false, f.dtype, Layout::kX16, {19, f.block_elements, 2, false, true}));
  }
  return cases;
}

template <LinearForm kForm>
std::vector<Case> q8_cases(Random& random) {
  std::vector<Case> cases;
  cases.push_back(make_case(random, kForm, true, DType::kQ4_0, Layout::kX16, {5, 32, 3, false, false}));
  for (const Format& f : formats()) {
    if (f.kind != FormatKind::kQuantized) continue;
    const int64_t block = f.block_elements;
    cases.push_back(make_case(random, kForm, true, f.dtype, Layout::kX16, {1, block, 1, true, false}));
    cases.push_back(make_case(random, kForm, true, f.dtype, Layout::kX16, {75, 2 * block, 1, true, false}));
    cases.push_back(make_case(random, kForm, true, f.dtype, Layout::kX16, {17, 3 * block, 3, false, true}, "gelu"));
    cases.push_back(make_case(random, kForm, true, f.dtype, Layout::kX16, {48, 1024, 2, true, false}, "gelu_tanh"));
    cases.push_back(make_case(random, kForm, true, f.dtype, Layout::kX16, {5, 2 * block, 17, true, true}, "relu"));
    cases.push_back(make_case(random, kForm, true, f.dtype, Layout::kX16, {320, block, 5, false, false}));
    cases.push_back(make_case(random, kForm, true, f.dtype, Layout::kX16, {19, 11 * 256, 37, true, false}));
    const int64_t many = linear_tile_chunk(block) + 57;
    cases.push_back(make_case(random, kForm, true, f.dtype, Layout::kX16, {3, block, many, false, true}));
    cases.push_back(make_case(random, kForm, true, f.dtype, Layout::kTile8, {13, 3 * block, 3, true, false}));
  }
  // For tiles: several groups of panels, whose k has two parts, and one tile of tokens behind two.
  for (const DType dtype : {DType::kQ5_1, DType::kQ2_K, DType::kQ5_K, DType::kQ6_K}) {
    const Shape s = {kRequantizedPanels * 16 + 3, kTilePart + 256, 2 * kTileTokens + 17, false, false, kForm == kGated};
    cases.push_back(make_case(random, kForm, true, dtype, Layout::kX16, s));
  }
  // ... and of less k than a block of 256.
  cases.push_back(
      make_case(random, kForm, true, DType::kQ8_0, Layout::kX16, {kRequantizedPanels * 16 + 3, 64, 81, false, false}));
  return cases;
}

// Tokens as `quantize`, or rms_norm with `norm` before it, make them of x. Each code of a normed row may be one off.
MadeTokens make_tokens(const Tensor& x, const Tensor* norm) {
  const int64_t t = x.type.dim(0).value, k = x.type.last().value;
  std::vector<float> values = read(x.type, x.bytes);
  const std::vector<float> w = norm != nullptr ? read(norm->type, norm->bytes) : std::vector<float>();
  MadeTokens made{{type(DType::kQ8A, {Dim(Symbol::kT, t), k}), 0, {}}, std::vector<float>(values.size())};
  made.quantized.bytes.resize(static_cast<size_t>(t * q8a_row_bytes(k)));
  for (int64_t i = 0; i < t; ++i) {
    float* row = values.data() + i * k;
    double squares = 0;
    for (int64_t j = 0; j < k; ++j) squares += static_cast<double>(row[j]) * row[j];
    const double factor = 1 / std::sqrt(squares / static_cast<double>(k) + kNormEps);
    for (int64_t j = 0; norm != nullptr && j < k; ++j) {
      row[j] = static_cast<float>(row[j] * factor * w[static_cast<size_t>(j)]);
    }
    std::byte* quantized = made.quantized.bytes.data() + i * q8a_row_bytes(k);
    q8a_quantize_row(DType::kQ8A, row, k, quantized);
    for (int64_t j = 0; norm != nullptr && j < k; ++j) {
      made.slack[static_cast<size_t>(i * k + j)] = 1.01f * q8a_row(quantized, k).scales[j / kQ8aGroup];
    }
  }
  return made;
}

// The output as q8a: a code more or less, and a scale that follows from the largest value of 32.
void quantize_output(Case& c) {
  c.out[0].type.dtype = DType::kQ8A;
  c.out[0].row_bytes = 0;
  const Outputs exact = run(*find_kernel("norm_gated_linear_quantize"), Isa::kScalar, c, 1);
  const std::vector<float> y = read(c.out[0].type, exact[0]);
  std::vector<double>& bound = c.tolerance[0];
  for (size_t first = 0; first < y.size(); first += kQ8aGroup) {
    double largest = 0;
    for (size_t i = first; i < first + kQ8aGroup; ++i) largest = std::max(largest, std::fabs(y[i]) + bound[i]);
    for (size_t i = first; i < first + kQ8aGroup; ++i) bound[i] = 2 * bound[i] + 1.02 * largest / 127;
  }
}

Case quantizing_case(Random& random, LinearForm form, bool norm, bool to_q8a, DType dtype, Layout layout,
                     const Shape& s, std::string_view act = "silu") {
  Tensor x = floats(random, {Dim(Symbol::kT, s.t), s.k});
  const Tensor weights = floats(random, {s.k});
  const MadeTokens made = make_tokens(x, norm ? &weights : nullptr);
  Case c = make_case(random, form, true, dtype, layout, s, act, &made);
  if (s.slices) x.row_bytes = 4 * s.k + 20;
  c.in[0] = x;
  if (norm) {
    c.in.insert(c.in.begin() + 1, weights);
    c.attrs.push_back({"eps", kNormEps});
  }
  if (to_q8a) quantize_output(c);
  return c;
}

template <LinearForm kForm, bool kNorm, bool kToQ8A = false>
std::vector<Case> quantizing_cases(Random& random) {
  const auto make = [&](DType dtype, Layout layout, const Shape& s, std::string_view act = "silu") {
    return quantizing_case(random, kForm, kNorm, kToQ8A, dtype, layout, s, act);
  };
  std::vector<Case> cases = {make(DType::kQ4_0, Layout::kX16, {32, 32, 2, false, false})};
  cases.push_back(make(DType::kQ8_0, Layout::kTile8, {64, 32, 1, false, false}));
  cases.push_back(make(DType::kQ4_0, Layout::kTile8, {kToQ8A ? 96 : 77, 1056, 2, true, !kToQ8A}, "gelu"));
  cases.push_back(make(DType::kQ5_1, Layout::kTile8, {kToQ8A ? 160 : 133, 512, 1, false, !kToQ8A}, "relu"));
  for (const DType dtype : {DType::kQ4_K, DType::kQ6_K, DType::kQ2_K, DType::kIQ4_XS}) {
    cases.push_back(make(dtype, Layout::kTile8, {kToQ8A ? 32 : 13, 768, 2, true, false}, "gelu_tanh"));
  }
  cases.push_back(make(DType::kQ4_K, Layout::kTile8, {64, 2304, 1, false, false}));
  return cases;
}

std::vector<Case> embed_cases(Random& random) {
  std::vector<Case> cases;
  for (const Format& f : formats()) {
    if (!is_weight_dtype(f.dtype)) continue;
    for (const Layout layout : {Layout::kRows, Layout::kX16, Layout::kTile8}) {
      if (!has_layout(f.dtype, layout)) continue;
      const int64_t d = f.block_elements == 1 ? 37 : 2 * f.block_elements, v = 21;
      const std::vector<int32_t> ids = {20, 0, 16, 15, 3, 20, 7};
      Case c;
      c.name = std::string(f.name) + " " + std::string(layout_name(layout));
      c.in = {weight(random, f.dtype, layout, v, d).tensor, ints({Dim(Symbol::kT, std::ssize(ids))}, ids)};
      c.out = {output(type(DType::kF32, {Dim(Symbol::kT, std::ssize(ids)), d}))};
      if (layout == Layout::kX16) c.out[0].row_bytes = 4 * d + 4;
      cases.push_back(std::move(c));
    }
  }
  return cases;
}

}  // namespace

std::vector<CaseList> linear_cases() {
  return {{"linear", float_cases<kLinear>, {}},
          {"merged_linear", float_cases<kMerged>, {}},
          {"gated_linear", float_cases<kGated>, {}},
          {"linear_add", float_cases<kAdd>, {}},
          {"linear_q8", q8_cases<kLinear>, {}},
          {"merged_linear_q8", q8_cases<kMerged>, {}},
          {"gated_linear_q8", q8_cases<kGated>, {}},
          {"linear_add_q8", q8_cases<kAdd>, {}},
          {"norm_linear", quantizing_cases<kLinear, true>, {}},
          {"norm_merged_linear", quantizing_cases<kMerged, true>, {}},
          {"norm_gated_linear", quantizing_cases<kGated, true>, {}},
          {"norm_gated_linear_quantize", quantizing_cases<kGated, true, true>, {}},
          {"quantize_linear", quantizing_cases<kLinear, false>, {}},
          {"quantize_linear_add", quantizing_cases<kAdd, false>, {}},
          {"embed", embed_cases, {{0, 0}}}};
}

}  // namespace ll::numerics
