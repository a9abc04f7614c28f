// Ops without operands: where values come from.
#include <algorithm>

#include "ir/ops.h"
#include "kernels/kernel.h"
#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"

namespace ll::ir {
namespace {

Status infer_input(const OpSpec& s, std::vector<TensorType>& results) {
  const std::string_view name = s.attrs.text("name");
  const auto inputs = step_inputs();
  const auto row = std::find_if(inputs.begin(), inputs.end(), [&](const StepInput& i) { return i.name == name; });
  if (row == inputs.end()) {
    std::string names;
    for (const StepInput& i : inputs) names += fmt::format("{}{}", names.empty() ? "" : ", ", i.name);
    return bad_data("input: name is \"{}\", expected one of {}", name, names);
  }
  TensorType t{.dtype = row->dtype, .rank = row->rank, .dims = {Dim(row->symbol, 0)}};
  if (!s.declared.empty()) {
    // Bounds of symbols and the columns of the block table are free: a bucket or a plan sets them.
    TensorType given = s.declared[0];
    if (given.rank == t.rank && t.rank == 2 && given.dim(1).symbol == Symbol::kNone) t.dims[1] = given.dim(1);
    if (!(given == t) || given.dim(0).value > kMaxDim || given.last().value > kMaxDim) {
      return bad_data("input: \"{}\" is {}, expected {}", name, type_text(given), type_text(t));
    }
    t = given;
  }
  results.push_back(t);
  return {};
}

bool is_size(Dim d) { return d.symbol == Symbol::kNone && d.value >= 1 && d.value <= kMaxDim; }

Status infer_weight(const OpSpec& s, std::vector<TensorType>& results) {
  const TensorType& t = s.declared[0];
  const std::string_view name = s.attrs.text("name");
  if (t.rank == 1) {
    if (t.dtype != DType::kF32 || t.layout != Layout::kRows || !is_size(t.dim(0))) {
      return bad_data("weight: \"{}\" is {}, expected f32[n] (vectors are always f32)", name, type_text(t));
    }
  } else {
    if (t.rank != 2 || !is_size(t.dim(0)) || !is_size(t.dim(1)) || !is_weight_dtype(t.dtype)) {
      return bad_data("weight: \"{}\" is {}, expected a matrix [n,k] of a weight type or f32[n]", name, type_text(t));
    }
    if (!tensor_bytes(t.dtype, t.layout, t.dim(0).value, t.dim(1).value)) {
      return bad_data("weight: \"{}\" is {}, expected columns in blocks of {} and a layout that {} has", name,
                      type_text(t), find_format(t.dtype)->block_elements, dtype_name(t.dtype));
    }
  }
  results.push_back(t);
  return {};
}

Status infer_constant(const OpSpec& s, std::vector<TensorType>& results) {
  const auto* values = std::get_if<std::vector<float>>(s.attrs.find("values"));
  results.push_back(vector(DType::kF32, static_cast<int64_t>(values->size())));
  return {};
}

Status infer_kv_cache(const OpSpec& s, std::vector<TensorType>& results) {
  const TensorType& t = s.declared[0];
  const bool shape = is_kv(t) && t.dim(1).value >= 2 && t.dim(1).value % 2 == 0 && t.dim(1).value <= kMaxDim &&
                     t.dim(2).value == kKvPageSize && t.dim(3).value >= 1 && t.dim(3).value <= kMaxDim &&
                     t.dim(0).value >= 0 && t.dim(0).value <= kMaxDim && t.layout == Layout::kRows;
  if (!shape || kv_row_bytes(t.dtype, 1) == 0) {
    return bad_data("kv_cache: type is {}, expected kv<f32>, kv<f16> or kv<q8> [kv_heads,head_dim]", type_text(t));
  }
  results.push_back(t);
  return {};
}

constexpr AttrDef kName[] = {{"name", AttrKind::kText}};
constexpr AttrDef kValues[] = {{"values", AttrKind::kNumbers}};
constexpr AttrDef kIndex[] = {{"index", AttrKind::kInteger, 0, 65535}};

}  // namespace

namespace op_rows {
extern constinit const OpDef input{
    "input", "-> i32[T], i32[R] or i32[S,P]: filled by the engine before each step", {}, kName, 1, infer_input};
extern constinit const OpDef weight{"weight", "-> a tensor of the model, [n,k] or f32[n]", {}, kName, 1, infer_weight,
                                    true};
extern constinit const OpDef constant{"constant", "-> f32[n] written in the graph", {}, kValues, 1, infer_constant};
extern constinit const OpDef kv_cache{
    "kv_cache", "-> the KV cache of one layer as the last step left it", {}, kIndex, 1, infer_kv_cache, true};
}  // namespace op_rows
}  // namespace ll::ir
