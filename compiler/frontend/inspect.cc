#include "compiler/frontend/inspect.h"

#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "compiler/frontend/gguf_model.h"
#include "compiler/frontend/hf_model.h"
#include "compiler/frontend/json_fields.h"
#include "compiler/frontend/to_f32.h"
#include "kernels/quant/formats.h"
#include "runtime/base/escape.h"
#include "runtime/base/file_magic.h"
#include "runtime/base/safetensors.h"
#include "runtime/plan/describe.h"

namespace ll {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr uint64_t kShownElements = 8;        // of an array, in text
constexpr uint64_t kShownInJson = 64;         // longer arrays are cut to kShownElements there, too
constexpr size_t kShownText = 120;            // bytes of a string, in text
constexpr uint64_t kChunkElements = 1 << 16;  // of an export; a multiple of every block

struct Listed {
  std::string name;
  std::string type;
  std::vector<uint64_t> shape;    // slowest dimension first
  std::optional<uint64_t> bytes;  // nullopt: the type's size is unknown
  uint64_t offset = 0;
  size_t file = 0;  // index into Listing::files
  std::span<const std::byte> data;
  ToF32 to_f32 = nullptr;  // null: a type we cannot read
  uint64_t block_elements = 1, block_bytes = 0;
};

struct Entry {
  std::string key;
  std::string type;  // "u32", "string[32000]"
  std::string text;  // shortened and escaped
  Json json;
};

struct Listing {
  std::string format;  // "GGUF version 3"
  std::vector<SourceFile> files;
  std::vector<Entry> metadata;
  std::set<std::string> keys;  // of safetensors metadata
  std::vector<Listed> tensors;
};

// ---- GGUF.

Json element_json(const gguf::Value& value, uint64_t i) {
  if (const auto integer = value.integer(i)) return *integer;
  if (const auto number = value.number(i); number && value.element() == gguf::ValueType::kF32) {
    // The shortest digits that mean this f32, not the double that it is equal to.
    const std::string digits = fmt::format("{}", static_cast<float>(*number));
    double shortest = *number;
    std::from_chars(digits.data(), digits.data() + digits.size(), shortest);
    return shortest;
  }
  if (const auto number = value.number(i)) return *number;
  if (const auto flag = value.boolean(i)) return *flag;
  return "beyond 2^63";  // a u64
}

std::string element_text(const Json& element) {
  if (element.is_string()) return quote(element.get_ref<const std::string&>());
  return element.dump();
}

Entry gguf_entry(const gguf::KeyValue& pair) {
  const gguf::Value& value = pair.value;
  Entry entry{std::string(pair.key), value.describe(), "", nullptr};
  if (value.type() != gguf::ValueType::kArray) {
    const auto text = value.text();
    entry.json = text ? Json(std::string(*text)) : element_json(value, 0);
    entry.text = text ? escaped(*text, kShownText) : entry.json.dump();
    return entry;
  }
  const uint64_t shown = value.count() <= kShownInJson ? value.count() : kShownElements;
  Json elements = Json::array();
  if (value.element() == gguf::ValueType::kString) {
    const auto texts = value.texts();
    for (uint64_t i = 0; i < shown; ++i) elements.push_back(std::string(texts[i]));
  } else {
    for (uint64_t i = 0; i < shown; ++i) elements.push_back(element_json(value, i));
  }
  for (uint64_t i = 0; i < std::min(shown, kShownElements); ++i) {
    entry.text += (i == 0 ? "[" : ", ") + element_text(elements[i]);
  }
  entry.text += value.count() > kShownElements ? ", ...]" : value.count() == 0 ? "[]" : "]";
  if (shown == value.count()) {
    entry.json = std::move(elements);
  } else {
    entry.json = {
        {"array", gguf::value_type_name(value.element())}, {"count", value.count()}, {"first", std::move(elements)}};
  }
  return entry;
}

// The set that a shard belongs to, or, where the others are not at hand, the shard alone.
Result<std::vector<GgufShard>> open_shards(const std::string& path, const std::shared_ptr<const MappedFile>& mapping) {
  auto set = open_gguf(path);
  if (set || set.error().code != Code::kNoInput) return set;
  TRY_ASSIGN(gguf::File file, gguf::parse(mapping->bytes()));
  std::vector<GgufShard> alone;
  alone.push_back({{fs::path(path).filename().string(), path, mapping->bytes(), mapping}, std::move(file)});
  return alone;
}

Result<Listing> list_gguf(const std::string& path, const std::shared_ptr<const MappedFile>& mapping) {
  TRY_ASSIGN(const std::vector<GgufShard> shards, open_shards(path, mapping));
  Listing listing;
  listing.format = fmt::format("GGUF version {}", shards[0].file.version);
  for (const gguf::KeyValue& pair : shards[0].file.metadata.all()) listing.metadata.push_back(gguf_entry(pair));
  for (size_t i = 0; i < shards.size(); ++i) {
    listing.files.push_back(shards[i].source);
    for (const gguf::TensorInfo& info : shards[i].file.tensors) {
      Listed tensor;
      const GgmlType* type = find_ggml_type(info.type);
      tensor.name = info.name;
      tensor.type = type != nullptr ? std::string(type->name) : fmt::format("ggml type {}", info.type);
      for (uint32_t d = info.rank; d > 0; --d) tensor.shape.push_back(info.dims[d - 1]);
      tensor.bytes = info.size;
      tensor.offset = info.offset;
      tensor.file = i;
      if (info.size) tensor.data = shards[i].file.data(info);
      tensor.to_f32 = ggml_to_f32(info.type);
      if (type != nullptr) {
        tensor.block_elements = static_cast<uint64_t>(type->block_elements);
        tensor.block_bytes = static_cast<uint64_t>(type->block_bytes);
      }
      listing.tensors.push_back(std::move(tensor));
    }
  }
  return listing;
}

// ---- safetensors, files and folders.

Status add_safetensors(const SourceFile& file, Listing& listing) {
  auto contents = safetensors::parse(file.bytes);
  if (!contents) return std::move(contents.error()).in(quote(file.name));
  for (const auto& [key, value] : contents->metadata) {
    // Shards repeat what they have in common.
    if (!listing.keys.insert(key).second) continue;
    listing.metadata.push_back({key, "string", escaped(value, kShownText), value});
  }
  for (const safetensors::Tensor& found : contents->tensors) {
    Listed tensor;
    tensor.name = found.name;
    tensor.type = safetensors::dtype_name(found.dtype);
    tensor.shape = found.shape;
    tensor.bytes = found.size;
    tensor.offset = found.offset;
    tensor.file = listing.files.size();
    tensor.data = file.bytes.subspan(found.offset, found.size);
    tensor.to_f32 = safetensors_to_f32(found.dtype);
    tensor.block_bytes = safetensors::dtype_bits(found.dtype) / 8;
    listing.tensors.push_back(std::move(tensor));
  }
  listing.files.push_back(file);
  return {};
}

Status add_config(const SourceFile& file, Listing& listing) {
  auto config = parse_json(file.bytes);
  if (!config) return std::move(config.error()).in(quote(file.name));
  if (!(*config)->is_object()) return {};
  for (const auto& [key, value] : (*config)->items()) {
    const std::string text = value.is_string() ? value.get<std::string>()
                                               : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    listing.metadata.push_back({key, value.type_name(), escaped(text, kShownText),
                                Json::parse(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))});
  }
  return {};
}

Result<SourceFile> open_file(const std::string& folder, const std::string& name) {
  const std::string path = (fs::path(folder) / name).string();
  TRY_ASSIGN(MappedFile mapped, MappedFile::open(path));
  auto mapping = std::make_shared<const MappedFile>(std::move(mapped));
  return SourceFile{name, path, mapping->bytes(), mapping};
}

Result<Listing> list_folder(const std::string& folder) {
  Listing listing;
  std::error_code ignored;
  const auto exists = [&](const char* name) { return fs::exists(fs::path(folder) / name, ignored); };
  std::set<std::string> names;
  if (exists("model.safetensors.index.json") && !exists("model.safetensors")) {
    TRY_ASSIGN(const SourceFile index, open_file(folder, "model.safetensors.index.json"));
    auto found = hf_weight_files(index.bytes);
    if (!found) return std::move(found.error()).in(quote(index.name));
    names = *std::move(found);
  } else if (exists("model.safetensors")) {
    names.insert("model.safetensors");
  } else {
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      if (entry.path().extension() == ".safetensors") names.insert(entry.path().filename().string());
    }
  }
  if (names.empty()) return error(Code::kNoInput, "the folder holds no safetensors files");
  listing.format = names.size() == 1 ? "safetensors" : fmt::format("safetensors in {} files", names.size());
  if (exists("config.json")) {
    TRY_ASSIGN(const SourceFile config, open_file(folder, "config.json"));
    TRY(add_config(config, listing));
  }
  for (const std::string& name : names) {
    TRY_ASSIGN(const SourceFile file, open_file(folder, name));
    TRY(add_safetensors(file, listing));
  }
  return listing;
}

// ---- What all have in common.

Result<Listing> list_file(const std::string& path, const std::shared_ptr<const MappedFile>& mapping) {
  if (file_kind(mapping->bytes()) == FileKind::kGguf) return list_gguf(path, mapping);
  if (path.ends_with(".index.json")) {
    const std::string folder = fs::path(path).parent_path().string();
    return list_folder(folder.empty() ? "." : folder);
  }
  Listing listing;
  listing.format = "safetensors";
  TRY(add_safetensors({fs::path(path).filename().string(), path, mapping->bytes(), mapping}, listing));
  return listing;
}

Result<std::shared_ptr<const MappedFile>> map_file(const std::string& path) {
  TRY_ASSIGN(MappedFile mapped, MappedFile::open(path));
  return std::make_shared<const MappedFile>(std::move(mapped));
}

uint64_t elements_of(const Listed& tensor) {
  uint64_t elements = 1;
  for (const uint64_t d : tensor.shape) elements *= d;  // the readers bound sizes; only empty tensors may wrap, to 0
  return elements;
}

struct Total {
  uint64_t tensors = 0, elements = 0, bytes = 0;
};
std::map<std::string, Total> totals_by_type(const Listing& listing) {
  std::map<std::string, Total> totals;
  for (const Listed& tensor : listing.tensors) {
    Total& total = totals[tensor.type];
    ++total.tensors;
    total.elements += elements_of(tensor);
    total.bytes += tensor.bytes.value_or(0);
  }
  return totals;
}

std::string to_text(const Listing& listing) {
  std::string out = fmt::format("format  {}\n", listing.format);
  for (const SourceFile& file : listing.files)
    out += fmt::format("file    {}  {} bytes\n", escaped(file.name), file.bytes.size());
  out += fmt::format("\nmetadata ({})\n", listing.metadata.size());
  size_t width = 0;
  for (const Entry& entry : listing.metadata) width = std::max(width, std::min<size_t>(escaped(entry.key).size(), 60));
  for (const Entry& entry : listing.metadata) {
    out += fmt::format("  {:<{}}  {:<12}  {}\n", escaped(entry.key), width, entry.type, entry.text);
  }
  out += fmt::format("\ntensors ({})\n", listing.tensors.size());
  width = 0;
  for (const Listed& tensor : listing.tensors)
    width = std::max(width, std::min<size_t>(escaped(tensor.name).size(), 60));
  for (const Listed& tensor : listing.tensors) {
    out += fmt::format("  {:<{}}  {:<7}  {:<16}  {:>12} bytes at {}{}\n", escaped(tensor.name), width, tensor.type,
                       fmt::format("[{}]", fmt::join(tensor.shape, ",")),
                       tensor.bytes ? std::to_string(*tensor.bytes) : "?", tensor.offset,
                       listing.files.size() > 1 ? " in " + escaped(listing.files[tensor.file].name) : "");
  }
  out += "\ntotals\n";
  Total all;
  for (const auto& [type, total] : totals_by_type(listing)) {
    out += fmt::format("  {:<12}  {:>6} tensors  {:>14} elements  {:>14} bytes\n", type, total.tensors, total.elements,
                       total.bytes);
    all.tensors += total.tensors;
    all.elements += total.elements;
    all.bytes += total.bytes;
  }
  out += fmt::format("  {:<12}  {:>6} tensors  {:>14} elements  {:>14} bytes\n", "all", all.tensors, all.elements,
                     all.bytes);
  return out;
}

std::string to_json(const Listing& listing) {
  Json out = {{"format", listing.format}};
  Json files = Json::array();
  for (const SourceFile& file : listing.files) files.push_back({{"name", file.name}, {"bytes", file.bytes.size()}});
  out["files"] = std::move(files);
  Json metadata = Json::object();
  for (const Entry& entry : listing.metadata) metadata[entry.key] = entry.json;
  out["metadata"] = std::move(metadata);
  Json tensors = Json::array();
  for (const Listed& tensor : listing.tensors) {
    Json item = {{"name", tensor.name}, {"type", tensor.type}, {"shape", tensor.shape}};
    item["bytes"] = tensor.bytes ? Json(*tensor.bytes) : Json(nullptr);
    item["offset"] = tensor.offset;
    item["file"] = listing.files[tensor.file].name;
    tensors.push_back(std::move(item));
  }
  out["tensors"] = std::move(tensors);
  Json totals = Json::object();
  for (const auto& [type, total] : totals_by_type(listing)) {
    totals[type] = {{"tensors", total.tensors}, {"elements", total.elements}, {"bytes", total.bytes}};
  }
  out["totals"] = std::move(totals);
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Status export_listed(const Listed& tensor, const std::string& output) {
  if (tensor.to_f32 == nullptr) {
    return unsupported("tensor {} has type {}, which cannot be converted", quote(tensor.name), tensor.type);
  }
  std::vector<safetensors::Tensor> declared(1);
  declared[0].name = tensor.name;
  declared[0].shape = tensor.shape;
  TRY_ASSIGN(safetensors::Writer writer, safetensors::Writer::create(output, std::move(declared)));
  const uint64_t elements = tensor.data.size() / tensor.block_bytes * tensor.block_elements;
  std::vector<float> values(std::min(elements, kChunkElements));
  for (uint64_t done = 0; done < elements; done += values.size()) {
    const uint64_t count = std::min<uint64_t>(values.size(), elements - done);
    tensor.to_f32(tensor.data.data() + done / tensor.block_elements * tensor.block_bytes, static_cast<int64_t>(count),
                  values.data());
    TRY(writer.append(std::as_bytes(std::span(values.data(), count))));
  }
  return writer.commit();
}

Status export_from_plan(const std::string& path, std::string_view name, const std::string& output) {
  TRY_ASSIGN(const ValidatedPlan plan, open_plan(path));
  TRY_ASSIGN(const Weights weights, Weights::load(plan));
  TRY_ASSIGN(const TensorValues found, plan_tensor_values(*plan, weights, name));
  std::vector<safetensors::Tensor> declared(1);
  declared[0].name = name;
  declared[0].shape.assign(found.shape.begin(), found.shape.end());
  TRY_ASSIGN(safetensors::Writer writer, safetensors::Writer::create(output, std::move(declared)));
  TRY(writer.append(std::as_bytes(std::span(found.values))));
  return writer.commit();
}

Result<std::string> inspect_any(const std::string& path, bool json) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    TRY_ASSIGN(const Listing listing, list_folder(path));
    return json ? to_json(listing) : to_text(listing);
  }
  TRY_ASSIGN(const std::shared_ptr<const MappedFile> mapping, map_file(path));
  if (file_kind(mapping->bytes()) == FileKind::kPlan) {
    TRY_ASSIGN(const ValidatedPlan plan, open_plan(path));
    return json ? describe_plan_json(*plan) : describe_plan(*plan);
  }
  TRY_ASSIGN(const Listing listing, list_file(path, mapping));
  return json ? to_json(listing) : to_text(listing);
}

Status export_any(const std::string& path, std::string_view name, const std::string& output) {
  std::error_code ignored;
  Listing listing;
  if (fs::is_directory(path, ignored)) {
    TRY_ASSIGN(listing, list_folder(path));
  } else {
    TRY_ASSIGN(const std::shared_ptr<const MappedFile> mapping, map_file(path));
    if (file_kind(mapping->bytes()) == FileKind::kPlan) return export_from_plan(path, name, output);
    TRY_ASSIGN(listing, list_file(path, mapping));
  }
  for (const Listed& tensor : listing.tensors) {
    if (tensor.name == name) return export_listed(tensor, output);
  }
  return usage("there is no tensor {} ({} others)", quote(name), listing.tensors.size());
}

}  // namespace

Result<std::string> inspect(const std::string& path, bool json) {
  auto text = inspect_any(path, json);
  if (!text) return std::move(text.error()).in(quote(path));
  return text;
}

Status export_tensor(const std::string& path, std::string_view name, const std::string& output) {
  Status done = export_any(path, name, output);
  if (!done) return std::move(done.error()).in(quote(path));
  return done;
}

}  // namespace ll
