#include "runtime/plan/gpu_memory.h"

#include <algorithm>

#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/prim/args.h"
#include "kernels/shortlist.h"
#include "runtime/base/checked.h"
#include "runtime/plan/container.h"

namespace ll {
namespace {

constexpr uint64_t kAlignment = 256;

// Takes pieces one after another.
class Cursor {
 public:
  uint64_t add(uint64_t bytes) {
    const uint64_t offset = end_;
    const auto end = checked_add(end_, bytes);
    end_ = end ? checked_align_up(*end, kAlignment).value_or(UINT64_MAX) : UINT64_MAX;
    return offset;
  }
  uint64_t end() const { return end_; }

 private:
  uint64_t end_ = 0;
};

}  // namespace

GpuMemory::GpuMemory(const Plan& plan, const GpuTarget& target) {
  Cursor all;
  const std::vector<bool> used = plan.tensors_in_use();
  tensors.assign(plan.tensors.size(), UINT64_MAX);
  // The file's own distances are kept within a run: a multiple of kTensorAlignment each.
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlanTensor& t = plan.tensors[i];
    if (!used[i] || t.source >= 0) continue;
    const bool goes_on = !runs.empty() && i > 0 && used[i - 1] && plan.tensors[i - 1].source < 0;
    if (!goes_on) runs.push_back({t.source_offset, 0, 0});
    runs.back().bytes = t.source_offset + t.source_bytes - runs.back().file_offset;
  }
  for (WeightRun& run : runs) run.device_offset = all.add(run.bytes);
  size_t run = 0;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlanTensor& t = plan.tensors[i];
    if (!used[i]) continue;
    if (t.source >= 0) {
      tensors[i] = all.add(t.bytes);
      continue;
    }
    while (t.source_offset >= runs[run].file_offset + runs[run].bytes) ++run;
    tensors[i] = runs[run].device_offset + (t.source_offset - runs[run].file_offset);
  }
  weight_bytes = all.end();
  kv = all.add(plan.kv_pool_bytes);
  kv_bytes = all.end() - kv;
  arena = all.add(plan.arena_bytes);
  logits = all.add(sizeof(float) * plan.max_rows * uint64_t{plan.model.vocab_size});
  const bool lists =
      std::any_of(plan.programs.begin(), plan.programs.end(), [](const Program& p) { return p.has_shortlists; });
  shortlist_bytes = lists ? sizeof(float) * plan.max_rows * uint64_t{kShortlistWords} : 0;
  shortlists = all.add(shortlist_bytes);
  workspace_zeroed = checked_align_up(target.workspace_zeroed_bytes, kAlignment).value_or(UINT64_MAX);
  workspace = all.add(workspace_zeroed);
  all.add(target.workspace_bytes);

  uint64_t max_tokens = 0, max_sequences = 0;
  for (const Program& p : plan.programs) {
    max_tokens = std::max<uint64_t>(max_tokens, p.max_tokens);
    max_sequences = std::max<uint64_t>(max_sequences, p.max_sequences);
  }
  Cursor parts;
  sizes = parts.add(sizeof(cuda::StepSizes));
  work_bytes = sizeof(cuda::AttentionItem) * cuda::most_attention_items(max_tokens);
  work = parts.add(work_bytes);
  for (const StepInput& input : ll::step_inputs()) {
    const uint64_t columns = input.rank == 2 ? plan.pages_per_sequence : 1;
    const uint64_t rows = input.symbol == Symbol::kT   ? max_tokens
                          : input.symbol == Symbol::kS ? max_sequences
                                                       : plan.max_rows;
    step_inputs.push_back(input.rank == 2 ? 0 : parts.add(sizeof(int32_t) * rows * columns));
  }
  for (size_t i = 0; i < step_inputs.size(); ++i) {
    if (ll::step_inputs()[i].rank == 2) {
      step_inputs[i] = parts.add(sizeof(int32_t) * max_sequences * uint64_t{plan.pages_per_sequence});
    }
  }
  input_bytes = parts.end();
  inputs = all.add(input_bytes);
  total = all.end();
}

}  // namespace ll
