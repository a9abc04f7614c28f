// linear and linear_q8 on one thread at every level of this machine: GEMV (1 token), batches and prompts. GB/s counts
// the weights' bytes once a launch, `of stream` is its part of what this thread streams from memory, measured first;
// GMAC/s counts multiplications.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>

#include "kernels/kernel.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"
#include "runtime/base/read_bandwidth.h"

namespace ll {
namespace {

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
using Memory = std::unique_ptr<std::byte, Free>;
Memory allocate(int64_t bytes) {
  return Memory(static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>((bytes + 63) / 64 * 64))));
}

// [n, k] of this dtype in the layout of its kernel: one block row repeated (timing does not depend on values).
Memory make_weight(DType dtype, Layout layout, int64_t n, int64_t k) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(k));
  for (float& v : values) v = normal(random);
  const int64_t row = row_bytes(dtype, k);
  std::vector<std::byte> rows(static_cast<size_t>(kPanelRows * row));
  for (int64_t r = 0; r < kPanelRows; ++r) find_format(dtype)->quantize(values.data(), k, rows.data() + r * row);
  Memory w = allocate(*tensor_bytes(dtype, layout, n, k));
  for (int64_t r = 0; r < n; r += kPanelRows) {
    if (layout == Layout::kX16) {
      repack_rows_to_x16(dtype, rows.data(), kPanelRows, k, w.get() + r * row);
    } else {
      std::copy(rows.begin(), rows.end(), w.get() + r * row);
    }
  }
  return w;
}

double stream_bandwidth = 0;  // bytes a second

void linear(benchmark::State& state, DType dtype, Isa isa) {
  const int64_t n = state.range(0), k = state.range(1), tokens = state.range(2);
  const bool q8 = is_quantized_dtype(dtype);
  const Layout layout = q8 ? Layout::kX16 : Layout::kRows;
  const Memory w = make_weight(dtype, layout, n, k), y = allocate(4 * tokens * n);
  const DType x_dtype = q8 ? q8a_for_x16(dtype) : DType::kF32;
  const int64_t x_row = row_bytes(x_dtype, k);
  const Memory x = allocate(tokens * x_row);
  std::vector<float> values(static_cast<size_t>(k));
  for (int64_t i = 0; i < k; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i % 17) - 8;
  for (int64_t t = 0; t < tokens; ++t) {
    if (q8) {
      q8a_quantize_row(x_dtype, values.data(), k, x.get() + t * x_row);
    } else {
      find_format(DType::kF32)->quantize(values.data(), k, x.get() + t * x_row);
    }
  }
  const TensorView in[] = {{x.get(), x_row, x_dtype, Layout::kRows, 2, {tokens, k}},
                           {w.get(), row_bytes(dtype, k), dtype, layout, 2, {n, k}}};
  const TensorView out[] = {{y.get(), 4 * n, DType::kF32, Layout::kRows, 2, {tokens, n}}};
  const Kernel& kernel = *find_kernel(q8 ? "linear_q8" : "linear");
  const TensorType types[] = {{in[0].dtype, Layout::kRows, 2, {Dim(tokens), Dim(k)}},
                              {dtype, layout, 2, {Dim(n), Dim(k)}}};
  const TensorType out_type = {DType::kF32, Layout::kRows, 2, {Dim(tokens), Dim(n)}};
  const uint64_t scratch_bytes = kernel.scratch({types, {&out_type, 1}, Attrs()});
  const Memory scratch = allocate(static_cast<int64_t>(scratch_bytes));
  const KernelFn fn = kernel_fn(kernel, isa);
  for (auto _ : state) fn({in, out, Attrs(), 0, 1, {scratch.get(), scratch_bytes}});
  const auto runs = static_cast<double>(state.iterations());
  const double bytes = runs * static_cast<double>(*tensor_bytes(dtype, layout, n, k));
  state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsRate);
  state.counters["of stream"] = benchmark::Counter(bytes / stream_bandwidth, benchmark::Counter::kIsRate);
  state.counters["GMAC/s"] =
      benchmark::Counter(runs * 1e-9 * static_cast<double>(n * k * tokens), benchmark::Counter::kIsRate);
}

}  // namespace
}  // namespace ll

int main(int argc, char** argv) {
  const auto bandwidth = ll::measure_read_bandwidth(256 << 20, 1);
  if (!bandwidth) {
    std::fprintf(stderr, "%s\n", bandwidth.error().message.c_str());
    return 1;
  }
  ll::stream_bandwidth = *bandwidth;
  std::printf("this thread streams %.1f GB/s\n", *bandwidth * 1e-9);
  for (const ll::Format& f : ll::formats()) {
    if (!ll::is_weight_dtype(f.dtype)) continue;
    for (int level = 1; level < ll::kIsaCount; ++level) {
      const auto isa = static_cast<ll::Isa>(level);
      if (!ll::has_isa(isa)) continue;
      const std::string name = std::string(f.name) + "/" + ll::isa_name(isa);
      auto* bench = benchmark::RegisterBenchmark(name.c_str(), ll::linear, f.dtype, isa);
      bench->ArgNames({"n", "k", "tokens"})->Unit(benchmark::kMicrosecond);
      bench->Args({16384, 4096, 1})->Args({256, 1024, 1})->Args({4096, 2048, 8})->Args({512, 4096, 64});
      bench->Args({2048, 2048, 512});
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
