// A plan under construction: what code generation hands to the writer.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/type.h"
#include "runtime/base/mapped_file.h"
#include "runtime/plan/plan.h"

namespace ll {

// Where the bytes of a tensor of the plan come from, in rows.
struct TensorData {
  std::span<const std::byte> bytes;
  DType dtype = DType::kF32;            // as the file has it
  const MappedFile* mapping = nullptr;  // whose pages may leave memory once `bytes` was read; null: none
  int32_t source = -1;                  // index into PlanDraft::sources; -1: a constant, always embedded
  uint64_t offset = 0;                  // of `bytes` in that file
};

struct DraftSource {
  std::string name;  // bare
  std::span<const std::byte> bytes;
  const MappedFile* mapping = nullptr;
};

// `plan` has the very structs that a reader gets, so that what is written can be compared with what is read. Its names
// are views into this object. The writer fills in where tensors lie (PlanTensor::source...) and Plan::sources.
struct PlanDraft {
  Plan plan;
  std::vector<TensorData> data;      // of plan.tensors
  std::vector<DraftSource> sources;  // files that TensorData::source names
  std::string tokenizer;             // section bytes; empty: none
  std::string chat_template, graph;
  std::string gpu_code;  // section bytes: what GpuKernel::code_offset and ptx_offset count in

  // A copy of `text` that lives as long as this object.
  std::string_view intern(std::string_view text) { return *strings_.emplace(text).first; }
  // Keeps the values of a constant.
  std::span<const std::byte> keep(const std::vector<float>& values) {
    constants_.push_back(values);
    return std::as_bytes(std::span(constants_.back()));
  }

 private:
  std::set<std::string, std::less<>> strings_;
  std::deque<std::vector<float>> constants_;
};

}  // namespace ll
