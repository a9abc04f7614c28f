// What a kernel's machine code (SASS) says of its inner loop, for gates that need no GPU.
//
// From sm_70 on an instruction is 16 bytes; bits 0-8 name it, whatever the form of its operands. A branch (bits 0-11
// 0x947) goes to its own end plus a signed offset: bits 32-81 until sm_89; from sm_90 on 4 times the number of which
// bits 16-23 are the low byte and bits 34-81 the rest. Read off nvdisasm's output; there is no public specification.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ll {

struct SassLoop {
  int instructions = 0;      // from the branch's target to the branch
  int dots = 0;              // IDP: dp4a
  int mmas = 0;              // IMMA, HMMA
  int float_operations = 0;  // FFMA, FMUL, FADD
  int conversions = 0;       // I2F, F2I and between float widths on the slow unit
  int local_accesses = 0;    // LDL, STL: spills
};

struct SassReport {
  int instructions = 0;
  int local_accesses = 0;
  // The loop with the most dots, mmas and, where there are none, float operations; the innermost of those. All 0
  // without a loop.
  SassLoop hottest;
};

SassReport read_sass(std::span<const std::byte> code, uint32_t sm);

}  // namespace ll
