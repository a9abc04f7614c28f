// What a cubin says of its kernels: the code object of one GPU architecture, as NVRTC writes it and drivers load it.
//
// A cubin is an ELF64 file of machine 190. EI_OSABI 0x33 with EI_ABIVERSION 7 is what toolkits 11 and 12 write (the
// architecture in the low byte of e_flags), 0x41 with version 8 what toolkit 13 writes (in the second byte), which
// drivers before 13.0 refuse. Section .text.NAME holds a kernel, .nv.shared.NAME has the size of its static shared
// memory, and .nv.info lists attributes: byte format, byte attribute, u16 size or value; of interest are those of
// format 4 whose eight bytes are a symbol index and a number. Read off NVRTC's output with readelf; there is no public
// specification.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace ll {

inline constexpr uint32_t kMostCubinSections = 4096;

struct CubinKernel {
  std::string_view function;
  uint32_t registers = 0;                // of a thread
  uint32_t shared_bytes = 0;             // static; from sm_90 on with what the system reserves
  uint32_t local_bytes = 0;              // stack and spills of a thread
  std::span<const std::byte> code = {};  // its instructions, in the bytes that were read
};

struct Cubin {
  uint32_t sm = 0;           // 75
  uint32_t abi_version = 0;  // 7, 8
  std::vector<CubinKernel> kernels;

  const CubinKernel* find(std::string_view function) const;
};

// kBadData for anything but a well-formed cubin; names are views into `bytes`.
Result<Cubin> read_cubin(std::span<const std::byte> bytes);

// Least driver, as cuDriverGetVersion counts, that loads cubins of this ABI version.
uint32_t least_driver(uint32_t abi_version);

}  // namespace ll
