// Attention on tiles in plain C++ words, so that what does not depend on the instructions is tested on every machine,
// and with the instructions where the CPU has them; kernels/numerics_test.cc tests those too.
#include "kernels/cpu/attention_tiles.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/kv_layout.h"
#include "kernels/numerics.h"
#include "kernels/quant/half.h"

namespace ll::numerics {
namespace {

// TDPBF16PS as Intel's Software Developer's Manual defines it: sums of even and of odd elements apart, fused, subnormal
// operands and results are zero.
struct PlainTileWords {
  using Floats = std::array<float, 16>;
  using Ints = std::array<uint32_t, 16>;
  using Mask = std::array<bool, 16>;

  static Floats load(const float* p) {
    Floats v;
    std::memcpy(v.data(), p, sizeof v);
    return v;
  }
  static void store(float* p, const Floats& v) { std::memcpy(p, v.data(), sizeof v); }
  static void stream(float* p, const Floats& v) { store(p, v); }
  static void streams_end() {}
  static Floats set(float f) {
    Floats v;
    v.fill(f);
    return v;
  }
  static Floats zeros() { return set(0); }
  static Floats add(const Floats& a, const Floats& b) {
    return each<Floats>([&](size_t i) { return a[i] + b[i]; });
  }
  static Floats sub(const Floats& a, const Floats& b) {
    return each<Floats>([&](size_t i) { return a[i] - b[i]; });
  }
  static Floats mul(const Floats& a, const Floats& b) {
    return each<Floats>([&](size_t i) { return a[i] * b[i]; });
  }
  static Floats div(const Floats& a, const Floats& b) {
    return each<Floats>([&](size_t i) { return a[i] / b[i]; });
  }
  static Floats fma(const Floats& a, const Floats& b, const Floats& c) {
    return each<Floats>([&](size_t i) { return std::fma(a[i], b[i], c[i]); });
  }
  static Floats max(const Floats& a, const Floats& b) {
    return each<Floats>([&](size_t i) { return a[i] > b[i] ? a[i] : b[i]; });
  }
  static Ints load_ints(const void* p) {
    Ints v;
    std::memcpy(v.data(), p, sizeof v);
    return v;
  }
  static void store(std::byte* p, const Ints& v) { std::memcpy(p, v.data(), sizeof v); }
  static Ints set_ints(int32_t i) {
    Ints v;
    v.fill(static_cast<uint32_t>(i));
    return v;
  }
  static Ints add(const Ints& a, const Ints& b) {
    return each<Ints>([&](size_t i) { return a[i] + b[i]; });
  }
  static Ints both(const Ints& a, const Ints& b) {
    return each<Ints>([&](size_t i) { return a[i] & b[i]; });
  }
  static Ints either(const Ints& a, const Ints& b) {
    return each<Ints>([&](size_t i) { return a[i] | b[i]; });
  }
  template <unsigned kBits>
  static Ints left(const Ints& v) {
    return each<Ints>([&](size_t i) { return v[i] << kBits; });
  }
  template <unsigned kBits>
  static Ints right(const Ints& v) {
    return each<Ints>([&](size_t i) { return v[i] >> kBits; });
  }
  static Ints ints(const Floats& v) { return std::bit_cast<Ints>(v); }
  static Floats floats(const Ints& v) { return std::bit_cast<Floats>(v); }
  static Floats halves(const std::byte* p) {
    return each<Floats>([&](size_t i) { return f16_to_f32(bits_at(p, i)); });
  }
  static Mask inside(const Ints& first, const Ints& last, int32_t at) {
    return each<Mask>(
        [&](size_t i) { return static_cast<int32_t>(first[i]) <= at && at <= static_cast<int32_t>(last[i]); });
  }
  static Mask above(const Floats& a, const Floats& b) {
    return each<Mask>([&](size_t i) { return a[i] > b[i]; });
  }
  static Floats choose(const Mask& m, const Floats& a, const Floats& b) {
    return each<Floats>([&](size_t i) { return m[i] ? a[i] : b[i]; });
  }
  static bool same(const Floats& a, const Floats& b) {
    for (size_t i = 0; i < 16; ++i) {
      if (!(a[i] == b[i])) return false;
    }
    return true;
  }
  static void turn(const std::byte* from, std::byte* to) {
    for (size_t i = 0; i < 16; ++i) {
      for (size_t j = 0; j < 16; ++j) std::memcpy(to + 64 * i + 4 * j, from + 64 * j + 4 * i, 4);
    }
  }

  static void tiles_begin(int rows) { used = rows; }
  static void tiles_end() { used = 0; }
  static void clear_scores() {
    ASSERT_EQ(used, 16);
    scores[0] = scores[1] = {};
  }
  static void store_scores(float* p) { std::memcpy(p, scores, sizeof scores); }
  static void add_scores(int part, const std::byte* keys, int64_t other, const std::byte* queries) {
    ASSERT_EQ(used, 16);
    for (size_t i = 0; i < 2; ++i) {
      multiply(scores[i], 16, keys + static_cast<int64_t>(i) * other + (part == 2 ? kTileBytes : 0),
               queries + (part == 0 ? kTileBytes : 0));
    }
  }
  // Rows of weights and sums that are not used are left alone.
  template <int kTiles>
  static void load_sums(const float* p) {
    for (size_t n = 0; n < kTiles; ++n) std::memcpy(&sums[n], p + kTileFloats * static_cast<int64_t>(n), row_bytes());
  }
  template <int kTiles>
  static void store_sums(float* p) {
    for (size_t n = 0; n < kTiles; ++n) std::memcpy(p + kTileFloats * static_cast<int64_t>(n), &sums[n], row_bytes());
  }
  template <int kTiles>
  static void add_values(int part, const std::byte* weights, const std::byte* values) {
    ASSERT_TRUE(used >= 1 && used <= 16);
    for (size_t n = 0; n < kTiles; ++n) {
      multiply(sums[n], used, weights + (part == 0 ? kTileBytes : 0),
               values + 2 * kTileBytes * static_cast<int64_t>(n) + (part == 2 ? kTileBytes : 0));
    }
  }

 private:
  using Tile = std::array<Floats, 16>;
  static inline thread_local int used = 0;
  static inline thread_local Tile scores[2], sums[2];

  static size_t row_bytes() { return 64 * static_cast<size_t>(used); }
  template <class V, class F>
  static V each(F lane) {
    V v;
    for (size_t i = 0; i < 16; ++i) v[i] = lane(i);
    return v;
  }
  static uint16_t bits_at(const std::byte* p, size_t i) {
    uint16_t bits;
    std::memcpy(&bits, p + 2 * i, 2);
    return bits;
  }
  static float flushed_float(float v) {
    return std::fabs(v) < std::numeric_limits<float>::min() ? std::copysign(0.0f, v) : v;
  }
  static void multiply(Tile& sum, int rows, const std::byte* a, const std::byte* b) {
    std::array<float, 32> left;
    static thread_local std::array<std::array<float, 32>, 16> right;
    for (size_t pair = 0; pair < 16; ++pair) {
      for (size_t j = 0; j < 32; ++j) right[pair][j] = flushed_float(bf16_to_f32(bits_at(b + 64 * pair, j)));
    }
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      for (size_t i = 0; i < 32; ++i) left[i] = flushed_float(bf16_to_f32(bits_at(a + 64 * r, i)));
      for (size_t n = 0; n < 16; ++n) {
        float even = 0, odd = 0;
        for (size_t pair = 0; pair < 16; ++pair) {
          even = flushed_float(std::fma(left[2 * pair], right[pair][2 * n], even));
          odd = flushed_float(std::fma(left[2 * pair + 1], right[pair][2 * n + 1], odd));
        }
        sum[r][n] = flushed_float(flushed_float(sum[r][n]) + flushed_float(even + odd));
      }
    }
  }
};

// Level kAmx in plain words, or as the catalog has it.
class AttentionTiles : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!GetParam() && !has_isa(Isa::kAmx)) GTEST_SKIP() << "this machine lacks " << isa_name(Isa::kAmx);
    kernel = *find_kernel("attention");
    if (GetParam()) kernel.fn[static_cast<size_t>(Isa::kAmx)] = tile_attention<PlainTileWords>;
  }
  Outputs run_tiles(const Case& c, int threads) const { return run(kernel, Isa::kAmx, c, threads); }
  // Where products round weights anew.
  Outputs run_rounded(const Case& c, int threads) const { return run(kernel, Isa::kAmx, c, threads, false, true); }
  Outputs run_reference(const Case& c) const { return run(kernel, Isa::kScalar, c, 1); }
  Kernel kernel = {};
};
INSTANTIATE_TEST_SUITE_P(Words, AttentionTiles, testing::Bool(),
                         [](const auto& p) { return std::string(p.param ? "plain" : "instructions"); });

struct TileShape {
  int64_t heads, kv_heads, head_dim, window;
  std::vector<std::pair<int64_t, int64_t>> sequences;  // length, queries
};

// Keys and values `size` times normal ones; places that no sequence has are NaN.
Case tile_case(Random& random, const TileShape& shape, float size = 1) {
  const auto& [heads, kv_heads, head_dim, window, sequences] = shape;
  int64_t columns = 1;
  for (const auto& [length, queries] : sequences) columns = std::max(columns, (length + kKvPageSize - 1) / kKvPageSize);
  const int64_t count = std::ssize(sequences), pages = columns * count, row = kv_row_bytes(DType::kF16, head_dim);
  Tensor kv{type(DType::kF16, {pages, 2 * kv_heads, kKvPageSize, head_dim}), 0, {}};
  kv.bytes.assign(static_cast<size_t>(pages * kv_page_bytes(DType::kF16, 2 * kv_heads, head_dim)), std::byte{0xff});
  std::vector<int32_t> table, positions, owners;
  std::vector<float> values(static_cast<size_t>(head_dim));
  std::normal_distribution<float> normal;
  for (int64_t s = 0; s < count; ++s) {
    const auto& [length, queries] = sequences[static_cast<size_t>(s)];
    for (int64_t p = 0; p < columns; ++p) table.push_back(static_cast<int32_t>(pages - 1 - (s + p * count)));
    for (int64_t j = 0; j < length; ++j) {
      const int64_t slot =
          int64_t{table[static_cast<size_t>(s * columns + j / kKvPageSize)]} * kKvPageSize + j % kKvPageSize;
      for (const KvPart part : {KvPart::kKeys, KvPart::kValues}) {
        for (int64_t head = 0; head < kv_heads; ++head) {
          for (float& v : values) v = size * normal(random);
          kv_store(DType::kF16, values.data(), head_dim, part,
                   kv.bytes.data() + kv_plane_offset(row, 2 * kv_heads, slot, part, head), slot % kKvPageSize);
        }
      }
    }
    for (int64_t j = length - queries; j < length; ++j) {
      positions.push_back(static_cast<int32_t>(j));
      owners.push_back(static_cast<int32_t>(s));
    }
  }
  const Dim tokens(Symbol::kT, std::ssize(positions));
  Case c;
  c.in = {floats(random, {tokens, heads * head_dim}, 2), kv, ints({tokens}, positions), ints({tokens}, owners),
          ints({Dim(Symbol::kS, count), columns}, table)};
  c.out = {output(c.in[0].type)};
  c.attrs = {{"heads", heads},
             {"kv_heads", kv_heads},
             {"head_dim", head_dim},
             {"scale", 1 / std::sqrt(static_cast<double>(head_dim))},
             {"window", window}};
  return c;
}

// Tokens [first, first + count) of a case, and of its outputs.
Case tile_tokens(const Case& all, int64_t first, int64_t count) {
  Case c = all;
  for (const size_t i : {0, 2, 3}) {
    const int64_t row = i == 0 ? dense_row_bytes(all.in[i].type) : 4;
    const auto begin = all.in[i].bytes.begin() + first * row;
    c.in[i].bytes = {begin, begin + count * row};
    c.in[i].type.dims[0].value = count;
  }
  c.out[0].type.dims[0].value = count;
  return c;
}
Outputs tile_outputs(const Case& all, const Outputs& y, int64_t first, int64_t count) {
  const int64_t row = dense_row_bytes(all.out[0].type);
  return {{y[0].begin() + first * row, y[0].begin() + (first + count) * row}};
}

double tile_error(const Outputs& got, const Outputs& want, const TensorType& type) {
  const std::vector<float> g = read(type, got[0]), w = read(type, want[0]);
  double off = 0, all = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    off += std::pow(static_cast<double>(g[i]) - w[i], 2);
    all += std::pow(static_cast<double>(w[i]), 2);
  }
  return std::sqrt(off / all);
}

const TileShape kTileShapes[] = {
    {8, 2, 64, 0, {{140, 37}}},         {3, 1, 16, 0, {{70, 5}, {33, 33}}},
    {7, 1, 40, 20, {{90, 50}}},         {14, 2, 64, 0, {{1, 1}, {64, 1}, {129, 1}, {300, 1}}},
    {6, 6, 80, 0, {{200, 2}, {31, 1}}}, {8, 1, 96, 100, {{260, 3}, {7, 7}}},
    {12, 3, 128, 0, {{97, 40}}},        {4, 1, 256, 0, {{65, 33}, {40, 1}}},
    {17, 1, 1, 3, {{40, 9}}},           {40, 2, 33, 0, {{50, 4}}}};

TEST_P(AttentionTiles, AreNearTheReference) {
  Random random(3);
  for (const TileShape& shape : kTileShapes) {
    for (const float size : {1.0f, 0.001f}) {
      if (GetParam() && size != 1.0f) continue;  // plain words are slow
      const Case c = tile_case(random, shape, size);
      EXPECT_LT(tile_error(run_tiles(c, 1), run_reference(c), c.out[0].type), 2e-5)
          << shape.heads << "/" << shape.kv_heads << " heads of " << shape.head_dim << ", values of " << size;
    }
  }
}

TEST_P(AttentionTiles, PassTheCasesOfTheFamily) {
  for (const Case& c : make_cases(kernel)) {
    if (c.in[1].type.dtype != DType::kF16) continue;
    SCOPED_TRACE(c.name);
    const Outputs got = run_tiles(c, 1);
    expect_near(c, c.tolerance_amx, got, run_reference(c));
    for (const int threads : {2, 3, 7}) {
      if (GetParam() && threads != 3) continue;
      EXPECT_TRUE(run_tiles(c, threads) == got) << "differs with " << threads << " threads";
    }
  }
}

TEST_P(AttentionTiles, DoNotDependOnTheirCompany) {
  Random random(4);
  for (const TileShape& shape : kTileShapes) {
    if (GetParam() && shape.head_dim > 64) continue;
    SCOPED_TRACE(testing::Message() << shape.heads << "/" << shape.kv_heads << " heads of " << shape.head_dim);
    const Case all = tile_case(random, shape);
    const Outputs want = run_tiles(all, 1);
    const int64_t tokens = all.in[0].type.dim(0).value;
    for (const int threads : {2, 3, 7, 40}) {
      if (GetParam() && threads != 3) continue;
      ASSERT_TRUE(run_tiles(all, threads) == want) << threads << " threads";
    }
    for (const int64_t chunk : {1, 2, 5, 16}) {
      if (GetParam() && chunk != 1 && chunk != 5) continue;
      for (int64_t t = 0; t < tokens; t += chunk) {
        const int64_t count = std::min(chunk, tokens - t);
        ASSERT_TRUE(run_tiles(tile_tokens(all, t, count), 1) == tile_outputs(all, want, t, count))
            << count << " tokens from " << t;
      }
    }
  }
}

// What some rows of a unit see and others do not: the others have the bits that they have without it.
TEST_P(AttentionTiles, NothingComesOfWhatARowDoesNotSee) {
  Random random(5);
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const int64_t window : {int64_t{0}, int64_t{30}}) {
    const TileShape shape = {8, 2, 48, window, {{150, 60}}};
    const int64_t kv_heads = shape.kv_heads, head_dim = shape.head_dim;
    const Case clean = tile_case(random, shape);
    const std::vector<float> before = read(clean.out[0].type, run_tiles(clean, 1)[0]);
    for (const float bad : {nan, inf, -inf}) {
      for (const bool is_value : {false, true}) {
        Case c = clean;
        const int64_t place = 120, head = 1;
        int32_t page;
        std::memcpy(&page, c.in[4].bytes.data() + 4 * (place / kKvPageSize), 4);
        const int64_t slot = int64_t{page} * kKvPageSize + place % kKvPageSize;
        std::byte* row = c.in[1].bytes.data() + kv_row_offset(kv_row_bytes(DType::kF16, head_dim), 2 * kv_heads, slot,
                                                              is_value ? kv_heads + head : head);
        const uint16_t bits = f32_to_f16(bad);
        std::memcpy(row + 2 * 5, &bits, 2);
        const Outputs got = run_tiles(c, 1);
        EXPECT_TRUE(run_tiles(c, 3) == got);
        const std::vector<float> y = read(c.out[0].type, got[0]), want = read(c.out[0].type, run_reference(c)[0]);
        for (size_t i = 0; i < y.size(); ++i) {
          const int64_t of = static_cast<int64_t>(i), at = 90 + of / (8 * head_dim), h = of / head_dim % 8;
          const bool sees = h / 4 == head && at >= place && (window == 0 || place > at - window);
          if (!sees) {
            ASSERT_EQ(y[i], before[i]) << "position " << at << " head " << h;
          } else if (std::isfinite(want[i])) {
            ASSERT_NEAR(y[i], want[i], 1e-4) << "position " << at << " head " << h;
          } else {
            ASSERT_TRUE(y[i] == want[i] || (std::isnan(y[i]) && std::isnan(want[i])))
                << y[i] << ", expected " << want[i] << " at position " << at << " head " << h;
          }
        }
        // The same bits where the rows that see it are computed without the others.
        for (const int64_t t : {0, 29, 30, 31, 59}) {
          ASSERT_TRUE(run_tiles(tile_tokens(c, t, 1), 1) == tile_outputs(c, got, t, 1)) << "token " << t;
        }
      }
    }
  }
}

// A query that is not finite is its own row's matter.
TEST_P(AttentionTiles, QueriesThatAreNotFinite) {
  Random random(6);
  const Case clean = tile_case(random, {8, 2, 64, 0, {{40, 20}}});
  const Outputs before = run_tiles(clean, 1);
  for (const uint32_t bad : {0x7fffffffu, 0x7fc00000u, 0xff800000u, 0x7f7fffffu}) {
    Case c = clean;
    const int64_t token = 7, head = 3;
    std::memcpy(c.in[0].bytes.data() + 4 * ((token * 8 + head) * 64 + 11), &bad, 4);
    const std::vector<float> y = read(c.out[0].type, run_tiles(c, 1)[0]),
                             want = read(c.out[0].type, run_reference(c)[0]), same = read(c.out[0].type, before[0]);
    for (size_t i = 0; i < y.size(); ++i) {
      if (static_cast<int64_t>(i) / 64 != token * 8 + head) {
        ASSERT_EQ(y[i], same[i]);
      } else {
        ASSERT_TRUE(std::fabs(y[i] - want[i]) < 1e-3f || (std::isnan(y[i]) && std::isnan(want[i])))
            << y[i] << ", expected " << want[i] << " of " << std::hex << bad;
      }
    }
  }
}

// One bf16 an operand errs by half a unit of 8 bits, 2^-9 at most, of keys, queries, weights and values.
TEST_P(AttentionTiles, OneBf16AnOperandFromSixtyFourTokensOn) {
  Random random(8);
  const TileShape shapes[] = {{8, 2, 64, 0, {{140, 100}}},
                              {7, 1, 40, 20, {{90, 70}, {33, 33}}},
                              {3, 1, 16, 0, {{70, 5}, {65, 65}}},
                              {4, 1, 129, 0, {{64, 64}}}};
  for (const TileShape& shape : shapes) {
    SCOPED_TRACE(testing::Message() << shape.heads << "/" << shape.kv_heads << " heads of " << shape.head_dim);
    const Case c = tile_case(random, shape);
    const Outputs got = run_rounded(c, 1);
    const double error = tile_error(got, run_reference(c), c.out[0].type);
    EXPECT_LT(error, 6e-3);
    EXPECT_GT(error, 2e-5) << "three products";
    for (const int threads : {2, 3, 7}) EXPECT_TRUE(run_rounded(c, threads) == got) << threads << " threads";
    const Case fewer = tile_tokens(c, 0, 63);
    EXPECT_TRUE(run_rounded(fewer, 2) == run_tiles(fewer, 1));
  }
}

TEST_P(AttentionTiles, OneBf16OfWhatIsNotFinite) {
  Random random(9);
  const TileShape shape = {8, 2, 64, 0, {{150, 70}}};
  const Case clean = tile_case(random, shape);
  const std::vector<float> before = read(clean.out[0].type, run_rounded(clean, 1)[0]);
  // 0x7fff: the NaN whose bits rounding would carry into the sign.
  for (const uint16_t bad : {uint16_t{0x7c00}, uint16_t{0xfc00}, uint16_t{0x7fff}, uint16_t{0xffff}}) {
    for (const bool is_value : {false, true}) {
      Case c = clean;
      const int64_t place = 120, head = 1;
      int32_t page;
      std::memcpy(&page, c.in[4].bytes.data() + 4 * (place / kKvPageSize), 4);
      const int64_t slot = int64_t{page} * kKvPageSize + place % kKvPageSize, heads = shape.kv_heads;
      std::memcpy(c.in[1].bytes.data() +
                      kv_row_offset(kv_row_bytes(DType::kF16, 64), 2 * heads, slot, is_value ? heads + head : head) +
                      10,
                  &bad, 2);
      const std::vector<float> y = read(c.out[0].type, run_rounded(c, 2)[0]),
                               want = read(c.out[0].type, run_reference(c)[0]);
      for (size_t i = 0; i < y.size(); ++i) {
        const int64_t of = static_cast<int64_t>(i), at = 80 + of / (8 * 64), h = of / 64 % 8;
        if (h / 4 != head || at < place) {
          ASSERT_EQ(y[i], before[i]) << "position " << at << " head " << h;
        } else if (std::isfinite(want[i])) {
          ASSERT_NEAR(y[i], want[i], 2e-2) << "position " << at << " head " << h;
        } else {
          ASSERT_TRUE(y[i] == want[i] || (std::isnan(y[i]) && std::isnan(want[i]))) << y[i] << ", expected " << want[i];
        }
      }
    }
  }
}

// Scores far apart: weights end at 2^-100, and a later score far above the others corrects what was summed.
TEST_P(AttentionTiles, LargeScores) {
  Random random(7);
  for (const float size : {30.0f, 1000.0f}) {
    Case c = tile_case(random, {4, 2, 64, 0, {{400, 40}}});
    for (size_t i = 0; i < c.in[0].bytes.size(); i += 4) {
      float v;
      std::memcpy(&v, c.in[0].bytes.data() + i, 4);
      v *= size;
      std::memcpy(c.in[0].bytes.data() + i, &v, 4);
    }
    // A score errs by 2^-16 of its terms, and a weight by as much as its score.
    EXPECT_LT(tile_error(run_tiles(c, 1), run_reference(c), c.out[0].type), 2e-5 * size);
  }
}

}  // namespace
}  // namespace ll::numerics
