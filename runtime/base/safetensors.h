// safetensors files: a length, a JSON header, and the tensors' bytes. Format and its rules:
// https://github.com/huggingface/safetensors#format
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/atomic_file.h"
#include "runtime/base/result.h"

namespace ll::safetensors {

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;
inline constexpr int kMaxJsonDepth = 8;
inline constexpr size_t kMaxTensors = 262'144;
inline constexpr size_t kMaxRank = 64;

enum class DType : uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF16,
  kBF16,
  kF32,
  kF64,
  kC64,
};
std::string_view dtype_name(DType dtype);  // as the header spells it: "BF16"
unsigned dtype_bits(DType dtype);          // of one element

struct Tensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<uint64_t> shape;  // slowest dimension first, rows dense; may hold zeros
  uint64_t offset = 0;          // of its bytes from the start of the file
  uint64_t size = 0;            // in bytes: shape times dtype, exactly
};

struct Contents {
  std::vector<Tensor> tensors;                  // by offset; together they cover the data without gap or overlap
  std::map<std::string, std::string> metadata;  // "__metadata__"
  // Null when there is none of that name.
  const Tensor* find(std::string_view name) const;

  std::vector<uint32_t> by_name;  // indices into `tensors`, names ascending
};

// Reads the header of a whole file and proves every extent. kBadData says which rule is broken.
Result<Contents> parse(std::span<const std::byte> file);

// Writes a file front to back: declare every tensor (offset is ignored, size computed), then append their bytes in that
// order. The same declarations give the same bytes. The file appears under its name at commit().
class Writer {
 public:
  // kUsage when names repeat or a shape is no whole number of bytes.
  static Result<Writer> create(const std::string& path, std::vector<Tensor> tensors,
                               const std::map<std::string, std::string>& metadata = {});
  // The next bytes of the tensors' data, in pieces of any length.
  Status append(std::span<const std::byte> bytes);
  // kInternal unless exactly the declared bytes were appended.
  Status commit();

 private:
  Writer(AtomicFile file, uint64_t end) : file_(std::move(file)), end_(end) {}
  AtomicFile file_;
  uint64_t end_;  // size of the finished file
};

}  // namespace ll::safetensors
