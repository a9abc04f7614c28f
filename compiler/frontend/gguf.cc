#include "compiler/frontend/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/quant/formats.h"
#include "runtime/base/byte_reader.h"
#include "runtime/base/checked.h"
#include "runtime/base/escape.h"
#include "runtime/base/file_magic.h"

namespace ll::gguf {
namespace {

constexpr std::string_view kMagic = "GGUF";

struct ValueTypeRow {
  std::string_view name;
  uint32_t size;  // bytes of one value; 0 for strings and arrays
};
constexpr ValueTypeRow kValueTypes[] = {
    {"u8", 1},   {"i8", 1},     {"u16", 2},   {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
    {"bool", 1}, {"string", 0}, {"array", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8},
};

bool known(ValueType type) { return static_cast<size_t>(type) < std::size(kValueTypes); }
uint32_t size_of(ValueType type) { return kValueTypes[static_cast<size_t>(type)].size; }

bool is_integer(ValueType type) {
  switch (type) {
    case ValueType::kF32:
    case ValueType::kF64:
    case ValueType::kBool:
    case ValueType::kString:
    case ValueType::kArray:
      return false;
    default:
      return true;
  }
}

template <class T>
T load(std::span<const std::byte> bytes, uint64_t i) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
  return value;
}

// A string: u64 length, then bytes.
Result<std::string_view> read_string(ByteReader& in, uint64_t limit) {
  TRY_ASSIGN(const uint64_t length, in.read<uint64_t>());
  if (length > limit) return bad_data("a string of {} bytes, the limit is {}", length, limit);
  return in.text(length);
}

// Moves over `count` values of `type`, proving that they are there.
Status skip(ByteReader& in, ValueType type, uint64_t count) {
  if (type == ValueType::kString) {
    for (uint64_t i = 0; i < count; ++i) TRY(read_string(in, kMaxStringBytes));
    return {};
  }
  TRY_ASSIGN(const auto bytes, in.bytes(count * size_of(type)));  // count <= 2^24 and size <= 8: no overflow
  if (type == ValueType::kBool) {
    for (uint64_t i = 0; i < count; ++i) {
      if (const auto b = load<uint8_t>(bytes, i); b > 1) return bad_data("a bool is {}, expected 0 or 1", b);
    }
  }
  return {};
}

Result<Value> read_value(ByteReader& in, std::span<const std::byte> file) {
  TRY_ASSIGN(const uint32_t type_id, in.read<uint32_t>());
  const auto type = static_cast<ValueType>(type_id);
  if (!known(type)) return bad_data("value type is {}, expected 0 to {}", type_id, std::size(kValueTypes) - 1);
  ValueType element = type;
  uint64_t count = 1;
  if (type == ValueType::kArray) {
    TRY_ASSIGN(const uint32_t element_id, in.read<uint32_t>());
    element = static_cast<ValueType>(element_id);
    if (!known(element))
      return bad_data("array element type is {}, expected 0 to {}", element_id, std::size(kValueTypes) - 1);
    if (element == ValueType::kArray) return bad_data("an array of arrays, which is not supported");
    TRY_ASSIGN(count, in.read<uint64_t>());
    if (count > kMaxArrayElements)
      return bad_data("an array of {} elements, the limit is {}", count, kMaxArrayElements);
  }
  const size_t start = in.position();
  TRY(skip(in, element, count));
  return Value(type, element, count, file.subspan(start, in.position() - start));
}

// Indices of `items` with their names ascending; the error names one that stands twice.
template <class Item, class Name>
Result<std::vector<uint32_t>> order_by_name(const std::vector<Item>& items, Name name, std::string_view what) {
  std::vector<uint32_t> order(items.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return name(items[a]) < name(items[b]); });
  for (size_t i = 1; i < order.size(); ++i) {
    if (name(items[order[i - 1]]) == name(items[order[i]])) {
      return bad_data("{} {} is repeated", what, quote(name(items[order[i]])));
    }
  }
  return order;
}

Result<TensorInfo> read_tensor(ByteReader& in, uint32_t alignment) {
  TensorInfo tensor;
  TRY_ASSIGN(tensor.name, read_string(in, kMaxNameBytes));
  const auto fail = [&](Error e) { return std::move(e).in(fmt::format("tensor {}", quote(tensor.name))); };
  if (tensor.name.empty()) return bad_data("a tensor has an empty name");
  const auto rank = in.read<uint32_t>();
  if (!rank) return fail(rank.error());
  if (*rank < 1 || *rank > kMaxDims) return fail(bad_data("{} dimensions, expected 1 to {}", *rank, kMaxDims));
  tensor.rank = *rank;
  uint64_t elements = 1;
  for (uint32_t i = 0; i < tensor.rank; ++i) {
    const auto dim = in.read<uint64_t>();
    if (!dim) return fail(dim.error());
    if (*dim == 0) return fail(bad_data("dimension {} is 0, expected at least 1", i));
    const auto product = checked_mul(elements, *dim);
    if (!product || *product > kMaxElements) {
      return fail(bad_data("more elements than the limit of {}", kMaxElements));
    }
    elements = *product;
    tensor.dims[i] = *dim;
  }
  const auto type = in.read<uint32_t>();
  if (!type) return fail(type.error());
  tensor.type = *type;
  const auto offset = in.read<uint64_t>();
  if (!offset) return fail(offset.error());
  tensor.offset = *offset;  // from the start of the data, which is not known yet
  if (tensor.offset % alignment != 0) {
    return fail(bad_data("offset {} is no multiple of the alignment {}", tensor.offset, alignment));
  }
  if (const GgmlType* format = find_ggml_type(tensor.type)) {
    if (tensor.dims[0] % static_cast<uint64_t>(format->block_elements) != 0) {
      return fail(bad_data("rows of {} elements, {} needs a multiple of {}", tensor.dims[0], format->name,
                           format->block_elements));
    }
    // At most 2^48 elements of at most 8 bytes: no overflow.
    tensor.size = elements / static_cast<uint64_t>(format->block_elements) * static_cast<uint64_t>(format->block_bytes);
  }
  return tensor;
}

// Turns offsets into positions in the file and proves that all tensors lie there without overlap.
Status place_tensors(File& file) {
  const uint64_t end = file.bytes.size();
  for (TensorInfo& tensor : file.tensors) {
    const auto offset = checked_add(tensor.offset, file.data_offset);
    if (!offset || !fits(*offset, tensor.size.value_or(0), end)) {
      return bad_data("tensor {}: {} bytes at {} lie beyond the end of the file ({} bytes)", quote(tensor.name),
                      tensor.size.value_or(0), offset.value_or(tensor.offset), end);
    }
    tensor.offset = *offset;
  }
  std::vector<const TensorInfo*> order;
  order.reserve(file.tensors.size());
  for (const TensorInfo& tensor : file.tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(a->offset, a->name) < std::pair(b->offset, b->name);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorInfo& before = *order[i - 1];
    // A tensor of unknown size takes at least one byte.
    if (before.offset + before.size.value_or(1) > order[i]->offset) {
      return bad_data("tensors {} and {} overlap at {}", quote(before.name), quote(order[i]->name), order[i]->offset);
    }
  }
  return {};
}

Error wrong_type(std::string_view key, std::string_view wanted, const Value& value) {
  return bad_data("{} is {}, expected {}", quote(key), value.describe(), wanted);
}
Error missing_key(std::string_view key, std::string_view wanted) {
  return bad_data("{} is missing, expected {}", quote(key), wanted);
}

}  // namespace

std::string_view value_type_name(ValueType type) { return kValueTypes[static_cast<size_t>(type)].name; }

std::string Value::describe() const {
  const std::string_view name = value_type_name(element_);
  return type_ == ValueType::kArray ? fmt::format("{}[{}]", name, count_) : std::string(name);
}

std::optional<int64_t> Value::integer(uint64_t i) const {
  if (i >= count_) return std::nullopt;
  switch (element_) {
    case ValueType::kU8:
      return load<uint8_t>(payload_, i);
    case ValueType::kI8:
      return load<int8_t>(payload_, i);
    case ValueType::kU16:
      return load<uint16_t>(payload_, i);
    case ValueType::kI16:
      return load<int16_t>(payload_, i);
    case ValueType::kU32:
      return load<uint32_t>(payload_, i);
    case ValueType::kI32:
      return load<int32_t>(payload_, i);
    case ValueType::kU64:
      return narrow<int64_t>(load<uint64_t>(payload_, i));
    case ValueType::kI64:
      return load<int64_t>(payload_, i);
    default:
      return std::nullopt;
  }
}

std::optional<double> Value::number(uint64_t i) const {
  if (i >= count_) return std::nullopt;
  if (element_ == ValueType::kF32) return load<float>(payload_, i);
  if (element_ == ValueType::kF64) return load<double>(payload_, i);
  return std::nullopt;
}

std::optional<bool> Value::boolean(uint64_t i) const {
  if (i >= count_ || element_ != ValueType::kBool) return std::nullopt;
  return load<uint8_t>(payload_, i) != 0;
}

std::optional<std::string_view> Value::text() const {
  if (type_ != ValueType::kString) return std::nullopt;
  ByteReader in(payload_);
  const auto text = read_string(in, kMaxStringBytes);
  return text ? std::optional(*text) : std::nullopt;
}

std::vector<std::string_view> Value::texts() const {
  std::vector<std::string_view> out;
  if (type_ != ValueType::kArray || element_ != ValueType::kString) return out;
  out.reserve(count_);
  ByteReader in(payload_);
  for (uint64_t i = 0; i < count_; ++i) {
    const auto text = read_string(in, kMaxStringBytes);
    if (!text) break;
    out.push_back(*text);
  }
  return out;
}

const Value* Metadata::find(std::string_view key) const {
  const auto it = std::lower_bound(by_key_.begin(), by_key_.end(), key,
                                   [&](uint32_t i, std::string_view k) { return pairs_[i].key < k; });
  return it != by_key_.end() && pairs_[*it].key == key ? &pairs_[*it].value : nullptr;
}

Result<uint32_t> Metadata::get_u32(std::string_view key, uint32_t min, uint32_t max) const {
  const std::string wanted = fmt::format("an integer from {} to {}", min, max);
  const Value* value = find(key);
  if (value == nullptr) return missing_key(key, wanted);
  if (value->type() == ValueType::kArray || !is_integer(value->type())) return wrong_type(key, wanted, *value);
  const auto number = value->integer();
  if (!number || *number < min || *number > max) {
    return bad_data("{} is {}, expected {}", quote(key), number ? std::to_string(*number) : "beyond 2^63", wanted);
  }
  return static_cast<uint32_t>(*number);
}

Result<uint32_t> Metadata::get_u32(std::string_view key, uint32_t min, uint32_t max, uint32_t missing) const {
  if (find(key) == nullptr) return missing;
  return get_u32(key, min, max);
}

Result<double> Metadata::get_number(std::string_view key, double min, double max) const {
  const std::string wanted = fmt::format("a number from {} to {}", min, max);
  const Value* value = find(key);
  if (value == nullptr) return missing_key(key, wanted);
  const auto number = value->type() == ValueType::kArray ? std::nullopt : value->number();
  if (!number) return wrong_type(key, wanted, *value);
  if (!(*number >= min && *number <= max)) return bad_data("{} is {}, expected {}", quote(key), *number, wanted);
  return *number;
}

Result<double> Metadata::get_number(std::string_view key, double min, double max, double missing) const {
  if (find(key) == nullptr) return missing;
  return get_number(key, min, max);
}

Result<bool> Metadata::get_bool(std::string_view key, bool missing) const {
  const Value* value = find(key);
  if (value == nullptr) return missing;
  const auto flag = value->type() == ValueType::kArray ? std::nullopt : value->boolean();
  if (!flag) return wrong_type(key, "a bool", *value);
  return *flag;
}

Result<std::string_view> Metadata::get_text(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return missing_key(key, "a string");
  const auto text = value->text();
  if (!text) return wrong_type(key, "a string", *value);
  return *text;
}

Result<std::string_view> Metadata::get_text(std::string_view key, std::string_view missing) const {
  if (find(key) == nullptr) return missing;
  return get_text(key);
}

Result<std::vector<std::string_view>> Metadata::get_texts(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return missing_key(key, "an array of strings");
  if (value->type() != ValueType::kArray || value->element() != ValueType::kString) {
    return wrong_type(key, "an array of strings", *value);
  }
  return value->texts();
}

Result<std::vector<int32_t>> Metadata::get_i32s(std::string_view key, int32_t min, int32_t max) const {
  const std::string wanted = fmt::format("an array of integers from {} to {}", min, max);
  const Value* value = find(key);
  if (value == nullptr) return missing_key(key, wanted);
  if (value->type() != ValueType::kArray || !is_integer(value->element())) return wrong_type(key, wanted, *value);
  std::vector<int32_t> out(value->count());
  for (uint64_t i = 0; i < out.size(); ++i) {
    const auto number = value->integer(i);
    if (!number || *number < min || *number > max) {
      return bad_data("{}[{}] is {}, expected {}", quote(key), i, number ? std::to_string(*number) : "beyond 2^63",
                      wanted);
    }
    out[i] = static_cast<int32_t>(*number);
  }
  return out;
}

Result<std::vector<float>> Metadata::get_floats(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return missing_key(key, "an array of numbers");
  if (value->type() != ValueType::kArray ||
      (value->element() != ValueType::kF32 && value->element() != ValueType::kF64)) {
    return wrong_type(key, "an array of numbers", *value);
  }
  std::vector<float> out(value->count());
  for (uint64_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(*value->number(i));
  return out;
}

Result<File> parse(std::span<const std::byte> bytes) {
  File file;
  file.bytes = bytes;
  ByteReader in(bytes);
  if (file_kind(bytes) != FileKind::kGguf) {
    if (const std::string_view what = recognize(bytes); !what.empty())
      return bad_data("not a GGUF file: this is {}", what);
    const auto magic = in.text(std::min<uint64_t>(kMagic.size(), bytes.size()));
    return bad_data("not a GGUF file: it starts with {}, expected 'GGUF'", quote(*magic));
  }
  TRY(in.seek(kMagic.size()));
  TRY_ASSIGN(file.version, in.read<uint32_t>());
  // Byte-swapped, a version below 65536 has its low half empty.
  if (file.version != 0 && (file.version & 0xffff) == 0) {
    return unsupported("a big-endian GGUF file: convert it for little-endian machines");
  }
  if (file.version == 1)
    return unsupported("GGUF version 1: convert the original model again (versions 2 and 3 are read)");
  if (file.version != 2 && file.version != 3) return unsupported("GGUF version {}, expected 2 or 3", file.version);
  TRY_ASSIGN(const uint64_t tensors, in.read<uint64_t>());
  TRY_ASSIGN(const uint64_t keys, in.read<uint64_t>());
  if (tensors > kMaxTensors) return bad_data("{} tensors, the limit is {}", tensors, kMaxTensors);
  if (keys > kMaxKeys) return bad_data("{} metadata keys, the limit is {}", keys, kMaxKeys);
  // The shortest pair is an empty key (8), a type (4) and a byte; the shortest tensor a name of one byte and one
  // dimension.
  constexpr uint64_t kShortestPair = 13, kShortestTensor = 33;
  if (keys * kShortestPair > in.remaining() || tensors * kShortestTensor > in.remaining()) {
    return bad_data("truncated: {} metadata keys and {} tensors in {} bytes", keys, tensors, in.remaining());
  }

  file.metadata.pairs_.reserve(keys);
  for (uint64_t i = 0; i < keys; ++i) {
    auto key = read_string(in, kMaxKeyBytes);
    if (!key) return std::move(key.error()).in(fmt::format("metadata key {} of {}", i, keys));
    auto value = read_value(in, bytes);
    if (!value) return std::move(value.error()).in(quote(*key));
    file.metadata.pairs_.push_back({*key, *value});
    if (in.position() > kMaxMetadataBytes) return bad_data("more than {} bytes of metadata", kMaxMetadataBytes);
  }
  TRY_ASSIGN(file.metadata.by_key_,
             order_by_name(
                 file.metadata.pairs_, [](const KeyValue& pair) { return pair.key; }, "metadata key"));

  TRY_ASSIGN(file.alignment,
             file.metadata.get_u32("general.alignment", kMinAlignment, kMaxAlignment, kDefaultAlignment));
  if (!std::has_single_bit(file.alignment)) {
    return bad_data("'general.alignment' is {}, expected a power of two", file.alignment);
  }

  file.tensors.reserve(tensors);
  for (uint64_t i = 0; i < tensors; ++i) {
    auto tensor = read_tensor(in, file.alignment);
    if (!tensor) return std::move(tensor.error()).in(fmt::format("tensor {} of {}", i, tensors));
    file.tensors.push_back(*tensor);
  }
  TRY(order_by_name(
      file.tensors, [](const TensorInfo& tensor) { return tensor.name; }, "tensor"));
  file.data_offset = *checked_align_up(in.position(), file.alignment);
  TRY(place_tensors(file));
  return file;
}

}  // namespace ll::gguf
