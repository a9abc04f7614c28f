// Model files of a few kilobytes, built in memory: for the front end's tests and fuzz targets.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "compiler/frontend/gguf.h"

namespace ll {

// Writes GGUF files, well formed unless told otherwise.
class GgufBuilder {
 public:
  uint32_t version = 3;
  uint32_t alignment = 32;  // of the data; "general.alignment" is written by hand

  struct Tensor {
    std::string name;
    std::vector<uint64_t> dims;  // fastest first
    uint32_t type = 0;
    std::string data;
  };
  std::vector<std::pair<std::string, std::string>> pairs;  // key, type and value as written
  std::vector<Tensor> tensors;

  template <class T>
  static std::string bytes(T value) {
    static_assert(std::is_arithmetic_v<T>);
    std::string out(sizeof(T), '\0');
    std::memcpy(out.data(), &value, sizeof(T));
    return out;
  }
  static std::string text(std::string_view value) { return bytes(uint64_t{value.size()}) + std::string(value); }
  static std::string type(gguf::ValueType value) { return bytes(static_cast<uint32_t>(value)); }

  // Adds a pair, or replaces the value of one that is there.
  GgufBuilder& raw(const std::string& key, std::string type_and_value) {
    for (auto& pair : pairs) {
      if (pair.first == key) {
        pair.second = std::move(type_and_value);
        return *this;
      }
    }
    pairs.emplace_back(key, std::move(type_and_value));
    return *this;
  }
  GgufBuilder& u32(const std::string& key, uint32_t value) {
    return raw(key, type(gguf::ValueType::kU32) + bytes(value));
  }
  GgufBuilder& f32(const std::string& key, float value) { return raw(key, type(gguf::ValueType::kF32) + bytes(value)); }
  GgufBuilder& boolean(const std::string& key, bool value) {
    return raw(key, type(gguf::ValueType::kBool) + std::string(1, value ? '\1' : '\0'));
  }
  GgufBuilder& string(const std::string& key, std::string_view value) {
    return raw(key, type(gguf::ValueType::kString) + text(value));
  }
  GgufBuilder& i32s(const std::string& key, const std::vector<int32_t>& values) {
    std::string out = type(gguf::ValueType::kArray) + type(gguf::ValueType::kI32) + bytes(uint64_t{values.size()});
    for (const int32_t v : values) out += bytes(v);
    return raw(key, std::move(out));
  }
  GgufBuilder& strings(const std::string& key, const std::vector<std::string>& values) {
    std::string out = type(gguf::ValueType::kArray) + type(gguf::ValueType::kString) + bytes(uint64_t{values.size()});
    for (const std::string& v : values) out += text(v);
    return raw(key, std::move(out));
  }
  GgufBuilder& erase(std::string_view key) {
    std::erase_if(pairs, [&](const auto& pair) { return pair.first == key; });
    return *this;
  }

  // f32 (type 0), filled with `value`.
  GgufBuilder& tensor(const std::string& name, const std::vector<uint64_t>& dims, float value = 1) {
    uint64_t elements = 1;
    for (const uint64_t d : dims) elements *= d;
    std::string data;
    for (uint64_t i = 0; i < elements; ++i) data += bytes(value);
    tensors.push_back({name, dims, 0, std::move(data)});
    return *this;
  }
  Tensor& find(std::string_view name) {
    for (Tensor& t : tensors) {
      if (t.name == name) return t;
    }
    return tensors.emplace_back();
  }

  std::string build() const {
    std::string out = "GGUF" + bytes(version) + bytes(uint64_t{tensors.size()}) + bytes(uint64_t{pairs.size()});
    for (const auto& [key, value] : pairs) out += text(key) + value;
    uint64_t offset = 0;
    for (const Tensor& t : tensors) {
      out += text(t.name) + bytes(static_cast<uint32_t>(t.dims.size()));
      for (const uint64_t d : t.dims) out += bytes(d);
      out += bytes(t.type) + bytes(offset);
      offset += (t.data.size() + alignment - 1) / alignment * alignment;
    }
    for (const Tensor& t : tensors) {
      out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
      out += t.data;
    }
    return out;
  }
};

// A llama of one layer: 8 tokens, 32 wide, 2 heads of 16 sharing 1, feed-forward 64. Matrices are q4_0, output tied.
inline GgufBuilder small_llama(const std::string& architecture = "llama") {
  GgufBuilder file;
  const std::string a = architecture + ".";
  file.string("general.architecture", architecture)
      .string("general.name", "small")
      .u32(a + "context_length", 64)
      .u32(a + "embedding_length", 32)
      .u32(a + "block_count", 1)
      .u32(a + "feed_forward_length", 64)
      .u32(a + "attention.head_count", 2)
      .u32(a + "attention.head_count_kv", 1)
      .f32(a + "attention.layer_norm_rms_epsilon", 1e-5f)
      .f32(a + "rope.freq_base", 10000)
      .u32("tokenizer.ggml.bos_token_id", 1)
      .u32("tokenizer.ggml.eos_token_id", 2);
  const auto matrix = [&](const std::string& name, uint64_t rows, uint64_t columns) {
    // Blocks of 32: an f16 scale (0.5) and 16 bytes.
    std::string block = std::string("\x00\x38", 2) + std::string(16, '\x79');
    std::string data;
    for (uint64_t i = 0; i < rows * columns / 32; ++i) data += block;
    file.tensors.push_back({name, {columns, rows}, 2, std::move(data)});
  };
  matrix("token_embd.weight", 8, 32);
  file.tensor("output_norm.weight", {32});
  file.tensor("blk.0.attn_norm.weight", {32});
  matrix("blk.0.attn_q.weight", 32, 32);
  matrix("blk.0.attn_k.weight", 16, 32);
  matrix("blk.0.attn_v.weight", 16, 32);
  matrix("blk.0.attn_output.weight", 32, 32);
  file.tensor("blk.0.ffn_norm.weight", {32});
  matrix("blk.0.ffn_gate.weight", 64, 32);
  matrix("blk.0.ffn_up.weight", 64, 32);
  matrix("blk.0.ffn_down.weight", 32, 64);
  if (architecture == "qwen2") {
    file.tensor("blk.0.attn_q.bias", {32});
    file.tensor("blk.0.attn_k.bias", {16});
    file.tensor("blk.0.attn_v.bias", {16});
  }
  return file;
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// A safetensors file of zeros: name -> dtype and shape, in that order.
struct SmallTensor {
  std::string name, dtype;
  std::vector<uint64_t> shape;
};
inline std::string safetensors_file(const std::vector<SmallTensor>& tensors) {
  const std::map<std::string, uint64_t> sizes = {{"F32", 4}, {"BF16", 2}, {"F16", 2}, {"F8_E4M3", 1}, {"I32", 4}};
  std::string header = "{";
  uint64_t offset = 0;
  for (const SmallTensor& t : tensors) {
    std::string shape;
    uint64_t size = sizes.at(t.dtype);
    for (const uint64_t d : t.shape) {
      shape += (shape.empty() ? "" : ",") + std::to_string(d);
      size *= d;
    }
    header += (header.size() == 1 ? "\"" : ",\"") + t.name + "\":{\"dtype\":\"" + t.dtype + "\",\"shape\":[" + shape +
              "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + size) + "]}";
    offset += size;
  }
  header += "}";
  return GgufBuilder::bytes(uint64_t{header.size()}) + header + std::string(offset, '\0');
}

}  // namespace ll
