#include "compiler/frontend/hf_model.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "compiler/frontend/hf_config.h"
#include "compiler/frontend/tokenizer_json.h"
#include "kernels/quant/formats.h"
#include "runtime/base/byte_reader.h"
#include "runtime/base/escape.h"
#include "runtime/base/safetensors.h"

namespace ll {
namespace {

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kGeneration = "generation_config.json";
constexpr std::string_view kTokenizer = "tokenizer.json";
constexpr std::string_view kTokenizerConfig = "tokenizer_config.json";
constexpr std::string_view kTemplate = "chat_template.jinja";
constexpr std::string_view kWeights = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr size_t kMaxTemplateBytes = 16 << 20;

// Files that say what a folder without config.json or weights is.
constexpr std::pair<std::string_view, std::string_view> kForeignFiles[] = {
    {"adapter_config.json", "a PEFT adapter: it needs the model it was made for"},
    {"pytorch_model.bin", "PyTorch pickles: convert them to safetensors"},
    {"pytorch_model.bin.index.json", "PyTorch pickles: convert them to safetensors"},
    {"consolidated.00.pth", "Meta's original format: convert it with transformers"},
    {"params.json", "the original format of its makers: convert it with transformers"},
};

std::string_view as_text(std::span<const std::byte> bytes) { return *ByteReader(bytes).text(bytes.size()); }

const SourceFile* find(const HfFiles& files, std::string_view name) {
  const auto it = files.find(name);
  return it == files.end() ? nullptr : &it->second;
}

// A name that stays in the folder.
bool is_bare_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

std::optional<DType> dtype_of(safetensors::DType dtype) {
  switch (dtype) {
    case safetensors::DType::kF32:
      return DType::kF32;
    case safetensors::DType::kF16:
      return DType::kF16;
    case safetensors::DType::kBF16:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

Status add_tensors(const SourceFile& file, Draft& draft) {
  const auto source = static_cast<int32_t>(draft.spec.sources.size());
  draft.spec.sources.push_back(file);
  TRY_ASSIGN(const safetensors::Contents contents, safetensors::parse(file.bytes));
  for (const safetensors::Tensor& tensor : contents.tensors) {
    FileTensor found;
    found.type = safetensors::dtype_name(tensor.dtype);
    found.source = source;
    found.offset = tensor.offset;
    found.rank = static_cast<int>(tensor.shape.size());
    // What no weight has can stay in the file as long as no graph asks for it.
    const bool plain = found.rank >= 1 && found.rank <= kMaxRank && tensor.size > 0;
    if (plain) {
      std::copy(tensor.shape.begin(), tensor.shape.end(), found.dims.begin());
      found.dtype = dtype_of(tensor.dtype);
      if (found.dtype) found.type = dtype_name(*found.dtype);
      found.bytes = file.bytes.subspan(tensor.offset, tensor.size);
    } else {
      found.type = fmt::format("{} of shape [{}]", found.type, fmt::join(tensor.shape, ","));
      found.rank = 0;
    }
    if (!draft.tensors.emplace(tensor.name, std::move(found)).second) {
      return bad_data("tensor {} is in two files", quote(tensor.name));
    }
  }
  return {};
}

Result<std::set<std::string>> weight_files(const HfFiles& files) {
  const SourceFile* index = find(files, kIndex);
  // transformers prefers the single file, too.
  if (find(files, kWeights) != nullptr || index == nullptr) return std::set<std::string>{std::string(kWeights)};
  auto names = hf_weight_files(index->bytes);
  if (!names) return std::move(names.error()).in(kIndex);
  return names;
}

Result<std::shared_ptr<const nlohmann::json>> parse_file(const HfFiles& files, std::string_view name) {
  const SourceFile* file = find(files, name);
  if (file == nullptr) return std::shared_ptr<const nlohmann::json>();
  auto parsed = parse_json(file->bytes);
  if (!parsed) return std::move(parsed.error()).in(name);
  return parsed;
}

Status read_text(const HfFiles& files, ModelSpec& spec) {
  TRY_ASSIGN(const auto tokenizer_config, parse_file(files, kTokenizerConfig));
  if (const SourceFile* file = find(files, kTemplate)) {
    if (file->bytes.size() > kMaxTemplateBytes) return bad_data("{}: more than {} bytes", kTemplate, kMaxTemplateBytes);
    spec.chat_template = as_text(file->bytes);
  } else if (tokenizer_config) {
    auto found = hf_chat_template(*tokenizer_config);
    if (!found) return std::move(found.error()).in(kTokenizerConfig);
    spec.chat_template = *std::move(found);
  }
  const SourceFile* tokenizer = find(files, kTokenizer);
  if (tokenizer == nullptr) return {};
  const SourceFile* config = find(files, kTokenizerConfig);
  auto found = tokenizer_from_json(as_text(tokenizer->bytes), config == nullptr ? "" : as_text(config->bytes));
  if (!found) return std::move(found.error()).in(kTokenizer);
  spec.tokenizer = std::make_shared<const TokenizerSpec>(*std::move(found));
  return {};
}

}  // namespace

Result<std::set<std::string>> hf_weight_files(std::span<const std::byte> index) {
  TRY_ASSIGN(const auto json, parse_json(index));
  TRY_ASSIGN(const JsonFields fields, JsonFields::of(*json));
  const nlohmann::json* map = fields.find("weight_map");
  if (map == nullptr || !map->is_object()) return bad_data("'weight_map' is missing or no object");
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string()) return bad_data("weight_map: {} names no file", quote(tensor));
    const auto& name = file.get_ref<const std::string&>();
    if (!is_bare_name(name) || !name.ends_with(".safetensors")) {
      return bad_data("weight_map: {} is no name of a safetensors file in the same folder", quote(name));
    }
    names.insert(name);
    if (names.size() > kMaxShards) return bad_data("weight_map names more than {} files", kMaxShards);
  }
  if (names.empty()) return bad_data("'weight_map' is empty");
  return names;
}

Result<HfFiles> open_hf_folder(const std::string& folder) {
  HfFiles files;
  const auto open = [&](std::string_view name) -> Status {
    const std::string path = fmt::format("{}{}{}", folder, folder.ends_with('/') ? "" : "/", name);
    TRY_ASSIGN(MappedFile mapped, MappedFile::open(path));
    auto mapping = std::make_shared<const MappedFile>(std::move(mapped));
    files.emplace(name, SourceFile{std::string(name), path, mapping->bytes(), mapping});
    return {};
  };
  const auto exists = [&](std::string_view name) {
    std::error_code ignored;
    return std::filesystem::exists(std::filesystem::path(folder) / name, ignored);
  };
  const auto foreign = [&](std::string_view missing) {
    for (const auto& [name, what] : kForeignFiles) {
      if (exists(name)) return unsupported("{} is missing; the folder has {}: {}", missing, name, what);
    }
    return error(Code::kNoInput, "{} is missing in the folder", missing);
  };
  for (const std::string_view name : {kConfig, kGeneration, kTokenizer, kTokenizerConfig, kTemplate, kWeights}) {
    if (exists(name)) TRY(open(name));
  }
  if (!files.contains(kConfig)) return foreign(kConfig);
  if (!files.contains(kWeights)) {
    if (!exists(kIndex)) return foreign(kWeights);
    TRY(open(kIndex));
    TRY_ASSIGN(const std::set<std::string> names, weight_files(files));
    for (const std::string& name : names) TRY(open(name));
  }
  return files;
}

Result<ModelSpec> load_hf(const HfFiles& files) {
  TRY_ASSIGN(const auto config, parse_file(files, kConfig));
  if (!config) return error(Code::kNoInput, "{} is missing", kConfig);
  TRY_ASSIGN(const auto generation, parse_file(files, kGeneration));
  Draft draft;
  draft.hf = true;
  if (Status read = read_hf_config(*config, generation.get(), draft); !read) return std::move(read.error()).in(kConfig);

  TRY_ASSIGN(const std::set<std::string> names, weight_files(files));
  for (const std::string& name : names) {
    const SourceFile* file = find(files, name);
    if (file == nullptr) return error(Code::kNoInput, "{} is missing", name);
    if (Status added = add_tensors(*file, draft); !added) return std::move(added.error()).in(name);
  }
  TRY(read_text(files, draft.spec));
  return assemble(std::move(draft));
}

}  // namespace ll
