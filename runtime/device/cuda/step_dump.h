// What every launch of a step has written, in a safetensors file a step: for comparing devices, kernels and versions.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/base/safetensors.h"
#include "runtime/device/device.h"
#include "runtime/plan/plan.h"

namespace ll {

class StepDump {
 public:
  // FOLDER/00012-PROGRAM.safetensors, which appears at commit(). One tensor for each output of each launch that is no
  // KV cache, named "0002 KERNEL %OP" (further outputs: "0002 KERNEL %OP.1"): rows of the step, f32 as it is, all else
  // as bytes. Makes the folder.
  static Result<StepDump> create(const std::string& folder, uint64_t number, const Program& program, const Step& step);

  // Bytes of output `o` in this step, rows one after another; 0: it is not in the file.
  static uint64_t bytes(const Operand& o, const Step& step);
  // The outputs in order.
  Status append(std::span<const std::byte> output) { return writer_.append(output); }
  Status commit() { return writer_.commit(); }

 private:
  explicit StepDump(safetensors::Writer writer) : writer_(std::move(writer)) {}
  safetensors::Writer writer_;
};

}  // namespace ll
