// Weights from the plan's file to the device: threads read pieces into pinned buffers of their own, two each, so that
// reading the file (from disk or page cache) and copying to the device overlap.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "runtime/device/cuda/driver.h"
#include "runtime/plan/gpu_memory.h"

namespace ll {

// One piece of memory or file to copy.
struct UploadPiece {
  const std::byte* memory = nullptr;  // null: from the file
  uint64_t file_offset = 0;
  cuda::CuPointer to = 0;
  size_t bytes = 0;
};

// Cuts into pieces of at most kUploadPiece bytes.
inline constexpr size_t kUploadPiece = 4u << 20;
void cut(const UploadPiece& whole, std::vector<UploadPiece>& pieces);

// Copies all pieces and waits for them, on `threads` threads that use `context`.
Status upload(const cuda::Driver& driver, cuda::CuHandle context, int file, std::span<const UploadPiece> pieces,
              int threads);

}  // namespace ll
