#include "kernels/kernel.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

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

namespace {

// CPUID leaf 1 and leaf 7 (subleaves 0 and 1). The builtin asks the OS too whether it saves the registers, and answers
// for all instructions that use the same ones; compilers lack words for some of those.
bool cpu_has_avx2() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
}

bool cpu_has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 4) != 0;
}

bool cpu_has_avx512_vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

// Tiles, their products of int8 and of bf16: the CPU has all three (leaf 7), the OS saves tiles (XCR0), and it lets
// this process use their 8 KB of state, which Linux grants on request (Documentation/arch/x86/xstate.rst).
bool cpu_has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25, kAll = kBf16 | kTile | kInt8;
  constexpr unsigned kOsXsave = 1u << 27, kTileState = 3u << 17;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kAll) != kAll) return false;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsXsave) == 0) return false;
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & kTileState) != kTileState) return false;
  constexpr long kArchReqXcompPerm = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
}

struct IsaRow {
  const char* name;
  Isa below;
  bool (*cpu_has)();  // given the levels below
};
constexpr IsaRow kIsas[kIsaCount] = {
    {"scalar", Isa::kScalar, [] { return true; }},
    {"avx2", Isa::kScalar, cpu_has_avx2},
    {"avx-vnni", Isa::kAvx2, cpu_has_avx_vnni},
    {"avx512-vnni", Isa::kAvx2, cpu_has_avx512_vnni},
    {"amx", Isa::kAvx512, cpu_has_amx},
};

}  // namespace

const char* isa_name(Isa isa) { return kIsas[static_cast<size_t>(isa)].name; }
Isa isa_below(Isa isa) { return kIsas[static_cast<size_t>(isa)].below; }

bool has_isa(Isa isa) {
  static const std::array<bool, kIsaCount> found = [] {
    __builtin_cpu_init();
    std::array<bool, kIsaCount> has = {};
    for (size_t i = 0; i < kIsaCount; ++i) {
      has[i] = (i == 0 || has[static_cast<size_t>(kIsas[i].below)]) && kIsas[i].cpu_has();
    }
    return has;
  }();
  return found[static_cast<size_t>(isa)];
}

Isa best_isa() {
  Isa best = Isa::kScalar;
  for (int i = 0; i < kIsaCount; ++i) {
    if (has_isa(static_cast<Isa>(i))) best = static_cast<Isa>(i);
  }
  return best;
}

Range split(int64_t count, int64_t grain, int thread, int threads) {
  const int64_t units = (count + grain - 1) / grain;
  const int64_t begin = units * thread / threads * grain, end = units * (thread + 1) / threads * grain;
  return {std::min(begin, count), std::min(end, count)};
}

KernelFn kernel_fn(const Kernel& kernel, Isa isa) {
  for (; isa != Isa::kScalar; isa = isa_below(isa)) {
    if (const KernelFn fn = kernel.fn[static_cast<size_t>(isa)]) return fn;
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
      {"tokens", 1, Symbol::kT},
      {"positions", 1, Symbol::kT},
      {"sequences", 1, Symbol::kT},
      {"slots", 1, Symbol::kT},
      {"block_table", 2, Symbol::kS},
      {"rows", 1, Symbol::kR},
      {"inverse_temperatures", 1, Symbol::kR, DType::kF32},
  };
  return kInputs;
}

}  // namespace ll
