#include "compiler/codegen/targets.h"

#include <algorithm>

#include "runtime/base/escape.h"

namespace ll {
namespace {

constexpr int kKiB = 1 << 10;

// Sources: NVIDIA's CUDA programming guide, table of technical specifications by compute capability, and the cards'
// data sheets. Bandwidths are what streaming reads reach, not the peak; instructions a second are 128 lanes a clock at
// boost.
constexpr cuda::Target kTargets[] = {
    {"sm_75", 75, 75, 40, 64 * kKiB, 64 * kKiB, 1024, 16, 64 * kKiB, uint64_t{4} << 20, 250e9, 40 * 128 * 1.59e9},
    {"sm_80", 80, 80, 108, 163 * kKiB, 164 * kKiB, 2048, 32, 64 * kKiB, uint64_t{40} << 20, 1400e9, 108 * 128 * 1.41e9},
    {"sm_86", 86, 86, 72, 99 * kKiB, 100 * kKiB, 1536, 16, 64 * kKiB, uint64_t{6} << 20, 500e9, 72 * 128 * 1.69e9},
    {"sm_89", 89, 89, 58, 99 * kKiB, 100 * kKiB, 1536, 24, 64 * kKiB, uint64_t{48} << 20, 270e9, 58 * 128 * 2.04e9},
    {"sm_90", 90, 90, 132, 227 * kKiB, 228 * kKiB, 2048, 32, 64 * kKiB, uint64_t{50} << 20, 3000e9, 132 * 128 * 1.75e9},
};
constexpr cuda::Target kEmulated = {
    kEmulatedTarget, 0, 75, 4, 64 * kKiB, 64 * kKiB, 1024, 16, 64 * kKiB, uint64_t{4} << 20, 250e9, 40 * 128 * 1.59e9};

struct Alias {
  std::string_view name, target;
};
constexpr Alias kAliases[] = {{"t4", "sm_75"}, {"a100", "sm_80"}, {"a10", "sm_86"}, {"l4", "sm_89"}, {"h100", "sm_90"}};

const cuda::Target* find(std::string_view name) {
  for (const Alias& a : kAliases) {
    if (a.name == name) name = a.target;
  }
  for (const cuda::Target& t : kTargets) {
    if (t.name == name) return &t;
  }
  return name == kEmulatedTarget ? &kEmulated : nullptr;
}

std::string names() {
  std::string list = "cpu";
  for (const Alias& a : kAliases) list += fmt::format(", {} ({})", a.target, a.name);
  return list;
}

}  // namespace

std::span<const cuda::Target> gpu_targets() { return kTargets; }

std::string TargetList::name() const {
  std::string text;
  for (const cuda::Target& t : gpus) text += (text.empty() ? "" : ",") + std::string(t.name);
  if (cpu) text += text.empty() ? "cpu" : ",cpu";
  return text;
}

Result<TargetList> parse_targets(std::string_view targets, std::string_view isa) {
  TargetList list;
  const cuda::Target* limits = nullptr;
  if (!isa.empty()) {
    limits = find(isa);
    if (limits == nullptr || limits->sm == 0) return unsupported("isa {}, expected one of {}", quote(isa), names());
  }
  while (true) {
    const size_t comma = targets.find(',');
    const std::string_view name = targets.substr(0, comma);
    if (name == "cpu" || name == "native") {
      if (list.cpu) return usage("target cpu twice");
      list.cpu = true;
    } else {
      const cuda::Target* found = find(name);
      if (found == nullptr) return unsupported("target {}, expected one of {}", quote(name), names());
      cuda::Target t = *found;
      if (std::any_of(list.gpus.begin(), list.gpus.end(), [&](const auto& other) { return other.sm == t.sm; })) {
        return usage("target {} twice", t.name);
      }
      if (limits != nullptr && t.sm != 0) {
        if (limits->isa > t.sm) return usage("isa {} is newer than target {}", quote(isa), t.name);
        t.isa = limits->isa;
        t.shared_per_block = limits->shared_per_block;
        t.shared_per_sm = limits->shared_per_sm;
        t.threads_per_sm = limits->threads_per_sm;
        t.blocks_per_sm = limits->blocks_per_sm;
      }
      list.gpus.push_back(t);
    }
    if (comma == targets.npos) break;
    targets.remove_prefix(comma + 1);
  }
  if (limits != nullptr && list.gpus.empty()) return usage("--isa is for GPU targets");
  std::sort(list.gpus.begin(), list.gpus.end(), [](const auto& a, const auto& b) { return a.sm < b.sm; });
  return list;
}

std::string encode_instance(const cuda::Instance& instance) {
  std::string text =
      fmt::format("{}\n{}\n{} {}\n", instance.source, instance.function, instance.threads, instance.blocks_per_sm);
  for (const auto& [name, value] : instance.constants) text += fmt::format("{} {}\n", name, value);
  return text + "end\n";
}

}  // namespace ll
