#include "compiler/frontend/arch/arch.h"

namespace ll {
namespace {

constexpr const Family* kFamilies[] = {&kLlama, &kMistral, &kQwen2};

}  // namespace

std::span<const Family* const> families() { return kFamilies; }

const Family* find_family(std::string_view name) {
  for (const Family* family : kFamilies) {
    if (family->name == name) return family;
  }
  return nullptr;
}

std::string supported_architectures() {
  std::string out;
  for (const Family* family : kFamilies) {
    if (!out.empty()) out += ", ";
    out += family->name;
  }
  return out;
}

Result<ir::Graph> build_graph(const ModelSpec& spec, DType kv) {
  const Family* family = find_family(spec.architecture);
  if (family == nullptr) {
    return unsupported("architecture '{}' is not supported; supported are {}", spec.architecture,
                       supported_architectures());
  }
  return family->build(spec, kv);
}

}  // namespace ll
