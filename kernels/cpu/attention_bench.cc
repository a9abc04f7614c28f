// Decode and prefill attention of one layer on one thread, at every level of this machine (argument isa). GB/s counts
// each key and value that a step sees once, whatever the number of heads that share it; GFLOP/s counts a multiplication
// and an addition each.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "kernels/kernel.h"
#include "kernels/kv_layout.h"

namespace ll {
namespace {

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
using Memory = std::unique_ptr<std::byte, Free>;
Memory allocate(int64_t bytes) {
  return Memory(static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>((bytes + 63) / 64 * 64))));
}

// Arguments: KV dtype, heads, kv_heads, head_dim, context after the step, tokens of the step (1 = decode).
void attention(benchmark::State& state) {
  const auto isa = static_cast<Isa>(state.range(6));
  if (!has_isa(isa)) return state.SkipWithError("this machine lacks this level");
  const auto dtype = static_cast<DType>(state.range(0));
  const int64_t heads = state.range(1), kv_heads = state.range(2), head_dim = state.range(3), context = state.range(4);
  const int64_t tokens = state.range(5), pages = (context + kKvPageSize - 1) / kKvPageSize, width = heads * head_dim;
  const int64_t bytes = kv_row_bytes(dtype, head_dim);

  const Memory kv = allocate(pages * kv_page_bytes(dtype, 2 * kv_heads, head_dim));
  const Memory q = allocate(4 * tokens * width), y = allocate(4 * tokens * width);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> row(static_cast<size_t>(head_dim));
  for (int64_t r = 0; r < pages * 2 * kv_heads * kKvPageSize; ++r) {
    for (float& v : row) v = normal(random);
    const int64_t plane = r / kKvPageSize;
    const KvPart part = plane / kv_heads % 2 == 0 ? KvPart::kKeys : KvPart::kValues;
    kv_store(dtype, row.data(), head_dim, part, kv.get() + plane * kKvPageSize * bytes, r % kKvPageSize);
  }
  for (int64_t i = 0; i < tokens * width; ++i) reinterpret_cast<float*>(q.get())[i] = normal(random);
  std::vector<int32_t> positions, sequences(static_cast<size_t>(tokens), 0), table;
  for (int64_t t = 0; t < tokens; ++t) positions.push_back(static_cast<int32_t>(context - tokens + t));
  for (int64_t p = 0; p < pages; ++p) table.push_back(static_cast<int32_t>(pages - 1 - p));

  const auto view = [](void* data, DType type, int64_t row_bytes, std::initializer_list<int64_t> dims) {
    TensorView v{static_cast<std::byte*>(data), row_bytes, type, Layout::kRows, static_cast<int>(dims.size()), {}};
    std::copy(dims.begin(), dims.end(), v.dims.begin());
    return v;
  };
  const TensorView in[] = {view(q.get(), DType::kF32, 4 * width, {tokens, width}),
                           view(kv.get(), dtype, bytes, {pages, 2 * kv_heads, kKvPageSize, head_dim}),
                           view(positions.data(), DType::kI32, 4, {tokens}),
                           view(sequences.data(), DType::kI32, 4, {tokens}),
                           view(table.data(), DType::kI32, 4 * pages, {1, pages})};
  const TensorView out[] = {view(y.get(), DType::kF32, 4 * width, {tokens, width})};
  const Attr attrs[] = {
      {"heads", heads}, {"kv_heads", kv_heads}, {"head_dim", head_dim}, {"scale", 0.1}, {"window", int64_t{0}}};
  TensorType types[5];
  for (int i = 0; i < 5; ++i) {
    types[i] = {in[i].dtype, Layout::kRows, in[i].rank, {}};
    for (int d = 0; d < in[i].rank; ++d) types[i].dims[static_cast<size_t>(d)] = Dim(in[i].dim(d));
  }
  const Kernel& kernel = *find_kernel("attention");
  const LaunchSpec spec{types, {types, 1}, Attrs(attrs)};
  const uint64_t scratch_bytes = kernel.scratch(spec);
  const Memory scratch = allocate(static_cast<int64_t>(scratch_bytes));
  for (auto _ : state) {
    kernel_fn(kernel, isa)({in, out, Attrs(attrs), 0, 1, {scratch.get(), scratch_bytes}});
  }
  const double seconds = static_cast<double>(state.iterations());
  const double visible = static_cast<double>(context) - static_cast<double>(tokens - 1) / 2;
  state.counters["GB/s"] = benchmark::Counter(seconds * static_cast<double>(context * 2 * kv_heads * bytes) * 1e-9,
                                              benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] =
      benchmark::Counter(seconds * 4e-9 * static_cast<double>(tokens * width) * visible, benchmark::Counter::kIsRate);
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"kv", "heads", "kv_heads", "head_dim", "context", "tokens", "isa"})->Unit(benchmark::kMicrosecond);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8}) {
    const auto d = static_cast<int64_t>(dtype);
    for (const auto isa :
         {static_cast<int64_t>(Isa::kAvx2), static_cast<int64_t>(Isa::kAvx512), static_cast<int64_t>(Isa::kAmx)}) {
      bench->Args({d, 32, 8, 128, 8192, 1, isa});   // llama-3-8b decode
      bench->Args({d, 32, 8, 64, 8192, 1, isa});    // llama-3.2-1b decode
      bench->Args({d, 32, 32, 128, 8192, 1, isa});  // llama-2-7b decode, no groups
      bench->Args({d, 32, 8, 64, 512, 1, isa});     // short context, in cache
      bench->Args({d, 32, 8, 64, 512, 512, isa});   // prefill
      bench->Args({d, 32, 8, 128, 512, 512, isa});
    }
  }
}
BENCHMARK(attention)->Apply(shapes);

}  // namespace
}  // namespace ll
