#include "runtime/device/device.h"

#include "runtime/device/host_sampling.h"

namespace ll {

Device::Device() = default;
Device::~Device() = default;

Result<std::span<const SampledToken>> Device::run_sampled(size_t program, const Step& step,
                                                          std::span<const RowSampling> rows) {
  if (rows.size() != step.row_count()) {
    return error(Code::kInternal, "{} rows to sample, the step has {}", rows.size(), step.row_count());
  }
  TRY_ASSIGN(const auto logits, run(program, step));
  TRY_ASSIGN(HostSampling* const host, sampling());
  return host->sample(logits, rows);
}

Result<HostSampling*> Device::sampling() {
  if (sampling_ == nullptr) {
    TRY_ASSIGN(sampling_, make_sampling());
  }
  return sampling_.get();
}

Result<std::unique_ptr<HostSampling>> Device::make_sampling() { return HostSampling::create(); }

}  // namespace ll
