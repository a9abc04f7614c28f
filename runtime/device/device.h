// What the engine asks of a device: it holds a plan's weights, arena and KV pool, and runs programs on filled steps.
// A device of another kind (CUDA) is another `open_x_device` with the same contract; the engine knows only this
// interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/device/cpu/placement.h"
#include "runtime/plan/plan.h"
#include "runtime/sampling/sampling.h"

namespace ll {

class HostSampling;

// Inputs of one step (kernels/kernel.h, step_inputs()). The engine's StepBuilder proves every index; devices and
// kernels trust them.
struct Step {
  std::vector<int32_t> tokens, positions, sequences, slots;  // [T]
  std::vector<int32_t> block_table;                          // [S, Plan::pages_per_sequence]
  std::vector<int32_t> rows;                                 // [R]
  uint32_t sequence_count = 0;                               // S

  uint32_t token_count() const { return static_cast<uint32_t>(tokens.size()); }
  uint32_t row_count() const { return static_cast<uint32_t>(rows.size()); }
};

struct DeviceInfo {
  std::string name;  // "cpu"
  std::string isa;   // level the kernels run at
  int threads = 1;
  uint64_t working_bytes = 0;  // arena, scratch, inputs, logits; not weights, not the KV pool
  bool kv_on_demand = false;   // pages of the KV pool take memory when first written, not when the device is opened
  uint32_t token_tile = 1;     // tokens that products take together: a step of more takes as long as the next multiple
  std::vector<NodeShare> shares{};  // NUMA nodes of the threads; empty: nothing is placed
  // With shares: whether the system keeps the threads there, and where memory of the device's own lies; if not as
  // wanted, why.
  std::string thread_placement{}, memory_placement{};
};

// Page `from` of every layer's KV cache to page `to`; both below Plan::pages.
struct PageCopy {
  uint32_t from = 0, to = 0;
};

// One step at a time: callers take turns. The plan outlives the device. An error of code kRetry means that the device
// is lost and the process must be restarted; after any other the device can go on.
class Device {
 public:
  Device();
  virtual ~Device();
  virtual DeviceInfo info() const = 0;
  // Runs Plan::programs[program], which must hold the step. Returns logits f32[R, vocab_size], valid until the next
  // run.
  virtual Result<std::span<const float>> run(size_t program, const Step& step) = 0;
  // Runs the program and chooses a token for each row of the step, rows[i] for row i. Returns one for each, valid until
  // the next run; a row that fails does not fail the others. A device that samples in a place of its own overrides
  // this and must choose the same tokens as Sampler does, but for rounding. This one samples run()'s logits on threads
  // of the host.
  virtual Result<std::span<const SampledToken>> run_sampled(size_t program, const Step& step,
                                                            std::span<const RowSampling> rows);
  // Copies in this order, as if one after another, after all runs before and before all runs after.
  virtual Status copy_pages(std::span<const PageCopy> copies) = 0;

 protected:
  // What samples on the host, made by the first call.
  Result<HostSampling*> sampling();
  // What that call makes: on a team of its own.
  virtual Result<std::unique_ptr<HostSampling>> make_sampling();

 private:
  std::unique_ptr<HostSampling> sampling_;
};

}  // namespace ll
