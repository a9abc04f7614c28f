#include "runtime/base/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/base/byte_reader.h"
#include "runtime/base/checked.h"
#include "runtime/base/escape.h"
#include "runtime/base/file_magic.h"

namespace ll::safetensors {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  unsigned bits;
};
constexpr DTypeRow kDTypes[] = {
    {DType::kBool, "BOOL", 8},      {DType::kU8, "U8", 8},          {DType::kI8, "I8", 8},
    {DType::kU16, "U16", 16},       {DType::kI16, "I16", 16},       {DType::kU32, "U32", 32},
    {DType::kI32, "I32", 32},       {DType::kU64, "U64", 64},       {DType::kI64, "I64", 64},
    {DType::kF4, "F4", 4},          {DType::kF6E2M3, "F6_E2M3", 6}, {DType::kF6E3M2, "F6_E3M2", 6},
    {DType::kF8E4M3, "F8_E4M3", 8}, {DType::kF8E5M2, "F8_E5M2", 8}, {DType::kF8E8M0, "F8_E8M0", 8},
    {DType::kF16, "F16", 16},       {DType::kBF16, "BF16", 16},     {DType::kF32, "F32", 32},
    {DType::kF64, "F64", 64},       {DType::kC64, "C64", 64},
};

const DTypeRow& row_of(DType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

// Bytes of a tensor, or nullopt when the shape overflows or fills no whole number of bytes.
std::optional<uint64_t> byte_size(DType dtype, std::span<const uint64_t> shape) {
  // A zero anywhere makes the tensor empty, however large its other dimensions are.
  if (std::find(shape.begin(), shape.end(), 0u) != shape.end()) return 0;
  const auto elements = checked_product(shape);
  const auto bits = elements ? checked_mul<uint64_t>(*elements, row_of(dtype).bits) : std::nullopt;
  if (!bits || *bits % 8 != 0) return std::nullopt;
  return *bits / 8;
}

// One tensor as the header states it.
struct Entry {
  Tensor tensor;
  uint64_t begin = 0, end = 0;  // within the data
  bool has_dtype = false, has_shape = false, has_offsets = false;
};

// Receives the header's JSON events. A flat state machine: the parser keeps no stack of ours, and nesting ends at the
// first level that the format does not have.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
  std::string error;

  bool null() override { return fail("found null"); }
  bool boolean(bool) override { return fail("found a boolean"); }
  bool number_integer(number_integer_t value) override {
    return fail(fmt::format("found the negative number {}", value));
  }
  bool number_float(number_float_t, const string_t& text) override { return fail(fmt::format("found {}", text)); }
  bool binary(binary_t&) override { return fail("found binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShape) {
      auto& shape = entries.back().tensor.shape;
      if (shape.size() == kMaxRank) return fail(fmt::format("more than {} dimensions", kMaxRank));
      shape.push_back(value);
      return true;
    }
    if (state_ == State::kOffsets) {
      if (offsets_ == 2) return fail("data_offsets has more than two numbers");
      (offsets_++ == 0 ? entries.back().begin : entries.back().end) = value;
      return true;
    }
    return fail(fmt::format("found the number {}", value));
  }

  bool string(string_t& value) override {
    if (state_ == State::kMetadata) {
      if (!metadata.emplace(std::move(key_), std::move(value)).second) return fail("a key of __metadata__ is repeated");
      return true;
    }
    if (state_ != State::kTensor || key_ != "dtype") return fail("found a string");
    for (const DTypeRow& row : kDTypes) {
      if (row.name == value) {
        entries.back().tensor.dtype = row.dtype;
        return true;
      }
    }
    return fail(fmt::format("dtype is {}, which is none of safetensors'", quote(value)));
  }

  bool start_object(size_t) override {
    if (++depth_ > kMaxJsonDepth) return fail(fmt::format("nested deeper than {}", kMaxJsonDepth));
    switch (state_) {
      case State::kStart:
        state_ = State::kTop;
        return true;
      case State::kTop:
        if (key_ == "__metadata__") {
          if (std::exchange(seen_metadata_, true)) return fail("__metadata__ is repeated");
          state_ = State::kMetadata;
          return true;
        }
        if (entries.size() == kMaxTensors) return fail(fmt::format("more than {} tensors", kMaxTensors));
        entries.emplace_back().tensor.name = std::move(key_);
        state_ = State::kTensor;
        return true;
      default:
        return fail("found an object");
    }
  }

  bool key(string_t& name) override {
    key_ = std::move(name);
    if (state_ != State::kTensor) return true;
    Entry& entry = entries.back();
    bool* seen = key_ == "dtype"          ? &entry.has_dtype
                 : key_ == "shape"        ? &entry.has_shape
                 : key_ == "data_offsets" ? &entry.has_offsets
                                          : nullptr;
    if (seen == nullptr) return fail(fmt::format("has the unknown key {}", quote(key_)));
    if (std::exchange(*seen, true)) return fail(fmt::format("{} is repeated", key_));
    return true;
  }

  bool end_object() override {
    --depth_;
    if (state_ == State::kTensor) {
      const Entry& entry = entries.back();
      if (!entry.has_dtype || !entry.has_shape || !entry.has_offsets) {
        return fail(fmt::format("lacks {}", !entry.has_dtype ? "dtype" : !entry.has_shape ? "shape" : "data_offsets"));
      }
    }
    state_ = state_ == State::kTop ? State::kEnd : State::kTop;
    return true;
  }

  bool start_array(size_t) override {
    if (++depth_ > kMaxJsonDepth) return fail(fmt::format("nested deeper than {}", kMaxJsonDepth));
    if (state_ == State::kTensor && key_ == "shape") {
      state_ = State::kShape;
      return true;
    }
    if (state_ == State::kTensor && key_ == "data_offsets") {
      state_ = State::kOffsets;
      offsets_ = 0;
      return true;
    }
    return fail("found an array");
  }

  bool end_array() override {
    --depth_;
    if (state_ == State::kOffsets && offsets_ != 2) return fail("data_offsets has fewer than two numbers");
    state_ = State::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    error = fmt::format("the header is not valid JSON at byte {}", position);
    return false;
  }

 private:
  enum class State { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  bool fail(std::string what) {
    if (state_ == State::kMetadata) {
      error = fmt::format("__metadata__: {}; wanted strings", what);
    } else if (state_ == State::kTensor || state_ == State::kShape || state_ == State::kOffsets) {
      error = fmt::format("tensor {}: {}", quote(entries.back().tensor.name), what);
    } else {
      error = fmt::format("the header: {}; wanted an object of tensors", what);
    }
    return false;
  }

  State state_ = State::kStart;
  std::string key_;
  int depth_ = 0;
  int offsets_ = 0;
  bool seen_metadata_ = false;
};

std::vector<uint32_t> sorted_by_name(const std::vector<Tensor>& tensors) {
  std::vector<uint32_t> order(tensors.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return tensors[a].name < tensors[b].name; });
  return order;
}

// The first name that stands twice, or null.
const std::string* repeated_name(const std::vector<Tensor>& tensors, const std::vector<uint32_t>& order) {
  for (size_t i = 1; i < order.size(); ++i) {
    if (tensors[order[i - 1]].name == tensors[order[i]].name) return &tensors[order[i]].name;
  }
  return nullptr;
}

}  // namespace

std::string_view dtype_name(DType dtype) { return row_of(dtype).name; }
unsigned dtype_bits(DType dtype) { return row_of(dtype).bits; }

const Tensor* Contents::find(std::string_view name) const {
  const auto it = std::lower_bound(by_name.begin(), by_name.end(), name,
                                   [&](uint32_t i, std::string_view n) { return tensors[i].name < n; });
  return it != by_name.end() && tensors[*it].name == name ? &tensors[*it] : nullptr;
}

Result<Contents> parse(std::span<const std::byte> file) {
  const auto foreign = [&](std::string_view found) {
    const std::string_view what = recognize(file);
    return what.empty() ? bad_data("not a safetensors file: {}", found)
                        : bad_data("not a safetensors file: this is {}", what);
  };
  ByteReader reader(file);
  const auto length = reader.read<uint64_t>();
  if (!length) return foreign(length.error().message);
  if (*length > kMaxHeaderBytes) {
    return foreign(fmt::format("a header of {} bytes, the limit is {}", *length, kMaxHeaderBytes));
  }
  const auto header = reader.text(*length);
  if (!header) return foreign("header: " + header.error().message);
  if (header->empty() || header->front() != '{') return foreign("the header does not start with '{'");

  HeaderReader events;
  if (!nlohmann::json::sax_parse(header->begin(), header->end(), &events)) return bad_data("{}", events.error);

  const uint64_t start = reader.position();
  const uint64_t data_size = reader.remaining();
  Contents contents;
  contents.metadata = std::move(events.metadata);
  auto& entries = events.entries;
  // An empty tensor shares its offset with its neighbour; ordering by end as well keeps it in front of it.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.tensor.name) < std::tie(b.begin, b.end, b.tensor.name);
  });
  uint64_t covered = 0;
  for (Entry& entry : entries) {
    Tensor& tensor = entry.tensor;
    const auto size = byte_size(tensor.dtype, tensor.shape);
    if (!size)
      return bad_data("tensor {}: {} [{}] has no size in whole bytes below 2^64", quote(tensor.name),
                      dtype_name(tensor.dtype), fmt::join(tensor.shape, ","));
    if (entry.begin > entry.end || entry.end > data_size) {
      return bad_data("tensor {}: data_offsets [{},{}] lie outside the data ({} bytes)", quote(tensor.name),
                      entry.begin, entry.end, data_size);
    }
    if (entry.end - entry.begin != *size) {
      return bad_data("tensor {}: data_offsets [{},{}] hold {} bytes, {} [{}] needs {}", quote(tensor.name),
                      entry.begin, entry.end, entry.end - entry.begin, dtype_name(tensor.dtype),
                      fmt::join(tensor.shape, ","), *size);
    }
    if (entry.begin != covered) {
      return bad_data("tensor {}: data start at {}, {} the byte {} where the tensor before it ends", quote(tensor.name),
                      entry.begin, entry.begin < covered ? "before" : "after", covered);
    }
    covered = entry.end;
    tensor.offset = start + entry.begin;
    tensor.size = *size;
    contents.tensors.push_back(std::move(tensor));
  }
  if (covered != data_size) return bad_data("the tensors cover {} bytes of data, the file has {}", covered, data_size);
  contents.by_name = sorted_by_name(contents.tensors);
  if (const std::string* name = repeated_name(contents.tensors, contents.by_name)) {
    return bad_data("tensor {} is repeated", quote(*name));
  }
  return contents;
}

Result<Writer> Writer::create(const std::string& path, std::vector<Tensor> tensors,
                              const std::map<std::string, std::string>& metadata) {
  if (const std::string* name = repeated_name(tensors, sorted_by_name(tensors))) {
    return usage("tensor {} is repeated", quote(*name));
  }
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors) {
    const auto size = byte_size(tensor.dtype, tensor.shape);
    const auto end = size ? checked_add(offset, *size) : std::nullopt;
    if (!end) return usage("tensor {} has no size in whole bytes below 2^64", quote(tensor.name));
    header[tensor.name] = {
        {"dtype", dtype_name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, *end}}};
    offset = *end;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data start on a multiple of 8
  if (text.size() > kMaxHeaderBytes)
    return usage("a header of {} bytes, the limit is {}", text.size(), kMaxHeaderBytes);

  TRY_ASSIGN(AtomicFile file, AtomicFile::create(path));
  const uint64_t length = text.size();
  TRY(file.write(std::as_bytes(std::span(&length, 1))));
  TRY(file.write(std::as_bytes(std::span(text.data(), text.size()))));
  const uint64_t end = file.size() + offset;
  return Writer(std::move(file), end);
}

Status Writer::append(std::span<const std::byte> bytes) {
  if (bytes.size() > end_ - file_.size()) {
    return error(Code::kInternal, "{} bytes beyond the declared tensors", bytes.size() - (end_ - file_.size()));
  }
  return file_.write(bytes);
}

Status Writer::commit() {
  if (file_.size() != end_)
    return error(Code::kInternal, "{} bytes of the declared tensors are missing", end_ - file_.size());
  return file_.commit();
}

}  // namespace ll::safetensors
