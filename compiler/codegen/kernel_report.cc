#include "compiler/codegen/kernel_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "compiler/codegen/gpu.h"
#include "compiler/codegen/targets.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/tile8.h"
#include "runtime/base/escape.h"
#include "runtime/plan/cubin.h"

namespace ll {
namespace {

// Registers are given out to warps in multiples of 8 a thread.
constexpr uint32_t kRegisterStep = 8;
// What the system takes of a block's shared memory from sm_80 on; cubins state it from sm_90 on.
constexpr uint32_t kSystemShared = 1 << 10;

const cuda::Target* target_of(uint32_t sm) {
  const auto all = gpu_targets();
  const auto it = std::find_if(all.begin(), all.end(), [&](const cuda::Target& t) { return std::cmp_equal(t.sm, sm); });
  return it == all.end() ? nullptr : &*it;
}

uint32_t blocks_that_fit(const cuda::Target& target, const KernelFacts& k) {
  const auto limit = [](int64_t all, int64_t each) { return each == 0 ? all : all / each; };
  const int64_t registers = (k.registers + kRegisterStep - 1) / kRegisterStep * kRegisterStep;
  const int64_t shared = k.shared_bytes + (target.sm >= 80 && target.sm < 90 ? kSystemShared : 0);
  return static_cast<uint32_t>(
      std::min({limit(target.threads_per_sm, k.threads), int64_t{target.blocks_per_sm},
                limit(target.registers_per_sm, registers * k.threads), limit(target.shared_per_sm, shared)}));
}

// Bytes of one weight of the launch in kTile8; 0 where its weights are of several types or not quantized.
double bytes_of_a_weight(const Launch& launch) {
  double bytes = 0;
  for (const Operand& o : launch.inputs) {
    if (o.type.layout != Layout::kTile8) continue;
    const double each = static_cast<double>(tile8_bytes(o.type.dtype)) / static_cast<double>(kTile8Rows * kTile8K);
    if (bytes != 0 && bytes != each) return 0;
    bytes = each;
  }
  return bytes;
}

std::string line(const KernelFacts& k) {
  const SassLoop& loop = k.code.hottest;
  return fmt::format("{:<40} {:>5} {:>4} {:>4} {:>6} {:>5} {:>3} {:>4.0f}% {:>6} {:>5} {:>5} {:>5} {:>6}  {} %{}\n",
                     k.function, k.launches, k.threads, k.registers, k.shared_bytes, k.local_bytes, k.blocks_per_sm,
                     100 * k.occupancy, k.code.instructions, loop.instructions, loop.dots, loop.mmas,
                     k.instructions_per_byte > 0 ? fmt::format("{:.2f}", k.instructions_per_byte) : "-", k.kernel,
                     k.op);
}

nlohmann::ordered_json json_of(const KernelFacts& k) {
  const SassLoop& loop = k.code.hottest;
  return {{"function", k.function},
          {"kernel", k.kernel},
          {"op", k.op},
          {"launches", k.launches},
          {"threads", k.threads},
          {"registers", k.registers},
          {"shared_bytes", k.shared_bytes},
          {"local_bytes", k.local_bytes},
          {"blocks_per_sm", k.blocks_per_sm},
          {"occupancy", k.occupancy},
          {"instructions", k.code.instructions},
          {"local_accesses", k.code.local_accesses},
          {"loop",
           {{"instructions", loop.instructions},
            {"dots", loop.dots},
            {"mmas", loop.mmas},
            {"float_operations", loop.float_operations},
            {"conversions", loop.conversions}}},
          {"instructions_per_weight_byte", k.instructions_per_byte}};
}

}  // namespace

Result<std::vector<KernelFacts>> kernel_facts(const Plan& plan, size_t index) {
  const GpuTarget& gpu = plan.gpu_targets[index];
  const cuda::Target* const target = target_of(gpu.sm);
  std::vector<KernelFacts> facts;
  for (const GpuKernel& k : gpu.kernels) {
    KernelFacts f;
    f.function = k.function;
    f.threads = k.threads;
    f.registers = k.registers;
    f.shared_bytes = k.shared_bytes;
    f.local_bytes = k.local_bytes;
    if (target != nullptr) {
      TRY_ASSIGN(const Cubin cubin, read_cubin(k.code));
      const CubinKernel* const found = cubin.find(k.function);
      if (found == nullptr) return bad_data("the code of kernel {} does not hold it", quote(k.function));
      f.code = read_sass(found->code, cubin.sm);
    }
    facts.push_back(std::move(f));
  }
  const auto& programs = gpu_programs(plan);
  std::vector<uint32_t> dynamic(facts.size());
  for (size_t p = 0; p < programs.size(); ++p) {
    for (size_t l = 0; l < programs[p].launches.size(); ++l) {
      const Launch& launch = programs[p].launches[l];
      for (const GpuNode& node : gpu.programs[p][l]) {
        KernelFacts& f = facts[node.kernel];
        dynamic[node.kernel] = std::max(dynamic[node.kernel], node.dynamic_shared);
        if (f.launches++ > 0) continue;
        f.kernel = launch.kernel->name;
        f.op = launch.op;
        const double bytes = bytes_of_a_weight(launch) * 4 * f.code.hottest.dots;  // a dp4a takes four weights
        if (bytes > 0) f.instructions_per_byte = f.code.hottest.instructions / bytes;
      }
    }
  }
  for (size_t i = 0; i < facts.size(); ++i) {
    facts[i].shared_bytes += dynamic[i];
    if (target == nullptr) continue;
    facts[i].blocks_per_sm = blocks_that_fit(*target, facts[i]);
    facts[i].occupancy = static_cast<double>(facts[i].blocks_per_sm * facts[i].threads) / target->threads_per_sm;
  }
  return facts;
}

Result<std::string> kernel_report(const Plan& plan, std::string_view target, bool json) {
  std::string text;
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  std::string names;
  for (size_t i = 0; i < plan.gpu_targets.size(); ++i) {
    const GpuTarget& gpu = plan.gpu_targets[i];
    names += fmt::format("{}{}", names.empty() ? "" : ", ", gpu.name);
    if (!target.empty() && gpu.name != target) continue;
    TRY_ASSIGN(const auto facts, kernel_facts(plan, i));
    if (json) {
      nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
      for (const KernelFacts& k : facts) kernels.push_back(json_of(k));
      all.push_back({{"target", gpu.name}, {"isa", gpu.isa}, {"driver", gpu.driver}, {"kernels", std::move(kernels)}});
      continue;
    }
    text += fmt::format("{} (isa {}): {} kernels; driver {}.{} or newer\n", gpu.name, gpu.isa, facts.size(),
                        gpu.driver / 1000, gpu.driver % 1000 / 10);
    text += fmt::format("{:<40} {:>5} {:>4} {:>4} {:>6} {:>5} {:>3} {:>5} {:>6} {:>5} {:>5} {:>5} {:>6}  {}\n",
                        "kernel", "nodes", "thr", "regs", "shared", "local", "b/SM", "occ", "instr", "loop", "dp4a",
                        "mma", "instr/B", "first launch");
    for (const KernelFacts& k : facts) text += line(k);
  }
  if (text.empty() && all.empty()) {
    if (names.empty()) return usage("the plan is for no GPU");
    return usage("the plan has no GPU target {}, it has {}", quote(target), names);
  }
  return json ? all.dump(2) + "\n" : text;
}

}  // namespace ll
