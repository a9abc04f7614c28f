// Cases of the kernels that kernels/ref/ref.h declares, for the numerics suite. Tolerances follow from the operands: u
// below is the unit roundoff of f32, and each bound counts the roundings of the worst level plus the reference's one.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/kv_layout.h"
#include "kernels/numerics.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"
#include "kernels/quant/tile8.h"
#include "kernels/rope.h"
#include "kernels/shortlist.h"

namespace ll::numerics {
namespace {

constexpr double u = kEps;

Dim tokens(int64_t n) { return Dim(Symbol::kT, n); }

// Makes an f32 operand a slice of wider rows.
Tensor slice(Tensor t, int64_t extra_floats) {
  t.row_bytes = dense_row_bytes(t.type) + 4 * extra_floats;
  return t;
}

std::vector<float> values(const Tensor& t) { return read(t.type, t.bytes); }

std::vector<int32_t> sequence_of(int64_t count, int32_t from) {
  std::vector<int32_t> v(static_cast<size_t>(count));
  std::iota(v.begin(), v.end(), from);
  return v;
}

std::vector<Case> elementwise(Random& random) {
  std::vector<Case> cases;
  for (const auto& [t, d] : {std::pair{3, 8}, {1, 1}, {5, 33}, {2, 1000}}) {
    const Dim n = tokens(t);
    Case c{fmt::format("T={} D={}", t, d), {floats(random, {n, d}), floats(random, {n, d})}, {}, {}, {}, {}};
    c.out = {output(c.in[0].type)};
    cases.push_back(c);
    c.name += " sliced";
    c.in[1] = slice(c.in[1], 7);
    cases.push_back(c);
  }
  return cases;
}

// Special values too: the activations must not turn infinities into surprises or touch neighbours.
std::vector<Case> activation(Random& random) {
  std::vector<Case> cases;
  for (const std::string_view act : {"silu", "gelu", "gelu_tanh", "relu"}) {
    for (const auto& [t, d] : {std::pair{3, 8}, {1, 1}, {2, 77}, {4, 640}}) {
      Tensor x = floats(random, {tokens(t), d}, 6);
      const std::vector<float> xs = values(x);
      std::vector<double> bound, bound_cuda;
      for (const float v : xs) {
        // The exponent z carries 4 roundings, each worth |z| of e^z; then e^z (2u), +1, a division and the reference's
        // own.
        const double z = act == "silu" ? v : 1.6 * v * (1 + 0.045 * v * v);
        const double y = std::fabs(v) / (1 + std::exp(-z));
        // 1 + tanh cancels in the reference.
        bound.push_back(act == "silu"        ? u * y * (10 + 4 * std::fabs(z)) + 1e-35
                        : act == "gelu_tanh" ? u * (y * (10 + 8 * std::fabs(z)) + 4 * std::fabs(v))
                                             : 0);
        // erf by a polynomial of error 1.5e-7 and a few roundings of terms up to 1.5.
        bound_cuda.push_back(act == "gelu" ? std::fabs(v) * (0.8e-7 + 8 * u) : bound.back());
      }
      Case c{fmt::format("{} T={} D={}", act, t, d), {slice(x, 3)}, {output(x.type)}, {{"act", act}}, {}, {bound}};
      c.tolerance_cuda = {bound_cuda};
      cases.push_back(c);
    }
  }
  return cases;
}

// Relative error of a norm: half of the sum's (size / 32 + 8 roundings), the factor's, and two products.
double norm_error(int64_t size) { return u * ((static_cast<double>(size) / 32 + 8) / 2 + 5); }

std::vector<double> normed(const Tensor& x, const Tensor& w, double eps) {
  const std::vector<float> xs = values(x), ws = values(w);
  std::vector<double> y(xs.size());
  for (size_t t = 0; t < xs.size(); t += ws.size()) {
    double squares = 0;
    for (size_t d = 0; d < ws.size(); ++d) squares += static_cast<double>(xs[t + d]) * xs[t + d];
    const double factor = 1 / std::sqrt(squares / static_cast<double>(ws.size()) + eps);
    for (size_t d = 0; d < ws.size(); ++d) y[t + d] = xs[t + d] * factor * ws[d];
  }
  return y;
}

std::vector<Case> rms_norm(Random& random) {
  std::vector<Case> cases;
  for (const auto& [t, d] : {std::pair{3, 8}, {1, 1}, {5, 33}, {2, 320}, {7, 100}, {2, 4096}}) {
    const Dim n = tokens(t);
    Case c{
        fmt::format("T={} D={}", t, d), {floats(random, {n, d}, 3), floats(random, {d})}, {}, {{"eps", 1e-5}}, {}, {}};
    c.out = {output(c.in[0].type)};
    std::vector<double> bound = normed(c.in[0], c.in[1], 1e-5);
    for (double& b : bound) b = std::fabs(b) * norm_error(d);
    c.tolerance = {bound};
    c.in[0] = slice(c.in[0], 5);
    cases.push_back(c);
  }
  return cases;
}

struct Quantized {
  DType dtype;
  int64_t tokens, columns;
};
constexpr Quantized kQuantized[] = {{DType::kQ8A, 3, 32},   {DType::kQ8A, 1, 64},     {DType::kQ8A, 5, 320},
                                    {DType::kQ8A, 2, 4096}, {DType::kQ8A256, 3, 256}, {DType::kQ8A256, 2, 1280}};

std::vector<Case> quantize(Random& random) {
  std::vector<Case> cases;
  for (const auto& [dtype, t, d] : kQuantized) {
    Case c{fmt::format("{} T={} K={}", dtype_name(dtype), t, d), {floats(random, {tokens(t), d})}, {}, {}, {}, {}};
    c.out = {output(type(dtype, {tokens(t), d}))};
    cases.push_back(c);
    // Blocks of zeros, of tiny values, with an infinity, with a NaN.
    const float special[] = {0.0f, 1e-33f, INFINITY, NAN};
    for (size_t i = 0; i < 4 && 32 * i < c.in[0].bytes.size() / 4; ++i) {
      for (size_t j = 0; j < (i < 2 ? 32u : 1u); ++j)
        std::memcpy(c.in[0].bytes.data() + 128 * i + 4 * j, &special[i], 4);
    }
    c.name += " special";
    c.in[0] = slice(c.in[0], 1);
    cases.push_back(c);
  }
  return cases;
}

std::vector<Case> norm_quantize(Random& random) {
  std::vector<Case> cases;
  for (const auto& [dtype, t, d] : kQuantized) {
    const Dim n = tokens(t);
    Case c{fmt::format("{} T={} K={}", dtype_name(dtype), t, d),
           {floats(random, {n, d}, 3), floats(random, {d})},
           {},
           {{"eps", 1e-5}},
           {},
           {}};
    c.out = {output(type(dtype, {n, d}))};
    const auto block = static_cast<size_t>(q8a_block(dtype));
    // The scale moves by the norm's error, and a value on the edge between two codes may take the other one.
    const std::vector<double> y = normed(c.in[0], c.in[1], 1e-5);
    std::vector<double> bound(y.size());
    for (size_t i = 0; i < y.size(); i += block) {
      double largest = 0;
      for (size_t j = i; j < i + block; ++j) largest = std::max(largest, std::fabs(y[j]));
      for (size_t j = i; j < i + block; ++j) bound[j] = largest * (1.0 / 127 + 3 * norm_error(d));
    }
    c.tolerance = {bound};
    cases.push_back(c);
  }
  return cases;
}

struct Rotation {
  int64_t heads, head_dim, pairs;
  std::string_view style;
  double mscale;
};
constexpr Rotation kRotations[] = {{2, 8, 4, "half", 1.0},          {2, 8, 4, "interleaved", 1.0},
                                   {3, 33, 16, "half", 1.25},       {3, 33, 11, "interleaved", 1.25},
                                   {4, 64, 32, "half", 1.0},        {4, 80, 20, "half", 1.0},
                                   {5, 128, 64, "interleaved", 0.5}};

Tensor frequencies(int64_t pairs) {
  std::vector<float> f(static_cast<size_t>(pairs));
  for (size_t i = 0; i < f.size(); ++i) {
    f[i] = static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(pairs)));
  }
  Tensor t{type(DType::kF32, {Dim(pairs)}), 0, {}};
  t.bytes.assign(std::as_bytes(std::span(f)).begin(), std::as_bytes(std::span(f)).end());
  return t;
}

// 3 u (|x0 c| + |x1 s|) <= 3 u |mscale| (|x0| + |x1|): two products and a sum, at most two roundings each side. No
// error for what is copied. `width` values a token, of which the first `rotated` heads turn.
std::vector<double> rotation_bound(const std::vector<float>& x, int64_t width, int64_t rotated, const Rotation& r) {
  std::vector<double> bound(x.size(), 0.0);
  for (int64_t t = 0; t < std::ssize(x); t += width) {
    for (int64_t h = 0; h < rotated; ++h) {
      for (int64_t i = 0; i < r.pairs; ++i) {
        const int64_t start = t + h * r.head_dim;
        const int64_t a = start + (r.style == "half" ? i : 2 * i), b = r.style == "half" ? a + r.pairs : a + 1;
        bound[static_cast<size_t>(a)] = bound[static_cast<size_t>(b)] =
            3 * u * r.mscale * (std::fabs(x[static_cast<size_t>(a)]) + std::fabs(x[static_cast<size_t>(b)]));
      }
    }
  }
  return bound;
}

std::vector<Case> rope(Random& random) {
  std::vector<Case> cases;
  for (const Rotation& r : kRotations) {
    for (const int64_t t : {3, 1, 10}) {
      Tensor x = floats(random, {tokens(t), r.heads * r.head_dim});
      std::vector<int32_t> positions = sequence_of(t, 5);
      positions.back() = t == 10 ? INT32_MAX : 100000;
      Case c{fmt::format("T={} heads={} head_dim={} pairs={} {}", t, r.heads, r.head_dim, r.pairs, r.style),
             {slice(x, 9), ints({tokens(t)}, positions), frequencies(r.pairs)},
             {output(x.type)},
             {{"head_dim", r.head_dim}, {"style", r.style}, {"mscale", r.mscale}},
             {},
             {rotation_bound(values(x), r.heads * r.head_dim, r.heads, r)}};
      cases.push_back(c);
    }
  }
  return cases;
}

Tensor cache(DType dtype, int64_t pages, int64_t kv_heads, int64_t head_dim) {
  Tensor kv{type(dtype, {Dim(pages), Dim(2 * kv_heads), Dim(kKvPageSize), Dim(head_dim)}), 0, {}};
  kv.bytes.assign(static_cast<size_t>(pages * kv_page_bytes(dtype, 2 * kv_heads, head_dim)), std::byte{0xff});
  return kv;
}

// Distinct slots in no order.
std::vector<int32_t> shuffled_slots(Random& random, int64_t pages, int64_t count) {
  std::vector<int32_t> slots = sequence_of(pages * kKvPageSize, 0);
  std::shuffle(slots.begin(), slots.end(), random);
  slots.resize(static_cast<size_t>(count));
  return slots;
}

constexpr DType kKvTypes[] = {DType::kF32, DType::kF16, DType::kI8};

std::vector<Case> kv_write(Random& random) {
  std::vector<Case> cases;
  for (const DType dtype : kKvTypes) {
    struct Size {
      int64_t t, heads, head_dim;
    };
    for (const auto& [t, heads, head_dim] :
         std::initializer_list<Size>{{3, 2, 8}, {1, 1, 1}, {40, 2, 33}, {5, 3, 64}, {2, 1, 100}}) {
      const Dim n = tokens(t);
      Case c{fmt::format("kv dtype {} T={} heads={} head_dim={}", static_cast<int>(dtype), t, heads, head_dim),
             {cache(dtype, 3, heads, head_dim), slice(floats(random, {n, heads * head_dim}, 4), 2),
              floats(random, {n, heads * head_dim}), ints({n}, shuffled_slots(random, 3, t))},
             {},
             {},
             {0},
             {}};
      // A head of zeros and one that holds an infinity, where there is room.
      std::fill_n(c.in[1].bytes.begin(), 4 * head_dim, std::byte{0});
      const float infinity = INFINITY;
      if (t > 2) std::memcpy(c.in[2].bytes.data() + 4 * heads * head_dim, &infinity, 4);
      c.out = {output(c.in[0].type)};
      cases.push_back(c);
    }
  }
  return cases;
}

std::vector<Case> rope_kv_write(Random& random) {
  std::vector<Case> cases;
  const auto add = [&](DType dtype, const Rotation& r, int64_t t) {
    const int64_t kv_heads = r.heads % 2 == 0 ? 2 : 1, all = r.heads + 2 * kv_heads, pages = t / kKvPageSize + 3;
    const Dim n = tokens(t);
    Tensor qkv = floats(random, {n, all * r.head_dim});
    const std::vector<int32_t> slots = shuffled_slots(random, pages, t);
    Case c{fmt::format("kv dtype {} heads={}/{} head_dim={} pairs={} {}", static_cast<int>(dtype), r.heads, kv_heads,
                       r.head_dim, r.pairs, r.style),
           {cache(dtype, pages, kv_heads, r.head_dim), qkv, ints({n}, sequence_of(t, 1000)), ints({n}, slots),
            frequencies(r.pairs)},
           {output(type(DType::kF32, {n, r.heads * r.head_dim}))},
           {{"heads", r.heads},
            {"kv_heads", kv_heads},
            {"head_dim", r.head_dim},
            {"style", r.style},
            {"mscale", r.mscale}},
           {-1, 0},
           {}};
    c.out.push_back(output(c.in[0].type));

    const std::vector<float> x = values(qkv);
    const int64_t width = all * r.head_dim, q_width = r.heads * r.head_dim;
    const std::vector<double> rotated = rotation_bound(x, width, r.heads + kv_heads, r);
    std::vector<double> q_bound, kv_bound(static_cast<size_t>(pages * 2 * kv_heads * kKvPageSize * r.head_dim), 0.0);
    for (int64_t i = 0; i < t; ++i) {
      const auto row = rotated.begin() + i * width;
      q_bound.insert(q_bound.end(), row, row + q_width);
      for (int64_t h = 0; h < kv_heads; ++h) {
        double largest = 0;
        for (int64_t d = 0; d < r.head_dim; ++d) {
          largest =
              std::max<double>(largest, std::fabs(x[static_cast<size_t>(i * width + q_width + h * r.head_dim + d)]));
        }
        largest *= std::sqrt(2.0) * std::max(1.0, r.mscale);
        const int64_t at = kv_row_offset(1, 2 * kv_heads, slots[static_cast<size_t>(i)], h) * r.head_dim;
        for (int64_t d = 0; d < r.head_dim; ++d) {
          const double b = row[q_width + h * r.head_dim + d];
          // A rounding to f16 or to a code may fall to the other side: one step of the format.
          kv_bound[static_cast<size_t>(at + d)] = dtype == DType::kF32   ? b
                                                  : dtype == DType::kF16 ? b + largest * 0x1p-10
                                                                         : 4 * b + largest / 127;
        }
      }
    }
    c.tolerance = {q_bound, kv_bound};
    cases.push_back(c);
  };
  for (const DType dtype : kKvTypes) {
    for (const Rotation& r : kRotations) add(dtype, r, 5);
  }
  // A megabyte of q for each of two threads: past the caches.
  for (const char* style : {"half", "interleaved"}) add(DType::kF16, {32, 64, 32, style, 1.0}, 260);
  return cases;
}

std::vector<Case> gather_rows(Random& random) {
  std::vector<Case> cases;
  for (const auto& [t, d] : {std::pair{6, 8}, {9, 33}}) {
    const std::vector<int32_t> rows = {0, 3, 5};
    Case c{fmt::format("T={} D={}", t, d),
           {slice(floats(random, {tokens(t), d}), 1), ints({Dim(Symbol::kR, 3)}, rows)},
           {},
           {},
           {},
           {}};
    c.out = {output(type(DType::kF32, {Dim(Symbol::kR, 3), d}))};
    cases.push_back(c);
  }
  return cases;
}

// One row of logits of each kind that decides something.
std::vector<float> logits_of(Random& random, size_t kind, int64_t vocab) {
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> row(static_cast<size_t>(vocab));
  const auto at = [&](uint64_t place) -> float& { return row[place % row.size()]; };
  for (size_t i = 0; i < row.size(); ++i) {
    const float n = normal(random), place = static_cast<float>(i) / 64;
    const float values[] = {n,
                            1.5F,
                            std::round(n),
                            random() % 50 == 0 ? n : -INFINITY,
                            -INFINITY,
                            place,
                            -place,
                            random() % 2 == 0 ? 0.0F : -0.0F,
                            std::min(n, -1.0F)};
    row[i] = values[kind < std::size(values) ? kind : 0];
  }
  // The likeliest last, ties with it far apart, and what makes no distribution.
  if (kind == 8) at(row.size() - 1) = at(0) = at(row.size() / 2) = 30;
  if (kind == 9) at(random()) = NAN;
  if (kind == 10) at(random()) = -NAN, at(7) = INFINITY;
  if (kind == 11) at(random()) = INFINITY;
  return row;
}
constexpr size_t kLogitsKinds = 12;

std::vector<Case> shortlist(Random& random) {
  std::vector<Case> cases;
  const std::vector<float> asked = {1, 0.6F, 4, 1e30F, 1e-3F, 1.25F, 2}, unasked = {0, NAN, INFINITY, -1, 1};
  const auto add = [&](int64_t vocab, const std::vector<size_t>& kinds, const std::vector<float>& scales,
                       int64_t extra = 0) {
    const Dim rows(Symbol::kR, static_cast<int64_t>(kinds.size()));
    Tensor x{type(DType::kF32, {rows, vocab}), 0, {}}, inverse{type(DType::kF32, {rows}), 0, {}};
    std::vector<double> bound;
    for (size_t r = 0; r < kinds.size(); ++r) {
      const std::vector<float> row = logits_of(random, kinds[r], vocab);
      const float scale = scales[r % scales.size()];
      for (const auto& [values, to] : {std::pair<std::span<const float>, Tensor*>{row, &x}, {{&scale, 1}, &inverse}}) {
        to->bytes.insert(to->bytes.end(), std::as_bytes(values).begin(), std::as_bytes(values).end());
      }
      // Ids and logits are exact. A term of a sum carries 4 roundings of its exponent, each worth as much as the
      // exponent itself, two functions of 6 u and the 40 additions on its way; below e^-87 it is dropped.
      std::vector<double> words(kShortlistWords, 0);
      const double largest = *std::max_element(row.begin(), row.end());
      for (const auto& [word, factor] :
           {std::pair{kShortlistSum, static_cast<double>(scale)}, {kShortlistSumAtOne, 1}}) {
        double error = static_cast<double>(vocab) * 1e-37;
        for (const float l : row) {
          const double below = (largest - l) * factor, term = std::exp(-below);
          if (term > 0) error += u * term * (60 + 4 * below);
        }
        words[static_cast<size_t>(word)] = std::isfinite(error) ? error : 0;
      }
      bound.insert(bound.end(), words.begin(), words.end());
    }
    Case c{fmt::format("R={} V={} {} apart", kinds.size(), vocab, vocab + extra),
           {extra > 0 ? slice(x, extra) : x, inverse},
           {output(type(DType::kF32, {rows, kShortlistWords}))},
           {},
           {},
           {bound}};
    cases.push_back(c);
  };
  std::vector<size_t> all(kLogitsKinds);
  std::iota(all.begin(), all.end(), 0);
  add(5, {0, 1, 3}, asked);
  for (const int64_t vocab : {1, 63, 64, 65, 1000}) add(vocab, all, asked);
  add(100, {0, 9, 1, 2, 3}, unasked);
  add(1000, {0, 2, 9}, asked, 1);
  add(4096, all, asked);
  add(4099, all, {0.9F, 1});
  add(32000, {0, 1, 8, 2, 5, 6}, asked);
  add(128256, {0, 1}, asked);
  return cases;
}

// A quantized weight in kTile8.
Tensor tile8_weight(Random& random, DType dtype, int64_t n, int64_t k) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n * k));
  for (float& v : values) v = std::clamp(normal(random), -4.0f, 4.0f);
  std::vector<std::byte> rows(static_cast<size_t>(n * row_bytes(dtype, k)));
  find_format(dtype)->quantize(values.data(), n * k, rows.data());
  Tensor w{type(dtype, {n, k}, Layout::kTile8), 0, {}};
  w.bytes.resize(static_cast<size_t>(*tensor_bytes(dtype, Layout::kTile8, n, k)));
  for (int64_t r = 0; r < n; r += kTile8Rows) {
    repack_rows_to_tile8(dtype, rows.data() + r * row_bytes(dtype, k), std::min(kTile8Rows, n - r), k,
                         w.bytes.data() + r / kTile8Rows * tile8_row_tile_bytes(dtype, k));
  }
  return w;
}

// The values of x are whole numbers, the largest of each 32 is 127 and the norm's weights are 1: whatever rounding a
// kernel norms with, the codes are those numbers. So a product is off by its scales' and its sum's roundings alone.
Case norm_qkv_case(Random& random, DType dtype, const Rotation& r, DType weights, int64_t k, int64_t t, bool biases) {
  const int64_t kv_heads = r.heads % 2 == 0 ? 2 : 1, all = r.heads + 2 * kv_heads, pages = 3;
  const Dim n = tokens(t);
  std::vector<float> x(static_cast<size_t>(t * k));
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = i % 32 == 7 ? 127.0f : static_cast<float>(static_cast<int>(random() % 255) - 127);
  }
  Tensor input{type(DType::kF32, {n, k}), 0, {}}, norm{type(DType::kF32, {k}), 0, {}};
  input.bytes.assign(std::as_bytes(std::span(x)).begin(), std::as_bytes(std::span(x)).end());
  const std::vector<float> ones(static_cast<size_t>(k), 1.0f);
  norm.bytes.assign(std::as_bytes(std::span(ones)).begin(), std::as_bytes(std::span(ones)).end());
  const std::vector<int32_t> slots = shuffled_slots(random, pages, t);
  Case c{fmt::format("kv dtype {} weights {} k={} T={} heads={}/{} head_dim={} {}", static_cast<int>(dtype),
                     static_cast<int>(weights), k, t, r.heads, kv_heads, r.head_dim, r.style),
         {input, norm, tile8_weight(random, weights, r.heads * r.head_dim, k),
          tile8_weight(random, weights, kv_heads * r.head_dim, k),
          tile8_weight(random, DType::kQ8_0, kv_heads * r.head_dim, k), cache(dtype, pages, kv_heads, r.head_dim),
          ints({n}, sequence_of(t, 1000)), ints({n}, slots), frequencies(r.pairs)},
         {output(type(DType::kF32, {n, r.heads * r.head_dim}))},
         {{"eps", 1e-5},
          {"heads", r.heads},
          {"kv_heads", kv_heads},
          {"head_dim", r.head_dim},
          {"style", r.style},
          {"mscale", r.mscale}},
         {-1, 5},
         {}};
  for (const size_t w : {2, 3, 4}) {
    if (biases) c.in.push_back(floats(random, {c.in[w].type.dim(0).value}));
  }
  c.out.push_back(output(c.in[5].type));

  Case product{"", {c.in.begin(), c.in.begin() + 5}, {}, {{"eps", 1e-5}, {"parts", int64_t{3}}}, {}, {}};
  product.in.insert(product.in.end(), c.in.begin() + 9, c.in.end());
  const int64_t width = all * r.head_dim, q_width = r.heads * r.head_dim;
  product.out.push_back(output(type(DType::kF32, {n, width})));
  const Outputs rows = run(*find_kernel("norm_merged_linear"), Isa::kScalar, product, 1);
  const std::vector<float> qkv = read(product.out[0].type, rows[0]);
  // No normed value is above sqrt(32), as one in 32 is the largest; a weight's parts are below four times its value.
  const double of_product = 2 * u * (static_cast<double>(k) / 8 + 16) * static_cast<double>(k) * 4 * 4 * 5.7;
  std::vector<double> bound = rotation_bound(qkv, width, r.heads + kv_heads, r);
  for (double& b : bound) b += 2 * std::max(1.0, r.mscale) * of_product;
  std::vector<double> q_bound, kv_bound(static_cast<size_t>(pages * 2 * kv_heads * kKvPageSize * r.head_dim), 0.0);
  for (int64_t i = 0; i < t; ++i) {
    const auto row = bound.begin() + i * width;
    q_bound.insert(q_bound.end(), row, row + q_width);
    for (int64_t h = 0; h < 2 * kv_heads; ++h) {
      double largest = 0;
      for (int64_t d = 0; d < r.head_dim; ++d) {
        largest =
            std::max<double>(largest, std::fabs(qkv[static_cast<size_t>(i * width + q_width + h * r.head_dim + d)]));
      }
      largest = largest * std::sqrt(2.0) * std::max(1.0, r.mscale) + of_product;
      const int64_t at = kv_row_offset(1, 2 * kv_heads, slots[static_cast<size_t>(i)], h) * r.head_dim;
      for (int64_t d = 0; d < r.head_dim; ++d) {
        const double b = row[q_width + h * r.head_dim + d];
        kv_bound[static_cast<size_t>(at + d)] = dtype == DType::kF32   ? b
                                                : dtype == DType::kF16 ? b + largest * 0x1p-10
                                                                       : 4 * b + largest / 127;
      }
    }
  }
  c.tolerance = {q_bound, kv_bound};
  return c;
}

std::vector<Case> norm_qkv_rope_kv_write(Random& random) {
  std::vector<Case> cases = {norm_qkv_case(random, DType::kF32, kRotations[0], DType::kQ4_0, 64, 2, false)};
  for (const DType dtype : kKvTypes) {
    cases.push_back(norm_qkv_case(random, dtype, kRotations[4], DType::kQ4_K, 512, 1, true));
    cases.push_back(norm_qkv_case(random, dtype, kRotations[5], DType::kQ8_0, 96, 3, false));
    cases.push_back(norm_qkv_case(random, dtype, kRotations[6], DType::kQ6_K, 256, 2, false));
  }
  cases.push_back(norm_qkv_case(random, DType::kF16, kRotations[2], DType::kQ8_0, 64, 2, true));
  return cases;
}

// Sequences of a step: how long each is after it, and how many of its last tokens are queries.
struct Sequence {
  int64_t length, queries;
};
struct AttentionShape {
  DType dtype;
  int64_t heads, kv_heads, head_dim, window;
  std::vector<Sequence> sequences;
};

Case attention_case(Random& random, const AttentionShape& shape) {
  const auto& [dtype, heads, kv_heads, head_dim, window, sequences] = shape;
  int64_t columns = 5;
  for (const Sequence& s : sequences) columns = std::max(columns, (s.length + kKvPageSize - 1) / kKvPageSize);
  const int64_t count = std::ssize(sequences), pages = columns * count + 1;
  Case c;
  c.name = fmt::format("kv dtype {} heads={}/{} head_dim={} window={} sequences", static_cast<int>(dtype), heads,
                       kv_heads, head_dim, window);

  // Pages in no order; whatever no sequence uses stays NaN.
  std::vector<int32_t> free_pages = sequence_of(pages, 0);
  std::shuffle(free_pages.begin(), free_pages.end(), random);
  Tensor kv = cache(dtype, pages, kv_heads, head_dim);
  std::vector<int32_t> table(static_cast<size_t>(columns * count), 0), positions, owners;
  std::normal_distribution<float> normal;
  std::vector<float> row(static_cast<size_t>(head_dim));
  for (int64_t s = 0; s < count; ++s) {
    const Sequence& sequence = sequences[static_cast<size_t>(s)];
    c.name += fmt::format(" {}of{}", sequence.queries, sequence.length);
    for (int64_t j = 0; j < sequence.length; ++j) {
      int32_t& page = table[static_cast<size_t>(s * columns + j / kKvPageSize)];
      if (j % kKvPageSize == 0) page = free_pages.back(), free_pages.pop_back();
      for (const KvPart part : {KvPart::kKeys, KvPart::kValues}) {
        for (int64_t head = 0; head < kv_heads; ++head) {
          for (float& v : row) v = normal(random);
          const int64_t slot = int64_t{page} * kKvPageSize, bytes = kv_row_bytes(dtype, head_dim);
          kv_store(dtype, row.data(), head_dim, part,
                   kv.bytes.data() + kv_plane_offset(bytes, 2 * kv_heads, slot, part, head), j % kKvPageSize);
        }
      }
    }
    for (int64_t j = sequence.length - sequence.queries; j < sequence.length; ++j) {
      positions.push_back(static_cast<int32_t>(j));
      owners.push_back(static_cast<int32_t>(s));
    }
  }
  const int64_t t = std::ssize(positions);
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  const Tensor q = floats(random, {tokens(t), heads * head_dim}, 2);
  c.in = {slice(q, 3), kv, ints({tokens(t)}, positions), ints({tokens(t)}, owners),
          ints({Dim(Symbol::kS, count), columns}, table)};
  c.out = {output(q.type)};
  c.attrs = {{"heads", heads}, {"kv_heads", kv_heads}, {"head_dim", head_dim}, {"scale", scale}, {"window", window}};

  // A score is a sum over groups of 32 elements, in order within each and over them: at most 32 + head_dim/32 + 4
  // roundings of terms that sum to at most |q|.|k|; softmax turns a score error e into a relative error 2e of each
  // weight; weights and sums add 3 roundings a page and one a position; values are at most `largest`.
  // SIMD levels meet i8 with queries of 16 bits, half a unit of 1/32767 of the largest off, and with weights of 16 bits
  // for a page's 32 values, whose largest weighted ones of all pages sum to at most `largest`.
  const std::vector<float> qs = values(q), kvs = read(kv.type, kv.bytes);
  // Tensor cores take q, the weights and (of caches that are not f16) keys and values rounded to f16, of i8 the scale
  // and the product.
  constexpr double half = 0x1p-11, unit = 0.5 / 32767;
  const double kv_error = dtype == DType::kF16 ? 0 : dtype == DType::kF32 ? half : 2.1 * half;
  const double roundings =
      static_cast<double>(std::min(head_dim, kKvGroup)) + static_cast<double>(head_dim) / kKvGroup + 6;
  // Level kAmx takes f16 as two bf16, exactly, and queries and weights rounded twice to 8 bits: a query errs by 2^-16,
  // a weight (whose second bf16 is cut off) by 2^-15, and the product of the seconds, at most 2^-8 * 2^-7, is left out.
  // Each term is three products.
  constexpr double of_score = 0x1p-16 + 0x1p-15, of_weight = 0x1p-15 + 0x1p-15;
  std::vector<double> bound(qs.size()), bound_cuda(qs.size()), bound_amx(qs.size());
  for (int64_t i = 0; i < t; ++i) {
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t last = positions[static_cast<size_t>(i)],
                    first = window > 0 ? std::max<int64_t>(0, last - window + 1) : 0;
      double score_error = 0, score_error_cuda = 0, score_error_amx = 0, largest = 0;
      for (int64_t j = first; j <= last; ++j) {
        const int64_t page = table[static_cast<size_t>(owners[static_cast<size_t>(i)] * columns + j / kKvPageSize)];
        const int64_t slot = page * kKvPageSize + j % kKvPageSize, plane = h / (heads / kv_heads);
        const float* key = kvs.data() + kv_row_offset(1, 2 * kv_heads, slot, plane) * head_dim;
        const float* value = kvs.data() + kv_row_offset(1, 2 * kv_heads, slot, kv_heads + plane) * head_dim;
        double terms = 0, most_query = 0, keys = 0;
        for (int64_t d = 0; d < head_dim; ++d) {
          most_query = std::max<double>(most_query, std::fabs(qs[static_cast<size_t>((i * heads + h) * head_dim + d)]));
          keys += std::fabs(key[d]);
          terms += std::fabs(static_cast<double>(qs[static_cast<size_t>((i * heads + h) * head_dim + d)]) * key[d]);
          largest = std::max<double>(largest, std::fabs(value[d]));
        }
        const double coded = dtype == DType::kI8 ? unit * most_query * keys : 0;
        score_error = std::max(score_error, (u * roundings * terms + coded) * scale);
        score_error_amx = std::max(score_error_amx, (of_score + 3 * u * roundings) * terms * scale);
        score_error_cuda = std::max(
            score_error_cuda, (half + kv_error + 8 * u * (static_cast<double>(head_dim) / 8 + 2)) * terms * scale);
      }
      const double steps = static_cast<double>(last - first + 1) + 3 * static_cast<double>(columns) + 8;
      for (int64_t d = 0; d < head_dim; ++d) {
        const auto at = static_cast<size_t>((i * heads + h) * head_dim + d);
        bound[at] = largest * (2 * score_error + steps * u + (dtype == DType::kI8 ? unit * kKvPageSize : 0));
        bound_amx[at] = largest * (2 * score_error_amx + of_weight + 3 * steps * u);
        bound_cuda[at] = largest * (2 * score_error_cuda + 2 * half + kv_error + 8 * steps * u);
      }
    }
  }
  c.tolerance = {bound};
  c.tolerance_cuda = {bound_cuda};
  if (dtype == DType::kF16) c.tolerance_amx = c.tolerance_any = {bound_amx};
  return c;
}

std::vector<Case> attention(Random& random) {
  const std::vector<Sequence> decode = {{1, 1}, {33, 1}, {32, 1}, {97, 1}}, chunk = {{82, 37}},
                              mixed = {{70, 50}, {9, 1}, {3, 3}};
  std::vector<Case> cases = {attention_case(random, {DType::kF32, 4, 2, 8, 0, {{5, 2}, {3, 1}}})};
  for (const DType dtype : kKvTypes) {
    for (const AttentionShape& shape :
         std::initializer_list<AttentionShape>{{dtype, 4, 2, 64, 0, decode},
                                               {dtype, 4, 2, 64, 0, chunk},
                                               {dtype, 8, 1, 32, 5, mixed},
                                               {dtype, 5, 5, 33, 0, mixed},
                                               {dtype, 3, 1, 7, 40, chunk},
                                               {dtype, 2, 2, 80, 0, decode},
                                               {dtype, 40, 1, 48, 32, decode},
                                               {dtype, 2, 1, 128, 0, mixed},
                                               {dtype, 14, 2, 64, 100, {{290, 2}, {140, 11}}},
                                               {dtype, 1, 1, 1, 1, mixed}}) {
      cases.push_back(attention_case(random, shape));
    }
  }
  cases.push_back(attention_case(random, {DType::kF16, 2, 2, 256, 33, mixed}));
  cases.push_back(attention_case(random, {DType::kF16, 6, 2, 96, 0, mixed}));
  // Far enough that GPUs split sequences.
  const std::vector<Sequence> far = {{700, 1}, {530, 20}, {258, 2}};
  cases.push_back(attention_case(random, {DType::kF16, 4, 2, 64, 0, far}));
  cases.push_back(attention_case(random, {DType::kI8, 4, 1, 32, 300, far}));
  return cases;
}

}  // namespace

std::vector<CaseList> ref_cases() {
  return {{"add", elementwise, {}},
          {"mul", elementwise, {}},
          {"activation", activation, {}},
          {"rms_norm", rms_norm, {}},
          {"quantize", quantize, {}},
          {"norm_quantize", norm_quantize, {}},
          {"rope", rope, {{2, 0}}},
          {"kv_write", kv_write, {}},
          {"rope_kv_write", rope_kv_write, {{4, 0}}},
          {"norm_qkv_rope_kv_write", norm_qkv_rope_kv_write, {{8, 0}}},
          {"attention", attention, {{1, 0}, {4, 0}, {4, 1}}},
          {"gather_rows", gather_rows, {{0, 0}}},
          {"shortlist", shortlist, {{0, 1}}}};
}

}  // namespace ll::numerics
