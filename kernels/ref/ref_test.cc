// Known answers of the scalar kernels, from formulas written out here in double, and laws that hold at every level.
#include "kernels/ref/ref.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/check.h"
#include "kernels/kv_layout.h"
#include "kernels/quant/q8a.h"

namespace ll {
namespace {

using Ints = std::vector<int32_t>;
using Floats = std::vector<float>;

template <class T>
TensorView view(std::vector<T>& v, DType dtype, std::initializer_list<int64_t> dims, int64_t row_bytes = 0) {
  TensorView t{reinterpret_cast<std::byte*>(v.data()), row_bytes, dtype, Layout::kRows,
               static_cast<int>(dims.size()),          {}};
  std::copy(dims.begin(), dims.end(), t.dims.begin());
  if (row_bytes == 0) t.row_bytes = t.rank == 1 ? int64_t{sizeof(T)} : t.last() * int64_t{sizeof(T)};
  return t;
}
TensorView view(Floats& v, std::initializer_list<int64_t> dims) { return view(v, DType::kF32, dims); }
TensorView view(Ints& v, std::initializer_list<int64_t> dims) { return view(v, DType::kI32, dims); }

void launch(std::string_view kernel, Isa isa, std::vector<TensorView> in, std::vector<TensorView> out,
            std::vector<Attr> attrs = {}) {
  alignas(64) static std::byte scratch[1 << 20];
  kernel_fn(*find_kernel(kernel), isa)({in, out, Attrs(attrs), 0, 1, scratch});
}

Floats random_floats(size_t count, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  Floats v(count);
  for (float& x : v) x = normal(random);
  return v;
}

std::vector<Isa> isas() {
  std::vector<Isa> all;
  for (int i = 0; i < kIsaCount; ++i) {
    if (has_isa(static_cast<Isa>(i))) all.push_back(static_cast<Isa>(i));
  }
  return all;
}

TEST(Reference, AddAndMul) {
  Floats a = {1, 2, 3, 4, 5, 6}, b = {10, 20, 30, 40, 50, 60}, y(6);
  launch("add", Isa::kScalar, {view(a, {2, 3}), view(b, {2, 3})}, {view(y, {2, 3})});
  EXPECT_EQ(y, (Floats{11, 22, 33, 44, 55, 66}));
  launch("mul", Isa::kScalar, {view(a, {2, 3}), view(b, {2, 3})}, {view(y, {2, 3})});
  EXPECT_EQ(y, (Floats{10, 40, 90, 160, 250, 360}));
}

TEST(Reference, RmsNorm) {
  // mean square (9 + 16) / 2 + 3.5 = 16, so the factor is 1/4.
  Floats x = {3, -4}, w = {2, 10}, y(2);
  launch("rms_norm", Isa::kScalar, {view(x, {1, 2}), view(w, {2})}, {view(y, {1, 2})}, {{"eps", 3.5}});
  EXPECT_EQ(y, (Floats{1.5f, -10.0f}));
}

TEST(Reference, Activations) {
  Floats x = {0, 1, -1, 3}, y(4);
  const auto run = [&](std::string_view act) {
    launch("activation", Isa::kScalar, {view(x, {1, 4})}, {view(y, {1, 4})}, {{"act", act}});
  };
  run("silu");
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(y[i], x[i] / (1 + std::exp(-double{x[i]})), 1e-6);
  run("gelu");
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(y[i], x[i] * 0.5 * std::erfc(-double{x[i]} / std::sqrt(2.0)), 1e-6);
  run("gelu_tanh");
  const Floats known = {0.0f, 0.841192f, -0.158808f, 2.996363f};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(y[i], known[i], 1e-6);
  run("relu");
  EXPECT_EQ(y, (Floats{0, 1, 0, 3}));
}

TEST(Reference, GatherRows) {
  Floats x = {0, 1, 10, 11, 20, 21}, y(4);
  Ints rows = {2, 0};
  launch("gather_rows", Isa::kScalar, {view(x, {3, 2}), view(rows, {2})}, {view(y, {2, 2})});
  EXPECT_EQ(y, (Floats{20, 21, 0, 1}));
}

// Rotation of pair (a, b) by angle p f is the product (a + b i) e^(i p f).
TEST(Reference, RopeIsComplexRotation) {
  const int64_t heads = 2, head_dim = 10, pairs = 3;
  Floats x = random_floats(static_cast<size_t>(2 * heads * head_dim), 1), y(x.size());
  Floats inv_freq = {1.0f, 0.25f, 0.0625f};
  Ints positions = {0, 12};
  for (const std::string_view style : {"half", "interleaved"}) {
    for (const double mscale : {1.0, 1.5}) {
      launch("rope", Isa::kScalar, {view(x, {2, heads * head_dim}), view(positions, {2}), view(inv_freq, {pairs})},
             {view(y, {2, heads * head_dim})}, {{"head_dim", head_dim}, {"style", style}, {"mscale", mscale}});
      for (size_t t = 0; t < 2; ++t) {
        for (size_t h = 0; h < heads; ++h) {
          const float *in = &x[(t * heads + h) * head_dim], *out = &y[(t * heads + h) * head_dim];
          for (size_t i = 0; i < pairs; ++i) {
            const size_t a = style == "half" ? i : 2 * i, b = style == "half" ? i + pairs : 2 * i + 1;
            const auto turned =
                std::complex<double>(in[a], in[b]) * std::polar(mscale, double{inv_freq[i]} * positions[t]);
            EXPECT_NEAR(out[a], turned.real(), 1e-6);
            EXPECT_NEAR(out[b], turned.imag(), 1e-6);
          }
          for (size_t d = 2 * pairs; d < head_dim; ++d) EXPECT_EQ(out[d], in[d]) << "not rotated";
        }
      }
    }
  }
}

TEST(Reference, RopeAngleIsOneF32Product) {
  Floats x = {1, 0}, y(2), inv_freq = {0.1f};
  Ints positions = {123457};
  launch("rope", Isa::kScalar, {view(x, {1, 2}), view(positions, {1}), view(inv_freq, {1})}, {view(y, {1, 2})},
         {{"head_dim", int64_t{2}}, {"style", "half"}, {"mscale", 1.0}});
  const float angle = 123457.0f * 0.1f;
  EXPECT_EQ(y[0], static_cast<float>(std::cos(double{angle})));
  EXPECT_EQ(y[1], static_cast<float>(std::sin(double{angle})));
}

TEST(Reference, KvRowsOfEachType) {
  EXPECT_EQ(kv_row_bytes(DType::kI8, 33), 36 + 8);
  Floats x = random_floats(33, 2), back(33);
  x[32] = 0.001f;
  float largest = 0;
  for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
  for (const KvPart part : {KvPart::kKeys, KvPart::kValues}) {
    for (const int64_t place : {0, 6, 31}) {
      std::vector<std::byte> plane(static_cast<size_t>(kKvPageSize * kv_row_bytes(DType::kF32, 33)));
      kv_store(DType::kF32, x.data(), 33, part, plane.data(), place);
      kv_load(DType::kF32, plane.data(), part, place, 33, back.data());
      EXPECT_EQ(back, x);
      kv_store(DType::kF16, x.data(), 33, part, plane.data(), place);
      kv_load(DType::kF16, plane.data(), part, place, 33, back.data());
      for (size_t i = 0; i < 33; ++i) EXPECT_NEAR(back[i], x[i], std::fabs(x[i]) * 0x1p-11 + 0x1p-25);
      kv_store(DType::kI8, x.data(), 33, part, plane.data(), place);
      kv_load(DType::kI8, plane.data(), part, place, 33, back.data());
      for (size_t i = 0; i < 32; ++i) EXPECT_NEAR(back[i], x[i], largest / 127 * 0.501f);
      EXPECT_NEAR(back[32], 0.001f, 1e-9f) << "the last element has a group of its own";
    }
  }
}

TEST(Reference, KvRowsOfBytesTakeExtremes) {
  Floats x(64), back(64);
  std::vector<std::byte> plane(static_cast<size_t>(kKvPageSize * kv_row_bytes(DType::kI8, 64)));
  x[3] = 1e-38f;  // the first group is too small for a scale
  x[40] = NAN;    // the second holds a NaN
  kv_store(DType::kI8, x.data(), 64, KvPart::kKeys, plane.data(), 1);
  kv_load(DType::kI8, plane.data(), KvPart::kKeys, 1, 64, back.data());
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(back[i], 0.0f);
  for (size_t i = 32; i < 64; ++i) EXPECT_TRUE(std::isnan(back[i]));
}

// Four elements of a key, and an element of four values, side by side; 35 elements take 36 bytes, the last one zero.
TEST(Reference, KvPlanesOfBytesLieByColumn) {
  const int64_t head_dim = 35, bytes = kKvPageSize * kv_row_bytes(DType::kI8, head_dim);
  EXPECT_EQ(bytes, 32 * (36 + 8));
  for (const KvPart part : {KvPart::kKeys, KvPart::kValues}) {
    std::vector<std::byte> plane(static_cast<size_t>(bytes), std::byte{0xff});
    std::vector<int> writes(static_cast<size_t>(bytes));
    for (int64_t place = 0; place < kKvPageSize; ++place) {
      std::vector<std::byte> before = plane;
      Floats x(static_cast<size_t>(head_dim));
      for (size_t d = 0; d < x.size(); ++d) x[d] = static_cast<float>(d % 32 == 0 ? 127 : static_cast<int>(d) - 20);
      kv_store(DType::kI8, x.data(), head_dim, part, plane.data(), place);
      for (int64_t d = 0; d < 36; ++d) {
        const int64_t at =
            part == KvPart::kKeys ? (d / 4 * 32 + place) * 4 + d % 4 : (place / 4 * 36 + d) * 4 + place % 4;
        const float value = d < head_dim ? x[static_cast<size_t>(d)] : 0;
        EXPECT_EQ(static_cast<int8_t>(plane[static_cast<size_t>(at)]), value) << "element " << d << " at " << place;
        before[static_cast<size_t>(at)] = plane[static_cast<size_t>(at)];
        ++writes[static_cast<size_t>(at)];
      }
      for (int64_t group = 0; group < 2; ++group) {
        const int64_t at = 32 * 36 + (group * 32 + place) * 4;
        float scale;
        std::memcpy(&scale, plane.data() + at, 4);
        EXPECT_EQ(scale, 1);
        for (int64_t i = at; i < at + 4; ++i) {
          before[static_cast<size_t>(i)] = plane[static_cast<size_t>(i)];
          ++writes[static_cast<size_t>(i)];
        }
      }
      EXPECT_EQ(plane, before) << "wrote elsewhere";
    }
    EXPECT_EQ(std::count(writes.begin(), writes.end(), 1), bytes);
  }
}

TEST(Reference, KvWriteGoesToTheSlot) {
  // Two pages of one head of 2 elements: page 1, place 5 of the keys' plane, and of the values' plane.
  Floats kv(2 * 2 * 32 * 2, 0.0f), k = {1, 2}, v = {3, 4};
  Ints slots = {32 + 5};
  const TensorView cache = view(kv, DType::kF32, {2, 2, 32, 2});
  launch("kv_write", Isa::kScalar, {cache, view(k, {1, 2}), view(v, {1, 2}), view(slots, {1})}, {cache});
  Floats want(kv.size(), 0.0f);
  want[128 + 10] = 1, want[128 + 11] = 2;            // page 1, plane 0
  want[128 + 64 + 10] = 3, want[128 + 64 + 11] = 4;  // page 1, plane 1
  EXPECT_EQ(kv, want);
}

// One sequence of `length` positions in shuffled pages of f32, and its keys and values as plain arrays [length,
// kv_heads, dim].
struct Context {
  Context(int64_t positions, int64_t kv_heads, int64_t dim)
      : length(positions), heads(kv_heads), head_dim(dim), pages((positions + 31) / 32) {
    keys = random_floats(static_cast<size_t>(length * heads * dim), 11);
    values = random_floats(static_cast<size_t>(length * heads * dim), 12);
    for (int64_t p = 0; p < pages; ++p) table.push_back(static_cast<int32_t>(pages + 2 - p));
    cache.assign(static_cast<size_t>((pages + 3) * 2 * heads * 32 * dim), NAN);
    for (int64_t j = 0; j < length; ++j) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t page = table[static_cast<size_t>(j / 32)];
        for (int64_t d = 0; d < dim; ++d) {
          const auto from = static_cast<size_t>((j * heads + h) * dim + d);
          cache[static_cast<size_t>(((page * 2 * heads + h) * 32 + j % 32) * dim + d)] = keys[from];
          cache[static_cast<size_t>(((page * 2 * heads + heads + h) * 32 + j % 32) * dim + d)] = values[from];
        }
      }
    }
  }
  TensorView kv() { return view(cache, DType::kF32, {pages + 3, 2 * heads, 32, head_dim}); }
  TensorView block_table() { return view(table, {1, pages}); }

  int64_t length, heads, head_dim, pages;
  Floats keys, values, cache;
  Ints table;
};

TEST(Reference, AttentionIsSoftmaxOverTheWindow) {
  const int64_t heads = 6, kv_heads = 2, dim = 5;
  for (const int64_t window : {0, 1, 7, 40, 1000}) {
    Context context(75, kv_heads, dim);
    Ints positions = {0, 6, 31, 32, 74}, sequences(5, 0);
    Floats q = random_floats(static_cast<size_t>(5 * heads * dim), 13), y(q.size());
    launch("attention", Isa::kScalar,
           {view(q, {5, heads * dim}), context.kv(), view(positions, {5}), view(sequences, {5}), context.block_table()},
           {view(y, {5, heads * dim})},
           {{"heads", heads}, {"kv_heads", kv_heads}, {"head_dim", dim}, {"scale", 0.4}, {"window", window}});
    for (int64_t t = 0; t < 5; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        std::vector<double> weighted(dim, 0.0);
        double total = 0;
        for (int64_t j = 0; j <= positions[static_cast<size_t>(t)]; ++j) {
          if (window > 0 && j <= positions[static_cast<size_t>(t)] - window) continue;
          const auto at = static_cast<size_t>((j * kv_heads + h / 3) * dim);
          double score = 0;
          for (size_t d = 0; d < dim; ++d) {
            score += double{q[static_cast<size_t>((t * heads + h) * dim) + d]} * context.keys[at + d];
          }
          const double weight = std::exp(0.4 * score);
          total += weight;
          for (size_t d = 0; d < dim; ++d) weighted[d] += weight * context.values[at + d];
        }
        for (size_t d = 0; d < dim; ++d) {
          EXPECT_NEAR(y[static_cast<size_t>((t * heads + h) * dim) + d], weighted[d] / total, 1e-6);
        }
      }
    }
  }
}

TEST(Laws, AttentionSurvivesScoresFarApart) {
  // Scores of +-10^6 (softmax without its largest would overflow): the whole weight lies on the best key.
  for (const Isa isa : isas()) {
    Context context(40, 1, 8);
    for (size_t j = 0; j < 40; ++j) {
      for (size_t d = 0; d < 8; ++d) {
        context.cache[(static_cast<size_t>(context.table[j / 32]) * 2 * 32 + j % 32) * 8 + d] = j == 17 ? 1.0f : -1.0f;
      }
    }
    Floats q(8, 125000.0f), y(8);
    Ints positions = {39}, sequences = {0};
    launch("attention", isa,
           {view(q, {1, 8}), context.kv(), view(positions, {1}), view(sequences, {1}), context.block_table()},
           {view(y, {1, 8})},
           {{"heads", int64_t{1}},
            {"kv_heads", int64_t{1}},
            {"head_dim", int64_t{8}},
            {"scale", 1.0},
            {"window", int64_t{0}}});
    EXPECT_EQ(y, Floats(context.values.begin() + 17 * 8, context.values.begin() + 18 * 8)) << isa_name(isa);
  }
}

TEST(Laws, NanStaysInItsHead) {
  for (const Isa isa : isas()) {
    Context context(40, 2, 8);
    Floats q = random_floats(2 * 4 * 8, 3), y(q.size());
    q[1 * 32 + 2 * 8] = NAN;  // token 1, head 2
    Ints positions = {38, 39}, sequences = {0, 0};
    launch("attention", isa,
           {view(q, {2, 32}), context.kv(), view(positions, {2}), view(sequences, {2}), context.block_table()},
           {view(y, {2, 32})},
           {{"heads", int64_t{4}},
            {"kv_heads", int64_t{2}},
            {"head_dim", int64_t{8}},
            {"scale", 1.0},
            {"window", int64_t{0}}});
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i / 8 == 6) << isa_name(isa) << " " << i;
  }
}

// Prefill in one step, in chunks, or token by token, alone or beside another sequence: the same bits.
TEST(Laws, AttentionDoesNotDependOnTheStep) {
  const int64_t heads = 8, kv_heads = 2, dim = 40, width = heads * dim;
  for (const Isa isa : isas()) {
    for (const int64_t window : {0, 50}) {
      Context context(100, kv_heads, dim);
      Floats q = random_floats(static_cast<size_t>(100 * width), 5);
      const std::vector<Attr> attrs = {
          {"heads", heads}, {"kv_heads", kv_heads}, {"head_dim", dim}, {"scale", 0.16}, {"window", window}};
      const auto run = [&](const Ints& at) {
        Floats rows, y(at.size() * static_cast<size_t>(width));
        for (const int32_t p : at) rows.insert(rows.end(), q.begin() + p * width, q.begin() + (p + 1) * width);
        Ints positions = at, sequences(at.size(), 0);
        const auto t = static_cast<int64_t>(at.size());
        launch(
            "attention", isa,
            {view(rows, {t, width}), context.kv(), view(positions, {t}), view(sequences, {t}), context.block_table()},
            {view(y, {t, width})}, attrs);
        return y;
      };
      Ints all(100);
      for (int32_t i = 0; i < 100; ++i) all[static_cast<size_t>(i)] = i;
      const Floats whole = run(all);
      for (const int32_t chunk : {1, 7, 33}) {
        for (int32_t from = 0; from < 100; from += chunk) {
          const Ints part(all.begin() + from, all.begin() + std::min(100, from + chunk));
          const Floats y = run(part);
          EXPECT_EQ(0, std::memcmp(y.data(), whole.data() + from * width, y.size() * 4))
              << isa_name(isa) << " chunk " << chunk << " from " << from;
        }
      }
      // Tokens of other lengths between them, as in a batch.
      const Floats batch = run({99, 0, 57, 3});
      EXPECT_EQ(0, std::memcmp(batch.data() + 2 * width, whole.data() + 57 * width, static_cast<size_t>(4 * width)));
    }
  }
}

TEST(Laws, FusionKeepsEveryBit) {
  const int64_t t = 3;
  for (const Isa isa : isas()) {
    for (const auto& [dtype, size] : {std::pair{DType::kQ8A, int64_t{320}}, {DType::kQ8A256, int64_t{768}}}) {
      SCOPED_TRACE(isa_name(isa));
      Floats x = random_floats(static_cast<size_t>(t * size), 7), w = random_floats(static_cast<size_t>(size), 8),
             y(x.size());
      std::vector<std::byte> apart(static_cast<size_t>(t * q8a_row_bytes(size))), fused(apart.size());
      const std::vector<Attr> eps = {{"eps", 1e-6}};
      launch("rms_norm", isa, {view(x, {t, size}), view(w, {size})}, {view(y, {t, size})}, eps);
      launch("quantize", isa, {view(y, {t, size})}, {view(apart, dtype, {t, size}, q8a_row_bytes(size))});
      launch("norm_quantize", isa, {view(x, {t, size}), view(w, {size})},
             {view(fused, dtype, {t, size}, q8a_row_bytes(size))}, eps);
      EXPECT_EQ(apart, fused);
    }
  }
}

TEST(Laws, RopeKvWriteIsRopeThenKvWrite) {
  const int64_t t = 3, heads = 3, head_dim = 36, pairs = 9, width = 5 * head_dim;
  Floats qkv = random_floats(static_cast<size_t>(t * width), 9),
         inv_freq = {1, 0.5f, 0.3f, 0.2f, 0.1f, 0.05f, 0.02f, 0.01f, 0.001f};
  Ints positions = {4, 5, 900}, slots = {63, 2, 40};
  for (const Isa isa : isas()) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8}) {
      for (const std::string_view style : {"half", "interleaved"}) {
        const int64_t row = kv_row_bytes(dtype, head_dim);
        std::vector<std::byte> apart(static_cast<size_t>(kv_page_bytes(dtype, 2, head_dim) * 2)), fused(apart.size());
        Floats q_apart(static_cast<size_t>(t * heads * head_dim)), q_fused(q_apart.size()),
            k(static_cast<size_t>(t * head_dim));
        const std::vector<Attr> attrs = {
            {"heads", heads}, {"kv_heads", int64_t{1}}, {"head_dim", head_dim}, {"style", style}, {"mscale", 1.1}};
        const auto part = [&](int64_t from, int64_t columns) {
          TensorView v = view(qkv, DType::kF32, {t, columns}, 4 * width);
          v.data += 4 * from;
          return v;
        };
        const TensorView at = view(positions, {t}), to = view(slots, {t}), f = view(inv_freq, {pairs});
        const TensorView cache = view(apart, dtype, {2, 2, 32, head_dim}, row);
        launch("rope", isa, {part(0, heads * head_dim), at, f}, {view(q_apart, {t, heads * head_dim})}, attrs);
        launch("rope", isa, {part(heads * head_dim, head_dim), at, f}, {view(k, {t, head_dim})}, attrs);
        launch("kv_write", isa, {cache, view(k, {t, head_dim}), part(4 * head_dim, head_dim), to}, {cache});
        const TensorView whole = view(fused, dtype, {2, 2, 32, head_dim}, row);
        launch("rope_kv_write", isa, {whole, part(0, width), at, to, f}, {view(q_fused, {t, heads * head_dim}), whole},
               attrs);
        EXPECT_EQ(q_apart, q_fused) << isa_name(isa);
        EXPECT_EQ(apart, fused) << isa_name(isa);
      }
    }
  }
}

// Facts that no single wrong operand shows.
TEST(Check, TellsBothSides) {
  TensorType x{.dtype = DType::kF32, .layout = Layout::kRows, .rank = 2, .dims = {Dim(Symbol::kT, 8), Dim(256)}};
  TensorType w{.dtype = DType::kF32, .layout = Layout::kRows, .rank = 1, .dims = {Dim(128)}};
  const TensorType in[] = {x, w}, out[] = {x};
  const Attr attrs[] = {{"eps", 1e-5}};
  const Status status = find_kernel("rms_norm")->check({in, out, Attrs(attrs)});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "'w' is f32[128], expected 256 in dimension 0 (row length of x)");
}

TEST(Check, RefusesMoreRotationThanHead) {
  const TensorType x{.dtype = DType::kF32, .layout = Layout::kRows, .rank = 2, .dims = {Dim(Symbol::kT, 8), Dim(64)}};
  const TensorType positions{.dtype = DType::kI32, .layout = Layout::kRows, .rank = 1, .dims = {Dim(Symbol::kT, 8)}};
  const TensorType inv_freq{.dtype = DType::kF32, .layout = Layout::kRows, .rank = 1, .dims = {Dim(9)}};
  const TensorType in[] = {x, positions, inv_freq}, out[] = {x};
  const Attr attrs[] = {{"head_dim", int64_t{16}}, {"style", "half"}, {"mscale", 1.0}};
  const Status status = find_kernel("rope")->check({in, out, Attrs(attrs)});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "'inv_freq' is f32[9], expected at most half of head_dim (16)");
}

TEST(Check, HeadsMustFormGroups) {
  const Attr attrs[] = {{"heads", int64_t{6}}, {"kv_heads", int64_t{4}}, {"head_dim", int64_t{16}}};
  const auto heads = check::heads(Attrs(attrs));
  ASSERT_FALSE(heads);
  EXPECT_EQ(heads.error().message, "attribute 'heads' is 6, expected a multiple of kv_heads (4)");
}

}  // namespace
}  // namespace ll
