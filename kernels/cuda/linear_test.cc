// The law of the linear family: an output's bits depend neither on the kernel nor on the tile that a batch chose. Runs
// on the emulator, over every block format, for weights and tokens that fill no tile.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "kernels/cuda/emulator/emulator.h"
#include "kernels/cuda/families.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"
#include "kernels/quant/tile8.h"

namespace ll::cuda {
namespace {

constexpr int kTokenCounts[] = {1, 2, 3, 5, 17, 33, 64, 65, 130};
constexpr int64_t kMaxTokens = 130;

// Aligned as device memory is.
struct Memory {
  explicit Memory(int64_t n) : words(static_cast<size_t>(n + 15) / 16 * 2, ~uint64_t{0}), bytes(n) {}
  std::byte* data() { return reinterpret_cast<std::byte*>(words.data()); }
  float* floats() { return reinterpret_cast<float*>(words.data()); }
  std::vector<uint64_t> words;
  int64_t bytes;
};

struct BlockFormat {
  DType dtype;
};
void PrintTo(const BlockFormat& format, std::ostream* out) { *out << dtype_name(format.dtype); }

class CudaLinear : public testing::TestWithParam<BlockFormat> {
 protected:
  void SetUp() override {
    const std::string cache = std::string(LLCUDA_BINARY_DIR) + "/emulated";
    std::filesystem::create_directories(cache);
    Result<Emulator> opened = Emulator::open(std::string(LLCUDA_SOURCE_DIR) + "/kernels/cuda", cache);
    if (!opened) GTEST_SKIP() << opened.error().message;
    emulator_.emplace(*std::move(opened));
  }

  // Rows of blocks, whose values are of ordinary size, in kTile8.
  Memory weight(DType dtype, int64_t n, int64_t k) {
    std::vector<float> values(static_cast<size_t>(n * k));
    for (float& v : values) v = normal_(random_);
    std::vector<std::byte> rows(static_cast<size_t>(n * row_bytes(dtype, k)));
    find_format(dtype)->quantize(values.data(), n * k, rows.data());
    Memory w(*tensor_bytes(dtype, Layout::kTile8, n, k));
    for (int64_t r = 0; r < n; r += kTile8Rows) {
      repack_rows_to_tile8(dtype, rows.data() + r * row_bytes(dtype, k), std::min(kTile8Rows, n - r), k,
                           w.data() + r / kTile8Rows * tile8_row_tile_bytes(dtype, k));
    }
    return w;
  }
  Memory activations(int64_t tokens, int64_t k) {
    std::vector<float> values(static_cast<size_t>(k));
    Memory x(tokens * q8a_row_bytes(k));
    for (int64_t t = 0; t < tokens; ++t) {
      for (float& v : values) v = normal_(random_);
      q8a_quantize_row(DType::kQ8A, values.data(), k, x.data() + t * q8a_row_bytes(k));
    }
    return x;
  }

  std::mt19937 random_{5};
  std::normal_distribution<float> normal_;
  std::optional<Emulator> emulator_;
};

// Sums in the order that linear_format.cuh states, in double.
float reference(DType dtype, const Memory& w, const Memory& x, int64_t n, int64_t k, int64_t t) {
  std::vector<float> row(static_cast<size_t>(k)), token(static_cast<size_t>(k));
  dequantize_row(dtype, Layout::kTile8, reinterpret_cast<const std::byte*>(w.words.data()), n, k, row.data());
  q8a_dequantize_row(reinterpret_cast<const std::byte*>(x.words.data()) + t * q8a_row_bytes(k), k, token.data());
  double sum = 0;
  for (size_t i = 0; i < row.size(); ++i) sum += static_cast<double>(row[i]) * token[i];
  return static_cast<float>(sum);
}

TEST_P(CudaLinear, BitsDoNotDependOnKernelTileOrBatch) {
  const DType dtype = GetParam().dtype;
  const int64_t block = find_format(dtype)->block_elements, n = 45;
  // One block; and enough tiles that depth warps get unequal shares, the last tile in part.
  for (const int64_t k : {block, int64_t{block == 32 ? 1376 : 1280}}) {
    Memory w = weight(dtype, n, k), x = activations(kMaxTokens, k);
    const TensorType in[] = {{DType::kQ8A, Layout::kRows, 2, {Dim(Symbol::kT, kMaxTokens), Dim(k)}},
                             {dtype, Layout::kTile8, 2, {Dim(n), Dim(k)}}};
    const TensorType out[] = {{DType::kF32, Layout::kRows, 2, {Dim(Symbol::kT, kMaxTokens), Dim(n)}}};
    const int64_t distances[] = {q8a_row_bytes(k), 0};
    const PlacedLaunch spec{{in, out, Attrs()}, distances};
    std::vector<KernelLaunch> launches;
    std::vector<Tuning> choices = {
        {{"linear.kernel", 1}, {"linear.ahead", 1}},
        {{"linear.kernel", 1}, {"linear.warps", 3}, {"linear.ahead", 2}},
        {{"linear.kernel", 1}, {"linear.warps", 2}, {"linear.row_warps", 2}, {"linear.row_tiles", 4}}};
    for (const int64_t tile : {0, 2, 4, 7, 8}) choices.push_back({{"linear.kernel", 2}, {"linear.tile", tile}});
    std::vector<Instance> instances;
    for (const Tuning& tuning : choices) {
      const Status lowered = lower_linear_q8(spec, Target{}, tuning, launches);
      ASSERT_TRUE(lowered) << lowered.error().message;
      instances.push_back(launches.back().instance);
    }
    const Status prepared = emulator_->prepare(instances);
    ASSERT_TRUE(prepared) << prepared.error().message;

    Memory all(4 * kMaxTokens * n);
    for (size_t i = 0; i < launches.size(); ++i) {
      for (const int tokens : kTokenCounts) {
        if (i == 0 && tokens != kMaxTokens) continue;
        if (i != 0 && k == block && tokens > 5) continue;
        Memory y(4 * kMaxTokens * n), step(sizeof(StepSizes));
        const StepSizes sizes{tokens, 0, 0, 0};
        std::memcpy(step.data(), &sizes, sizeof sizes);
        Args args{};
        args.in[0] = x.data(), args.in[1] = w.data(), args.out[0] = y.data();
        args.step = reinterpret_cast<const StepSizes*>(step.data());
        const Status ran = emulator_->launch(launches[i], args, i);
        ASSERT_TRUE(ran) << launches[i].note << ": " << ran.error().message;
        if (i == 0) {
          all = y;
          for (const int64_t t : {int64_t{0}, int64_t{77}, kMaxTokens - 1}) {
            for (int64_t r = 0; r < n; ++r) {
              const float want = reference(dtype, w, x, r, k, t), got = y.floats()[t * n + r];
              ASSERT_NEAR(got, want, 1e-4f * std::sqrt(static_cast<float>(k))) << "token " << t << " row " << r;
            }
          }
          continue;
        }
        ASSERT_EQ(std::memcmp(y.data(), all.data(), static_cast<size_t>(4 * tokens * n)), 0)
            << launches[i].note << ", " << tokens << " tokens, k = " << k;
        for (int64_t v = tokens * n; v < kMaxTokens * n; ++v) ASSERT_TRUE(std::isnan(y.floats()[v])) << "written";
      }
    }
  }
}

// What a step of one token runs gives the bits of what a longer one runs kernel by kernel: the norm, the gated product
// by mma and the quantization of its rows.
TEST_P(CudaLinear, KernelsThatQuantizeGiveTheBitsOfThoseTheyStandFor) {
  const DType dtype = GetParam().dtype;
  const int64_t block = find_format(dtype)->block_elements, k = block == 32 ? 1376 : 1280, n = 96, tokens = 3;
  Memory w_gate = weight(dtype, n, k), w_up = weight(dtype, n, k), x(4 * tokens * k), norm(4 * k);
  for (int64_t i = 0; i < tokens * k; ++i) x.floats()[i] = normal_(random_);
  for (int64_t i = 0; i < k; ++i) norm.floats()[i] = normal_(random_);
  const Dim t(Symbol::kT, tokens);
  const TensorType f32_x{DType::kF32, Layout::kRows, 2, {t, Dim(k)}}, q8a_x{DType::kQ8A, Layout::kRows, 2, {t, Dim(k)}},
      f32_norm{DType::kF32, Layout::kRows, 1, {Dim(k)}}, weights{dtype, Layout::kTile8, 2, {Dim(n), Dim(k)}},
      f32_y{DType::kF32, Layout::kRows, 2, {t, Dim(n)}}, q8a_y{DType::kQ8A, Layout::kRows, 2, {t, Dim(n)}};
  const Attr attrs[] = {{"eps", 1e-5}, {"act", std::string_view("silu")}};
  Memory x8(tokens * q8a_row_bytes(k)), y(4 * tokens * n), want(tokens * q8a_row_bytes(n)), got = want,
                                                                                            step(sizeof(StepSizes));
  const StepSizes sizes{static_cast<int>(tokens), 0, 0, 0};
  std::memcpy(step.data(), &sizes, sizeof sizes);

  const auto launch = [&](std::string_view kernel, const std::vector<TensorType>& in, const std::vector<Memory*>& given,
                          const TensorType& out, Memory& into, const Tuning& tuning) {
    std::vector<int64_t> distances;
    for (const TensorType& type : in) {
      distances.push_back(type.layout != Layout::kRows ? 0 : row_bytes(type.dtype, type.rank == 1 ? 1 : k));
    }
    if (kernel == "quantize") distances = {4 * n};
    std::vector<KernelLaunch> launches;
    const Status lowered =
        find_family(kernel)->lower({{in, {&out, 1}, Attrs(attrs)}, distances}, Target{}, tuning, launches);
    ASSERT_TRUE(lowered) << kernel << ": " << lowered.error().message;
    ASSERT_EQ(launches.size(), 1u);
    ASSERT_TRUE(emulator_->prepare({&launches[0].instance, 1}));
    Args args{};
    for (size_t i = 0; i < given.size(); ++i) args.in[i] = given[i]->data();
    args.out[0] = into.data();
    args.step = reinterpret_cast<const StepSizes*>(step.data());
    const Status ran = emulator_->launch(launches[0], args, 3);
    ASSERT_TRUE(ran) << kernel << ": " << ran.error().message;
  };
  launch("norm_quantize", {f32_x, f32_norm}, {&x, &norm}, q8a_x, x8, {});
  launch("gated_linear_q8", {q8a_x, weights, weights}, {&x8, &w_gate, &w_up}, f32_y, y, {{"linear.kernel", 2}});
  launch("quantize", {f32_y}, {&y}, q8a_y, want, {});
  launch("norm_gated_linear_quantize", {f32_x, f32_norm, weights, weights}, {&x, &norm, &w_gate, &w_up}, q8a_y, got,
         {});
  EXPECT_EQ(std::memcmp(got.data(), want.data(), static_cast<size_t>(want.bytes)), 0);
}

std::vector<BlockFormat> block_formats() {
  std::vector<BlockFormat> list;
  for (const Format& f : formats()) {
    if (f.kind == FormatKind::kQuantized) list.push_back({f.dtype});
  }
  return list;
}
INSTANTIATE_TEST_SUITE_P(Formats, CudaLinear, testing::ValuesIn(block_formats()),
                         [](const auto& p) { return std::string(dtype_name(p.param.dtype)); });

}  // namespace
}  // namespace ll::cuda
