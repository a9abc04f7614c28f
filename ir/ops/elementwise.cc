// Element by element: add, mul, activation.
#include "ir/ops.h"

namespace ll::ir {
namespace {

Status infer_binary(const OpSpec& s, std::vector<TensorType>& results) {
  TRY(check_like(s, 1, 0));
  results.push_back(s.in(0));
  return {};
}

Status infer_activation(const OpSpec& s, std::vector<TensorType>& results) {
  results.push_back(s.in(0));
  return {};
}

constexpr OperandDef kBinary[] = {{"a", Role::kActivation}, {"b", Role::kActivation}};
constexpr OperandDef kUnary[] = {{"x", Role::kActivation}};
constexpr AttrDef kAct[] = {{.name = "act", .kind = AttrKind::kText, .choices = kActivations}};

}  // namespace

namespace op_rows {
extern constinit const OpDef add{"add", "a, b f32[T,N] -> f32[T,N]: a + b", kBinary, {}, 1, infer_binary};
extern constinit const OpDef mul{"mul", "a, b f32[T,N] -> f32[T,N]: a * b", kBinary, {}, 1, infer_binary};
extern constinit const OpDef activation{"activation",    "x f32[T,N] -> f32[T,N]: act(x)", kUnary, kAct, 1,
                                        infer_activation};
}  // namespace op_rows
}  // namespace ll::ir
