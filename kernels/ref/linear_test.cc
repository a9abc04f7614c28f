// Laws of the linear family at every level: an output's bits do not depend on how many tokens share the launch, nor on
// the fusion it is computed in.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "kernels/kernel.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"

namespace ll {
namespace {

struct Operand {
  std::vector<std::byte> bytes;
  TensorType type;

  TensorView view() {
    const int64_t row = type.rank == 1 ? 4 : row_bytes(type.dtype, type.last().value);
    TensorView v{bytes.data(), row, type.dtype, type.layout, type.rank, {}};
    for (int i = 0; i < type.rank; ++i) v.dims[static_cast<size_t>(i)] = type.dim(i).value;
    return v;
  }
  // Rows [first, first + count).
  Operand rows(int64_t first, int64_t count) const {
    const int64_t row = row_bytes(type.dtype, type.last().value);
    Operand part{{bytes.begin() + first * row, bytes.begin() + (first + count) * row}, type};
    part.type.dims[0] = Dim(count);
    return part;
  }
};

TensorType matrix(DType dtype, int64_t rows, int64_t columns, Layout layout = Layout::kRows) {
  return {dtype, layout, 2, {Dim(rows), Dim(columns)}};
}

struct Level {
  Isa isa;
};
void PrintTo(const Level& level, std::ostream* out) { *out << isa_name(level.isa); }

class Linear : public testing::TestWithParam<Level> {
 protected:
  void SetUp() override {
    if (!has_isa(GetParam().isa)) GTEST_SKIP() << "this machine lacks " << isa_name(GetParam().isa);
  }

  std::vector<float> normals(int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) v = normal_(random_);
    return values;
  }
  static Operand floats(int64_t rows, int64_t columns, const std::vector<float>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    return {{bytes.begin(), bytes.end()}, matrix(DType::kF32, rows, columns)};
  }
  Operand floats(int64_t rows, int64_t columns) { return floats(rows, columns, normals(rows * columns)); }
  Operand vector(int64_t n) {
    Operand v = floats(1, n);
    v.type = {DType::kF32, Layout::kRows, 1, {Dim(n)}};
    return v;
  }
  // For products with weights of that type.
  Operand tokens(int64_t t, int64_t k, DType weights) { return tokens(t, k, weights, normals(t * k)); }
  static Operand tokens(int64_t t, int64_t k, DType weights, const std::vector<float>& values) {
    Operand x = floats(t, k, values);
    if (!is_quantized_dtype(weights)) return x;
    const DType dtype = q8a_for_x16(weights);
    Operand q{std::vector<std::byte>(static_cast<size_t>(t * q8a_row_bytes(k))), matrix(dtype, t, k)};
    for (int64_t i = 0; i < t; ++i) {
      q8a_quantize_row(dtype, reinterpret_cast<const float*>(x.bytes.data()) + i * k, k,
                       q.bytes.data() + i * q8a_row_bytes(k));
    }
    return q;
  }
  Operand weight(DType dtype, int64_t n, int64_t k) { return weight(dtype, n, k, normals(n * k)); }
  static Operand weight(DType dtype, int64_t n, int64_t k, const std::vector<float>& values) {
    const Layout layout = is_quantized_dtype(dtype) ? Layout::kX16 : Layout::kRows;
    std::vector<std::byte> rows(static_cast<size_t>(n * row_bytes(dtype, k)));
    find_format(dtype)->quantize(values.data(), n * k, rows.data());
    if (layout == Layout::kRows) return {rows, matrix(dtype, n, k)};
    Operand w{std::vector<std::byte>(static_cast<size_t>(*tensor_bytes(dtype, layout, n, k))),
              matrix(dtype, n, k, layout)};
    for (int64_t r = 0; r < n; r += kPanelRows) {
      repack_rows_to_x16(dtype, rows.data() + r * row_bytes(dtype, k), std::min(kPanelRows, n - r), k,
                         w.bytes.data() + r * row_bytes(dtype, k));
    }
    return w;
  }

  // Output 0, `columns` wide, of one launch.
  Operand run(const std::string& name, std::vector<Operand> in, int64_t columns, std::vector<Attr> attrs = {},
              int threads = 1) {
    const int64_t rows = in[0].type.dim(0).value;
    Operand y{std::vector<std::byte>(static_cast<size_t>(4 * rows * columns)), matrix(DType::kF32, rows, columns)};
    std::vector<TensorType> types;
    std::vector<TensorView> views;
    for (Operand& o : in) {
      types.push_back(o.type);
      views.push_back(o.view());
    }
    const Kernel* kernel = find_kernel(name);
    const LaunchSpec spec{types, {&y.type, 1}, Attrs(attrs)};
    const Status checked = kernel->check(spec);
    EXPECT_TRUE(checked) << name << ": " << checked.error().message;
    std::vector<std::byte> scratch(kernel->scratch != nullptr ? kernel->scratch(spec) + 64 : 64);
    void* aligned = scratch.data();
    size_t space = scratch.size();
    std::align(64, space - 64, aligned, space);
    const TensorView out = y.view();
    for (int thread = 0; thread < threads; ++thread) {
      kernel_fn(*kernel, GetParam().isa)(
          {views, {&out, 1}, Attrs(attrs), thread, threads, {static_cast<std::byte*>(aligned), space}, true});
    }
    return y;
  }

  static std::vector<DType> dtypes(bool q8) {
    std::vector<DType> list;
    for (const Format& f : formats()) {
      if (f.kind == (q8 ? FormatKind::kQuantized : FormatKind::kFloat)) list.push_back(f.dtype);
    }
    return list;
  }

 private:
  std::mt19937 random_{11};
  std::normal_distribution<float> normal_;
};

TEST_P(Linear, TokensDoNotDependOnTheirCompany) {
  for (const bool q8 : {false, true}) {
    for (const DType dtype : dtypes(q8)) {
      const int64_t n = 37, k = q8 ? 512 : 77, t = 23;
      const Operand w = weight(dtype, n, k), bias = vector(n), x = tokens(t, k, dtype);
      const std::string name = q8 ? "linear_q8" : "linear";
      const Operand all = run(name, {x, w, bias}, n);
      for (const int64_t chunk : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16}) {
        for (int64_t first = 0; first < t; first += chunk) {
          const int64_t count = std::min(chunk, t - first);
          ASSERT_EQ(run(name, {x.rows(first, count), w, bias}, n).bytes, all.rows(first, count).bytes)
              << dtype_name(dtype) << " tokens " << first << " to " << first + count;
        }
      }
      for (const int threads : {2, 3, 8}) ASSERT_EQ(run(name, {x, w, bias}, n, {}, threads).bytes, all.bytes);
    }
  }
}

TEST_P(Linear, FusedFormsGiveTheBitsOfWhatTheyFuse) {
  for (const bool q8 : {false, true}) {
    const std::string suffix = q8 ? "_q8" : "";
    for (const DType dtype : dtypes(q8)) {
      const int64_t n = 21, m = 35, k = 256, t = 6;
      const Operand w1 = weight(dtype, n, k), w2 = weight(dtype, n, k), w3 = weight(dtype, m, k), b1 = vector(n),
                    b2 = vector(n), b3 = vector(m), x = tokens(t, k, dtype), residual = floats(t, n);
      const Operand y1 = run("linear" + suffix, {x, w1, b1}, n), y2 = run("linear" + suffix, {x, w2, b2}, n),
                    y3 = run("linear" + suffix, {x, w3, b3}, m);

      EXPECT_EQ(run("linear_add" + suffix, {x, w1, residual, b1}, n).bytes, run("add", {y1, residual}, n).bytes);

      for (const std::string_view act : {"silu", "gelu", "gelu_tanh", "relu"}) {
        const std::vector<Attr> attrs = {{"act", act}};
        EXPECT_EQ(run("gated_linear" + suffix, {x, w1, w2, b1, b2}, n, attrs).bytes,
                  run("mul", {run("activation", {y1}, n, attrs), y2}, n).bytes)
            << act;
      }

      const Operand merged =
          run("merged_linear" + suffix, {x, w1, w3, w2, b1, b3, b2}, 2 * n + m, {{"parts", int64_t{3}}}, 3);
      for (int64_t i = 0; i < t; ++i) {
        std::vector<std::byte> expected;
        for (const Operand* y : {&y1, &y3, &y2}) {
          const std::vector<std::byte> row = y->rows(i, 1).bytes;
          expected.insert(expected.end(), row.begin(), row.end());
        }
        EXPECT_EQ(merged.rows(i, 1).bytes, expected);
      }
    }
  }
}

TEST_P(Linear, GateAndUpMayDiffer) {
  const int64_t n = 21, k = 512, t = 13;
  const std::vector<Attr> attrs = {{"act", std::string_view("silu")}};
  for (const auto& [gate, up] : {std::pair{DType::kQ4_K, DType::kQ6_K}, {DType::kQ6_K, DType::kQ5_K}}) {
    const Operand w1 = weight(gate, n, k), w2 = weight(up, n, k), x = tokens(t, k, gate);
    const Operand y1 = run("linear_q8", {x, w1}, n), y2 = run("linear_q8", {x, w2}, n);
    EXPECT_EQ(run("gated_linear_q8", {x, w1, w2}, n, attrs).bytes,
              run("mul", {run("activation", {y1}, n, attrs), y2}, n).bytes)
        << dtype_name(gate) << " and " << dtype_name(up);
  }
}

// Sums of products of the largest codes, where the integers of a level have the least room.
TEST_P(Linear, LargestCodesFit) {
  // The ways in which weights and activations of one size change their signs with k.
  const auto sign = [](int64_t way, int64_t i) {
    switch (way) {
      case 0:
        return 1.0f;
      case 1:
        return i % 2 == 0 ? 1.0f : -1.0f;
      case 2:
        return i % 4 < 2 ? 1.0f : -1.0f;
      default:
        return i / 16 % 2 == 0 ? 1.0f : -1.0f;
    }
  };
  const int64_t n = 16, t = 13;
  for (const DType dtype : dtypes(true)) {
    const int64_t k = find_format(dtype)->block_elements == 256 ? 512 : 352;
    std::vector<float> of_w(static_cast<size_t>(n * k)), of_x(static_cast<size_t>(t * k));
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t i = 0; i < k; ++i) of_w[static_cast<size_t>(r * k + i)] = sign(r % 4, i) * (r < 8 ? 1.0f : -1.0f);
    }
    for (int64_t j = 0; j < t; ++j) {
      for (int64_t i = 0; i < k; ++i)
        of_x[static_cast<size_t>(j * k + i)] = sign(j % 4, i) * (j % 8 < 4 ? 1.0f : -1.0f);
    }
    const Operand w = weight(dtype, n, k, of_w), x = tokens(t, k, dtype, of_x), y = run("linear_q8", {x, w}, n);
    std::vector<float> row(static_cast<size_t>(k)), token(static_cast<size_t>(k));
    for (int64_t r = 0; r < n; ++r) {
      dequantize_row(dtype, Layout::kX16, w.bytes.data(), r, k, row.data());
      for (int64_t j = 0; j < t; ++j) {
        q8a_dequantize_row(x.bytes.data() + j * q8a_row_bytes(k), k, token.data());
        double sum = 0, most = 0;
        for (size_t i = 0; i < row.size(); ++i) {
          sum += double{row[i]} * token[i];
          most += std::abs(double{row[i]} * token[i]);
        }
        float value;
        std::memcpy(&value, y.bytes.data() + 4 * (j * n + r), 4);
        ASSERT_NEAR(value, sum, 1e-5 * most) << dtype_name(dtype) << " row " << r << " token " << j;
      }
    }
  }
}

TEST_P(Linear, NotANumberIsNotLost) {
  const Operand w = weight(DType::kQ4_K, 16, 256);
  std::vector<float> values(256, 1.0f);
  values[200] = std::numeric_limits<float>::quiet_NaN();
  Operand x{std::vector<std::byte>(static_cast<size_t>(q8a_row_bytes(256))), matrix(DType::kQ8A256, 1, 256)};
  q8a_quantize_row(DType::kQ8A256, values.data(), 256, x.bytes.data());
  const Operand y = run("linear_q8", {x, w}, 16);
  for (int i = 0; i < 16; ++i) {
    float v;
    std::memcpy(&v, y.bytes.data() + 4 * i, 4);
    EXPECT_NE(v, v);
  }
}

// CPUs add up a block of 256 as one integer; GPUs scale every 32.
TEST(LinearCheck, ActivationsHaveTheScalesOfTheirWeights) {
  struct Pair {
    DType x, w;
    Layout layout;
    const char* message;  // null: accepted
  };
  const Pair pairs[] = {
      {DType::kQ8A, DType::kQ4_0, Layout::kX16, nullptr},
      {DType::kQ8A256, DType::kQ4_0, Layout::kX16, nullptr},
      {DType::kQ8A256, DType::kQ4_K, Layout::kX16, nullptr},
      {DType::kQ8A, DType::kQ4_K, Layout::kTile8, nullptr},
      {DType::kQ8A, DType::kQ4_K, Layout::kX16, "'x' is q8a[T<=2,256], expected q8a256 as 'w' is q4_K:x16[16,256]"},
      {DType::kQ8A256, DType::kQ4_K, Layout::kTile8,
       "'x' is q8a256[T<=2,256], expected q8a as 'w' is q4_K:tile8[16,256]"},
      {DType::kQ8A256, DType::kQ4_0, Layout::kTile8,
       "'x' is q8a256[T<=2,256], expected q8a as 'w' is q4_0:tile8[16,256]"},
  };
  for (const Pair& p : pairs) {
    const TensorType in[] = {{p.x, Layout::kRows, 2, {Dim(Symbol::kT, 2), Dim(256)}},
                             {p.w, p.layout, 2, {Dim(16), Dim(256)}}};
    const TensorType out = {DType::kF32, Layout::kRows, 2, {Dim(Symbol::kT, 2), Dim(16)}};
    const Status status = find_kernel("linear_q8")->check({in, {&out, 1}, Attrs()});
    if (p.message == nullptr) {
      EXPECT_TRUE(status) << status.error().message;
    } else {
      ASSERT_FALSE(status) << p.message;
      EXPECT_EQ(status.error().message, p.message);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, Linear,
                         testing::Values(Level{Isa::kScalar}, Level{Isa::kAvx2}, Level{Isa::kAvxVnni},
                                         Level{Isa::kAvx512}, Level{Isa::kAmx}),
                         [](const auto& level) {
                           std::string name = isa_name(level.param.isa);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace ll
