// What a plan file holds: for llcc inspect. What its programs do: compiler/plan/explain.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan/plan.h"
#include "runtime/plan/weights.h"

namespace ll {

// Model, limits, sections, KV caches, tensors and programs.
std::string describe_plan(const Plan& plan);
// The same as one JSON object.
std::string describe_plan_json(const Plan& plan);

// A tensor of the plan as f32, row by row, padding rows left out. kUsage when there is none of that name.
struct TensorValues {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
Result<TensorValues> plan_tensor_values(const Plan& plan, const Weights& weights, std::string_view name);

}  // namespace ll
