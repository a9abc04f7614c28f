#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_slice(const OpSpec& s, std::vector<TensorType>& results) {
  const int64_t start = s.attrs.i64("start"), size = s.attrs.i64("size");
  if (start + size > s.in(0).last().value) return expected(s, 0, "at least {} columns, start + size", start + size);
  TensorType t = s.in(0);
  t.dims[1] = Dim(size);
  results.push_back(t);
  return {};
}

constexpr OperandDef kSliceOperands[] = {{"x", Role::kActivation}};
constexpr AttrDef kSliceAttrs[] = {{"start", AttrKind::kInteger, 0}, {"size", AttrKind::kInteger, 1}};

}  // namespace

namespace op_rows {
extern constinit const OpDef slice{"slice",
                                   "x f32[T,N] -> f32[T,size]: columns start .. start+size-1 of x, without a copy",
                                   kSliceOperands,
                                   kSliceAttrs,
                                   1,
                                   infer_slice};
}
}  // namespace ll::ir
