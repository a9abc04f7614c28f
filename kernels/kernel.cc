#include "kernels/kernel.h"

#include <cpuid.h>

#include <algorithm>

namespace ll {

const AttrValue* Attrs::find(std::string_view key) const {
  for (const Attr& a : attrs_) {
    if (a.key == key) return &a.value;
  }
  return nullptr;
}

int64_t Attrs::i64(std::string_view key, int64_t missing) const {
  const AttrValue* v = find(key);
  const auto* i = v != nullptr ? std::get_if<int64_t>(v) : nullptr;
  return i != nullptr ? *i : missing;
}

double Attrs::f64(std::string_view key, double missing) const {
  const AttrValue* v = find(key);
  if (v == nullptr) return missing;
  if (const auto* f = std::get_if<double>(v)) return *f;
  if (const auto* i = std::get_if<int64_t>(v)) return static_cast<double>(*i);
  return missing;
}

std::string_view Attrs::text(std::string_view key, std::string_view missing) const {
  const AttrValue* v = find(key);
  const auto* s = v != nullptr ? std::get_if<std::string_view>(v) : nullptr;
  return s != nullptr ? *s : missing;
}

const char* isa_name(Isa isa) { return isa == Isa::kAvx2 ? "avx2" : "scalar"; }

Isa best_isa() {
  __builtin_cpu_init();
  unsigned a = 0, b = 0, c = 0, d = 0;
  // clang 14 has no word for f16c; it shares the registers, so whether the OS saves them is what "avx2" answers.
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c ? Isa::kAvx2 : Isa::kScalar;
}

Range split(int64_t count, int64_t grain, int thread, int threads) {
  const int64_t units = (count + grain - 1) / grain;
  const int64_t begin = units * thread / threads * grain, end = units * (thread + 1) / threads * grain;
  return {std::min(begin, count), std::min(end, count)};
}

KernelFn kernel_fn(const Kernel& kernel, Isa isa) {
  for (int level = static_cast<int>(isa); level > 0; --level) {
    if (const KernelFn fn = kernel.fn[static_cast<size_t>(level)]) return fn;
  }
  return kernel.fn[0];
}

const Kernel* find_kernel(std::string_view name) {
  for (const Kernel& k : catalog()) {
    if (k.name == name) return &k;
  }
  return nullptr;
}

std::span<const StepInput> step_inputs() {
  static constexpr StepInput kInputs[] = {
      {"tokens", 1, Symbol::kT}, {"positions", 1, Symbol::kT},   {"sequences", 1, Symbol::kT},
      {"slots", 1, Symbol::kT},  {"block_table", 2, Symbol::kS}, {"rows", 1, Symbol::kR},
  };
  return kInputs;
}

}  // namespace ll
