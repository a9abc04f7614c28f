#include "tools/llcc/machine_rates.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <vector>

#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"
#include "runtime/base/read_bandwidth.h"
#include "runtime/device/cpu/machine.h"
#include "runtime/device/cpu/team.h"

namespace ll {
namespace {

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
using Memory = std::unique_ptr<std::byte, Free>;
Memory allocate(uint64_t bytes) {
  const uint64_t whole = (bytes + 63) / 64 * 64;
  Memory memory(static_cast<std::byte*>(std::aligned_alloc(64, whole)));
  if (memory) std::fill_n(memory.get(), whole, std::byte{});
  return memory;
}

Result<double> measure_operations(int threads) {
  constexpr int64_t kRows = 1024, kColumns = 2048, kTokens = 128, kPasses = 9;
  const Kernel& kernel = *find_kernel("linear_q8");
  const TensorType types[] = {{DType::kQ8A256, Layout::kRows, 2, {Dim(kTokens), Dim(kColumns)}},
                              {DType::kQ4_K, Layout::kX16, 2, {Dim(kRows), Dim(kColumns)}}};
  const TensorType out_type = {DType::kF32, Layout::kRows, 2, {Dim(kTokens), Dim(kRows)}};
  const uint64_t scratch_bytes = kernel.scratch({types, {&out_type, 1}, Attrs()});
  const Memory x = allocate(kTokens * q8a_row_bytes(kColumns)), y = allocate(4 * kTokens * kRows);
  const Memory w = allocate(static_cast<uint64_t>(*tensor_bytes(DType::kQ4_K, Layout::kX16, kRows, kColumns)));
  std::vector<Memory> scratch;
  for (int i = 0; i < threads; ++i) scratch.push_back(allocate(scratch_bytes));
  if (!x || !y || !w || std::find(scratch.begin(), scratch.end(), nullptr) != scratch.end()) {
    return error(Code::kOutOfMemory, "cannot allocate {} bytes to measure the rate of products", scratch_bytes);
  }
  const TensorView in[] = {
      {x.get(), q8a_row_bytes(kColumns), DType::kQ8A256, Layout::kRows, 2, {kTokens, kColumns}},
      {w.get(), row_bytes(DType::kQ4_K, kColumns), DType::kQ4_K, Layout::kX16, 2, {kRows, kColumns}}};
  const TensorView out[] = {{y.get(), 4 * kRows, DType::kF32, Layout::kRows, 2, {kTokens, kRows}}};
  TRY_ASSIGN(const std::unique_ptr<Team> team, Team::create(threads));
  const KernelFn fn = kernel_fn(kernel, best_isa());
  double fastest = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    team->run([&](uint32_t, int part, int thread) {
      fn({in, out, Attrs(), part, threads, {scratch[static_cast<size_t>(thread)].get(), scratch_bytes}});
    });
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    fastest = std::max(fastest, 2.0 * kRows * kColumns * kTokens / passed.count());
  }
  return fastest;
}

}  // namespace

Result<MachineRates> measure_machine_rates() {
  const Machine machine = read_machine();
  const int threads = default_threads(machine);
  uint64_t buffer = std::clamp<uint64_t>(8 * machine.l3_bytes, uint64_t{128} << 20, uint64_t{1} << 30);
  if (machine.available_bytes > 0) buffer = std::min(buffer, machine.available_bytes / 4);
  MachineRates rates;
  TRY_ASSIGN(rates.bytes_per_second, measure_read_bandwidth(buffer, threads));
  TRY_ASSIGN(rates.operations_per_second, measure_operations(threads));
  return rates;
}

}  // namespace ll
