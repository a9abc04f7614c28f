#include "compiler/codegen/gpu_fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>

#include "compiler/codegen/codegen.h"
#include "compiler/codegen/gpu.h"
#include "runtime/plan/gpu_memory.h"

namespace ll {
namespace {

std::string gib(uint64_t bytes) { return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / 0x1p30); }

// What may be turned; the rest of the plan stays. With less of it no program grows, so that what fits here fits when
// it is compiled so.
struct Shape {
  uint32_t pages_per_sequence = 0, max_batch = 0;
  bool q8 = false;
};

class Fit {
 public:
  Fit(const Plan& plan, const GpuTarget& target, uint64_t budget) : plan_(plan), target_(target), budget_(budget) {}

  GpuMemory memory(const Shape& shape) const {
    Plan plan = plan_;
    plan.pages_per_sequence = shape.pages_per_sequence;
    plan.max_batch = shape.max_batch;
    for (KvCache& cache : plan.kv_caches) cache.type.dtype = shape.q8 ? DType::kI8 : cache.type.dtype;
    // A smaller pool than one that could be numbered.
    if (!size_kv_pool(plan)) plan.kv_pool_bytes = UINT64_MAX;
    return GpuMemory(plan, target_);
  }
  bool fits(const Shape& shape) const { return memory(shape).needed_bytes() <= budget_; }
  // The largest value of `member` that fits, below the shape's own; 0: none.
  uint32_t most(Shape shape, uint32_t Shape::*member) const {
    uint32_t fitting = 0, too_many = shape.*member;
    while (too_many - fitting > 1) {
      shape.*member = fitting + (too_many - fitting) / 2;
      (fits(shape) ? fitting : too_many) = shape.*member;
    }
    return fitting;
  }

 private:
  const Plan& plan_;
  const GpuTarget& target_;
  const uint64_t budget_;
};

// "--ctx-size 2048, --max-batch 2 or --kv-type q8".
std::string knobs(const Fit& fit, const Shape& now, uint32_t page_size) {
  std::vector<std::string> list;
  if (const uint32_t pages = fit.most(now, &Shape::pages_per_sequence); pages > 0) {
    list.push_back(fmt::format("--ctx-size {}", pages * page_size));
  }
  if (const uint32_t batch = fit.most(now, &Shape::max_batch); batch > 0) {
    list.push_back(fmt::format("--max-batch {}", batch));
  }
  Shape q8 = now;
  q8.q8 = true;
  if (!now.q8 && fit.fits(q8)) list.push_back("--kv-type q8");
  if (!list.empty()) {
    std::string text = list[0];
    for (size_t i = 1; i < list.size(); ++i) text += (i + 1 == list.size() ? " or " : ", ") + list[i];
    return text;
  }
  q8.max_batch = 1;
  if (const uint32_t pages = fit.most(q8, &Shape::pages_per_sequence); pages > 0) {
    return fmt::format("--kv-type q8 --max-batch 1 --ctx-size {}", pages * page_size);
  }
  return "";
}

Status check(const Plan& plan, const GpuTarget& target, uint64_t budget) {
  const Fit fit(plan, target, budget);
  const bool q8 = !plan.kv_caches.empty() && plan.kv_caches[0].type.dtype == DType::kI8;
  const Shape now{plan.pages_per_sequence, plan.max_batch, q8};
  const GpuMemory memory = fit.memory(now);
  if (memory.needed_bytes() <= budget) return {};
  const std::string turn = knobs(fit, now, plan.page_size);
  return error(Code::kOutOfMemory,
               "{} needs {} of GPU memory on {} ({} weights, {} KV pages for {} sequences of {} tokens, {} working "
               "memory, {} for code and graphs), more than --gpu-memory {}; {}",
               plan.model.name, gib(memory.needed_bytes()), target.name, gib(memory.weight_bytes), gib(memory.kv_bytes),
               plan.max_batch, plan.model.context_length, gib(memory.working_bytes()), gib(kGpuReserve), gib(budget),
               turn.empty() ? "no context is small enough: use weights of fewer bits" : "it fits with " + turn);
}

}  // namespace

Status check_gpu_memory(const PlanDraft& draft, const std::vector<cuda::Target>& targets, const cuda::Tuning& tuning,
                        uint64_t budget) {
  Plan plan = draft.plan;
  if (plan.backend != Backend::kGpu) std::swap(plan.programs, plan.other_programs);
  plan.backend = Backend::kGpu;
  plan.other_programs.clear();
  for (const Program& p : plan.programs) {
    plan.arena_bytes = std::max(plan.arena_bytes, p.arena_bytes);
    plan.max_rows = std::max(plan.max_rows, p.max_rows);
  }
  for (const cuda::Target& t : targets) {
    GpuTarget target;
    target.name = t.name;
    for (const Program& p : plan.programs) {
      TRY_ASSIGN(const GpuProgramNodes nodes, lower_for_gpu(p, t, tuning));
      for (const auto& launch : nodes.launches) {
        for (const cuda::KernelLaunch& k : launch) {
          target.workspace_bytes = std::max(target.workspace_bytes, k.workspace);
          target.workspace_zeroed_bytes = std::max(target.workspace_zeroed_bytes, k.workspace_zeroed);
        }
      }
    }
    TRY(check(plan, target, budget));
  }
  return {};
}

}  // namespace ll
