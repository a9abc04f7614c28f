#include "ir/ops.h"

#include <fmt/format.h>

#include <cmath>

#include "kernels/kernel.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"

namespace ll::ir {

namespace op_rows {
extern const OpDef input, weight, constant, kv_cache, embed, rms_norm, linear, add, mul, activation, rope, kv_write,
    attention, gather_rows, slice, quantize, merged_linear, gated_linear, linear_add, norm_quantize, rope_kv_write,
    norm_linear, norm_merged_linear, norm_gated_linear, norm_gated_linear_quantize, quantize_linear,
    quantize_linear_add, norm_qkv_rope_kv_write;
}

std::span<const OpDef* const> ops() {
  using namespace op_rows;
  static constexpr const OpDef* kOps[] = {
      // Sources.
      &input, &weight, &constant, &kv_cache,
      // What front ends build.
      &embed, &rms_norm, &linear, &add, &mul, &activation, &rope, &kv_write, &attention, &gather_rows,
      // What passes make of them.
      &slice, &quantize, &merged_linear, &gated_linear, &linear_add, &norm_quantize, &rope_kv_write, &norm_linear,
      &norm_merged_linear, &norm_gated_linear, &norm_gated_linear_quantize, &quantize_linear, &quantize_linear_add,
      &norm_qkv_rope_kv_write};
  return kOps;
}

const OpDef* find_op(std::string_view name) {
  for (const OpDef* def : ops()) {
    if (def->name == name) return def;
  }
  return nullptr;
}

std::span<const AttrDef> reserved_attrs() {
  static constexpr AttrDef kReserved[] = {{"kernel", AttrKind::kText},
                                          {"offset", AttrKind::kInteger, 0, int64_t{1} << 50}};
  return kReserved;
}

namespace {

std::string_view kind_text(const Attribute& a) {
  constexpr std::string_view kNames[] = {"an integer", "a number", "a text", "a list of numbers", "a list of integers"};
  return kNames[a.index()];
}

std::string_view kind_text(AttrKind k) {
  constexpr std::string_view kNames[] = {"an integer", "a number", "a text", "a list of numbers", "a list of integers"};
  return kNames[static_cast<size_t>(k)];
}

size_t variant_index(AttrKind k) {  // order of ir::Attribute's alternatives
  switch (k) {
    case AttrKind::kInteger:
      return 0;
    case AttrKind::kNumber:
      return 1;
    case AttrKind::kText:
      return 2;
    case AttrKind::kNumbers:
      return 3;
    case AttrKind::kIntegers:
      return 4;
  }
  return 0;
}

Status check_attr(std::string_view op, const AttrDef& def, const Attribute& value) {
  if (value.index() != variant_index(def.kind)) {
    return bad_data("{}: attribute {} is {}, expected {}", op, def.name, kind_text(value), kind_text(def.kind));
  }
  if (const auto* i = std::get_if<int64_t>(&value); i != nullptr && (*i < def.min || *i > def.max)) {
    return bad_data("{}: attribute {} is {}, expected {} to {}", op, def.name, *i, def.min, def.max);
  }
  if (const auto* f = std::get_if<double>(&value); f != nullptr && !std::isfinite(*f)) {
    return bad_data("{}: attribute {} is {}, expected a finite number", op, def.name, *f);
  }
  if (const auto* text = std::get_if<std::string>(&value); text != nullptr && !def.choices.empty()) {
    for (const std::string_view choice : def.choices) {
      if (*text == choice) return {};
    }
    return bad_data("{}: attribute {} is \"{}\", expected one of {}", op, def.name, *text,
                    fmt::join(def.choices, ", "));
  }
  if (const auto* list = std::get_if<std::vector<float>>(&value)) {
    if (list->empty() || list->size() > kMaxListLength) {
      return bad_data("{}: attribute {} holds {} numbers, expected 1 to {}", op, def.name, list->size(),
                      kMaxListLength);
    }
    for (const float f : *list) {
      if (!std::isfinite(f)) return bad_data("{}: attribute {} holds {}, expected finite numbers", op, def.name, f);
    }
  }
  return {};
}

const AttrDef* find_attr(std::span<const AttrDef> defs, std::string_view name) {
  for (const AttrDef& d : defs) {
    if (d.name == name) return &d;
  }
  return nullptr;
}

Status check_attrs(const OpDef& def, Attributes& attrs) {
  for (const AttrDef& a : def.attrs) {
    const Attribute* value = attrs.find(a.name);
    if (value == nullptr)
      return bad_data("{}: attribute {} is missing, expected {}", def.name, a.name, kind_text(a.kind));
    if (const auto* i = std::get_if<int64_t>(value); i != nullptr && a.kind == AttrKind::kNumber) {
      attrs.set({std::string(a.name), static_cast<double>(*i)});
      value = attrs.find(a.name);
    }
    TRY(check_attr(def.name, a, *value));
  }
  for (const auto& [key, value] : attrs.all()) {
    if (find_attr(def.attrs, key) != nullptr) continue;
    const AttrDef* reserved = find_attr(reserved_attrs(), key);
    if (reserved == nullptr) return bad_data("{}: unknown attribute {}", def.name, key);
    TRY(check_attr(def.name, *reserved, value));
  }
  return {};
}

// How many operands the rows ask for at least and at most. `parts` is known to be small.
std::pair<size_t, size_t> operand_range(const OpDef& def, int64_t parts) {
  size_t least = 0, most = 0;
  for (const OperandDef& o : def.operands) {
    const size_t n = o.count == Count::kParts || o.count == Count::kOptionalParts ? static_cast<size_t>(parts) : 1;
    most += n;
    if (o.count == Count::kOne || o.count == Count::kParts) least += n;
  }
  return {least, most};
}

bool is_row_symbol(Dim d) { return d.symbol == Symbol::kT || d.symbol == Symbol::kR; }

Status check_role(const OpSpec& s, size_t i, const OperandDef& o) {
  const TensorType& t = s.in(i);
  const Op& source = s.graph.def(s.operands[i]);
  switch (o.role) {
    case Role::kActivation:
      if (t.dtype != DType::kF32 || t.rank != 2 || !is_row_symbol(t.dim(0))) {
        return expected(s, i, "an activation f32[T,n] or f32[R,n]");
      }
      return {};
    case Role::kFactor:
      if ((t.dtype != DType::kF32 && !is_q8a(t.dtype)) || t.rank != 2 || !is_row_symbol(t.dim(0))) {
        return expected(s, i, "an activation, f32 or q8a [T,k] or [R,k]");
      }
      return {};
    case Role::kMatrix:
      if (!source.is("weight") || t.rank != 2) return expected(s, i, "a weight [n,k]");
      return {};
    case Role::kVector:
      if ((!source.is("weight") && !source.is("constant")) || t.rank != 1) {
        return expected(s, i, "a weight or constant f32[n]");
      }
      return {};
    case Role::kStepInput:
      if (!source.is("input") || source.attrs.text("name") != o.name) return expected(s, i, "the input \"{}\"", o.name);
      return {};
    case Role::kCache:
      if (!is_kv(t)) return expected(s, i, "a KV cache");
      return {};
  }
  return {};
}

}  // namespace

const OperandDef* operand_def(const OpDef& def, size_t i, size_t n, int64_t parts) {
  auto [least, most] = operand_range(def, parts);
  size_t extra = n - std::min(n, least);  // operands that optional rows may take
  for (const OperandDef& o : def.operands) {
    size_t take = o.count == Count::kParts || o.count == Count::kOptionalParts ? static_cast<size_t>(parts) : 1;
    if (o.count == Count::kOptional || o.count == Count::kOptionalParts) {
      if (extra < take) continue;
      extra -= take;
    }
    if (i < take) return &o;
    i -= take;
  }
  return nullptr;
}

Result<std::vector<TensorType>> infer(const Graph& graph, const OpDef& def, std::span<const Value> operands,
                                      Attributes& attrs, std::span<const TensorType> declared) {
  TRY(check_attrs(def, attrs));
  const int64_t parts = attrs.i64("parts", 0);
  const auto [least, most] = operand_range(def, parts);
  if (operands.size() < least || operands.size() > most) {
    const std::string wanted = least == most ? fmt::format("{}", least) : fmt::format("{} to {}", least, most);
    return bad_data("{}: {} operands, expected {}", def.name, operands.size(), wanted);
  }
  const OpSpec spec{graph, def, operands, attrs, declared};
  for (size_t i = 0; i < operands.size(); ++i) {
    const OperandDef* o = operand_def(def, i, operands.size(), parts);
    if (o == nullptr) return bad_data("{}: {} operands, expected {} or {}", def.name, operands.size(), least, most);
    TRY(check_role(spec, i, *o));
  }
  if (def.declares && declared.size() != static_cast<size_t>(def.results)) {
    return bad_data("{}: {} result types given, expected {}", def.name, declared.size(), def.results);
  }
  std::vector<TensorType> results;
  TRY(def.infer(spec, results));
  if (!declared.empty() && declared.size() != results.size()) {
    return bad_data("{}: {} result types given, expected {}", def.name, declared.size(), results.size());
  }
  for (size_t i = 0; i < declared.size(); ++i) {
    if (identical(declared[i], results[i])) continue;
    return bad_data("{}: result {} is given as {}, expected {}", def.name, i, type_text(declared[i]),
                    type_text(results[i]));
  }
  return results;
}

Error expected_text(const OpSpec& s, size_t operand, std::string_view text) {
  const OperandDef* o = operand_def(s.def, operand, s.count(), s.attrs.i64("parts", 0));
  return bad_data("{}: operand {} (%{}) is {}, expected {}", s.def.name, o != nullptr ? o->name : "?",
                  s.graph.name(s.operands[operand]), type_text(s.in(operand)), text);
}

Status check_product(const OpSpec& s, size_t x, size_t w) {
  const TensorType &tx = s.in(x), &tw = s.in(w);
  if (!(tw.last() == tx.last())) return expected(s, w, "[n,{}] as x is {}", tx.last().value, type_text(tx));
  if (is_q8a(tx.dtype) && !is_quantized_dtype(tw.dtype)) {
    return expected(s, w, "a quantized weight as x is {}", type_text(tx));
  }
  return {};
}

Status check_vector(const OpSpec& s, size_t operand, int64_t n) {
  if (s.in(operand).last().value != n) return expected(s, operand, "f32[{}]", n);
  return {};
}

Status check_like(const OpSpec& s, size_t operand, size_t like) {
  if (!(s.in(operand) == s.in(like))) return expected(s, operand, "{}", type_text(s.in(like)));
  return {};
}

}  // namespace ll::ir
