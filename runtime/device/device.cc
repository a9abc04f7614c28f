#include "runtime/device/device.h"

#include "runtime/sampling/sampler.h"

namespace ll {

Device::Device() = default;
Device::~Device() = default;

Result<std::span<const SampledToken>> Device::run_sampled(size_t program, const Step& step,
                                                          std::span<const RowSampling> rows) {
  if (rows.size() != step.row_count()) {
    return error(Code::kInternal, "{} rows to sample, the step has {}", rows.size(), step.row_count());
  }
  TRY_ASSIGN(const auto logits, run(program, step));
  if (sampler_ == nullptr) sampler_ = std::make_unique<Sampler>();
  const size_t vocab = rows.empty() ? 0 : logits.size() / rows.size();
  sampled_.clear();
  for (size_t i = 0; i < rows.size(); ++i) {
    sampled_.push_back(sampler_->sample(logits.subspan(i * vocab, vocab), rows[i]));
  }
  return std::span<const SampledToken>(sampled_);
}

}  // namespace ll
