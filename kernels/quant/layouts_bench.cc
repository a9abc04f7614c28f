// Repacking rows to kX16 and dequantizing them, on one thread. GB/s counts the blocks' bytes.
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/quant/layouts.h"

namespace ll {
namespace {

constexpr int64_t kColumns = 4096;

std::vector<std::byte> random_rows(DType dtype, int64_t rows) {
  std::mt19937 random(1);
  std::vector<std::byte> bytes(static_cast<size_t>(rows * row_bytes(dtype, kColumns)));
  for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 0x3f);
  return bytes;
}

void rate(benchmark::State& state, size_t bytes) {
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * 1e-9 * static_cast<double>(bytes), benchmark::Counter::kIsRate);
}

void repack(benchmark::State& state, DType dtype) {
  const auto rows = random_rows(dtype, kPanelRows);
  std::vector<std::byte> panel(rows.size());
  for (auto _ : state) {
    repack_rows_to_x16(dtype, rows.data(), kPanelRows, kColumns, panel.data());
    benchmark::DoNotOptimize(panel.data());
  }
  rate(state, rows.size());
}

void dequantize(benchmark::State& state, DType dtype) {
  const auto rows = random_rows(dtype, 1);
  std::vector<float> values(kColumns);
  for (auto _ : state) {
    dequantize_row(dtype, Layout::kRows, rows.data(), 0, kColumns, values.data());
    benchmark::DoNotOptimize(values.data());
  }
  rate(state, rows.size());
}

}  // namespace
}  // namespace ll

int main(int argc, char** argv) {
  for (const ll::Format& f : ll::formats()) {
    if (f.kind != ll::FormatKind::kQuantized) continue;
    benchmark::RegisterBenchmark(("repack/" + std::string(f.name)).c_str(), ll::repack, f.dtype);
    benchmark::RegisterBenchmark(("dequantize/" + std::string(f.name)).c_str(), ll::dequantize, f.dtype);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
