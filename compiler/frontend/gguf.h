// The GGUF container, versions 2 and 3: metadata and tensor directory as views into the file's bytes.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace ll::gguf {

// Every limit of the reader; the error that enforces one names it.
inline constexpr uint64_t kMaxKeys = 65'536;
inline constexpr uint64_t kMaxKeyBytes = 65'535;
inline constexpr uint64_t kMaxStringBytes = 16 << 20;
inline constexpr uint64_t kMaxArrayElements = 1 << 24;
inline constexpr uint64_t kMaxMetadataBytes = 512 << 20;
inline constexpr uint64_t kMaxTensors = 262'144;
inline constexpr uint64_t kMaxNameBytes = 255;
inline constexpr uint64_t kMaxElements = (uint64_t{1} << 48) - 1;  // of one tensor
inline constexpr uint32_t kMinAlignment = 8, kMaxAlignment = 65'536, kDefaultAlignment = 32;
inline constexpr uint32_t kMaxDims = 4;

// Numbered as in the file.
enum class ValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};
std::string_view value_type_name(ValueType type);  // "u32"

// One metadata value. Everything it claims was proved to lie in the file.
class Value {
 public:
  Value() = default;
  Value(ValueType type, ValueType element, uint64_t count, std::span<const std::byte> payload)
      : type_(type), element_(element), count_(count), payload_(payload) {}

  ValueType type() const { return type_; }
  ValueType element() const { return element_; }  // of an array; else the type itself
  uint64_t count() const { return count_; }       // of an array; else 1
  std::string describe() const;                   // "u32", "string[32000]"

  // The value, or element i; nullopt when there is no such element or it is of another kind.
  std::optional<int64_t> integer(uint64_t i = 0) const;  // u64 beyond int64 is nullopt; bool is no integer
  std::optional<double> number(uint64_t i = 0) const;    // f32, f64
  std::optional<bool> boolean(uint64_t i = 0) const;
  std::optional<std::string_view> text() const;  // a string, not an array
  std::vector<std::string_view> texts() const;   // an array of strings, else empty
  // Elements as they lie in the file, packed and unaligned; strings as u64 length and bytes.
  std::span<const std::byte> payload() const { return payload_; }

 private:
  ValueType type_ = ValueType::kU8, element_ = ValueType::kU8;
  uint64_t count_ = 0;
  std::span<const std::byte> payload_;
};

struct KeyValue {
  std::string_view key;
  Value value;
};

// The key-value pairs of a file. The getters are the only way the front end reads them: each checks type and range, and
// its error names the key, what was wanted and what was found. Any integer type serves where its value fits.
class Metadata {
 public:
  const std::vector<KeyValue>& all() const { return pairs_; }  // in the file's order
  const Value* find(std::string_view key) const;

  Result<uint32_t> get_u32(std::string_view key, uint32_t min, uint32_t max) const;
  Result<uint32_t> get_u32(std::string_view key, uint32_t min, uint32_t max, uint32_t missing) const;
  Result<double> get_number(std::string_view key, double min, double max) const;  // f32 or f64, finite
  Result<double> get_number(std::string_view key, double min, double max, double missing) const;
  Result<bool> get_bool(std::string_view key, bool missing) const;
  Result<std::string_view> get_text(std::string_view key) const;
  Result<std::string_view> get_text(std::string_view key, std::string_view missing) const;
  // Arrays; a missing key is an error.
  Result<std::vector<std::string_view>> get_texts(std::string_view key) const;
  Result<std::vector<int32_t>> get_i32s(std::string_view key, int32_t min, int32_t max) const;
  Result<std::vector<float>> get_floats(std::string_view key) const;  // f32 or f64; not checked for NaN

 private:
  friend Result<struct File> parse(std::span<const std::byte> bytes);
  std::vector<KeyValue> pairs_;
  std::vector<uint32_t> by_key_;  // indices into pairs_, keys ascending
};

struct TensorInfo {
  std::string_view name;
  uint32_t rank = 0;
  std::array<uint64_t, kMaxDims> dims{};  // as in the file: fastest (a row's length) first
  uint32_t type = 0;                      // ggml type id, possibly one nobody knows
  uint64_t offset = 0;                    // from the start of the file
  std::optional<uint64_t> size;           // in bytes; nullopt when the type is unknown
};

struct File {
  std::span<const std::byte> bytes;
  uint32_t version = 0;
  uint32_t alignment = 0;
  uint64_t data_offset = 0;  // where the tensors' bytes start
  Metadata metadata;
  std::vector<TensorInfo> tensors;  // in the file's order

  // Only for tensors whose size is known.
  std::span<const std::byte> data(const TensorInfo& tensor) const { return bytes.subspan(tensor.offset, *tensor.size); }
};

// Reads the directory of a whole file, whatever its architecture. All views in the result point into `bytes`.
// kBadData: malformed, or another kind of file (which it names). kUnsupported: version 1, a later version, or
// big-endian.
Result<File> parse(std::span<const std::byte> bytes);

}  // namespace ll::gguf
