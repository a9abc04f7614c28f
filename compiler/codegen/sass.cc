#include "compiler/codegen/sass.h"

#include <cstring>
#include <tuple>
#include <vector>

namespace ll {
namespace {

constexpr size_t kBytes = 16;  // of an instruction

enum Name : uint32_t {
  kFmul = 0x020,
  kFadd = 0x021,
  kFfma = 0x023,
  kIdp = 0x026,
  kImma = 0x037,
  kHmma = 0x03c,
  kF2i = 0x105,
  kI2f = 0x106,
  kLdl = 0x183,
  kStl = 0x187,
};
constexpr uint64_t kBranch = 0x947;

struct Instruction {
  uint64_t low, high;
  uint32_t name() const { return static_cast<uint32_t>(low & 0x1ff); }
};

// Bytes from the branch's end to its target.
int64_t branch_offset(const Instruction& i, uint32_t sm) {
  if (sm < 90) return static_cast<int64_t>(i.high << 46 | i.low >> 32 << 14) >> 14;
  const int64_t upper = static_cast<int64_t>(i.high << 46 | i.low >> 34 << 16) >> 16;
  return ((upper << 8) | static_cast<int64_t>(i.low >> 16 & 0xff)) * 4;
}

void count(const Instruction& i, SassLoop& loop) {
  ++loop.instructions;
  switch (i.name()) {
    case kIdp:
      ++loop.dots;
      break;
    case kImma:
    case kHmma:
      ++loop.mmas;
      break;
    case kFfma:
    case kFmul:
    case kFadd:
      ++loop.float_operations;
      break;
    case kI2f:
    case kF2i:
      ++loop.conversions;
      break;
    case kLdl:
    case kStl:
      ++loop.local_accesses;
      break;
    default:
      break;
  }
}

}  // namespace

SassReport read_sass(std::span<const std::byte> code, uint32_t sm) {
  std::vector<Instruction> all(code.size() / kBytes);
  if (!all.empty()) std::memcpy(all.data(), code.data(), all.size() * kBytes);
  SassReport report;
  SassLoop whole;
  for (const Instruction& i : all) count(i, whole);
  report.instructions = whole.instructions;
  report.local_accesses = whole.local_accesses;
  const auto work = [](const SassLoop& l) { return std::tuple(l.dots + l.mmas, l.float_operations, -l.instructions); };
  for (size_t at = 0; at < all.size(); ++at) {
    if ((all[at].low & 0xfff) != kBranch) continue;
    const int64_t target = static_cast<int64_t>((at + 1) * kBytes) + branch_offset(all[at], sm);
    // A branch to itself is what follows the kernel's end.
    if (target < 0 || target % static_cast<int64_t>(kBytes) != 0 || target >= static_cast<int64_t>(at * kBytes))
      continue;
    SassLoop loop;
    for (size_t i = static_cast<size_t>(target) / kBytes; i <= at; ++i) count(all[i], loop);
    if (loop.instructions > 0 && (report.hottest.instructions == 0 || work(loop) > work(report.hottest))) {
      report.hottest = loop;
    }
  }
  return report;
}

}  // namespace ll
