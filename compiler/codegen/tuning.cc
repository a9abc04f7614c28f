#include "compiler/codegen/tuning.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "kernels/cuda/lower.h"
#include "runtime/base/escape.h"
#include "runtime/base/mapped_file.h"

namespace ll {
namespace {

constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kProgramPrefix = "step-";

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

struct Scope {
  std::string_view program, kernel;
};

// Of "program/kernel", "program" or "kernel".
Scope split_scope(std::string_view scope) {
  const size_t slash = scope.find('/');
  if (slash != scope.npos) return {scope.substr(0, slash), scope.substr(slash + 1)};
  if (scope.starts_with(kProgramPrefix)) return {scope, {}};
  return {{}, scope};
}

Status check_key(std::string_view scoped) {
  const size_t colon = scoped.find(':');
  const std::string_view key = colon == scoped.npos ? scoped : scoped.substr(colon + 1);
  const auto keys = cuda::tuning_keys();
  if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
    return bad_data("unknown key {}, expected one of {}", quote(key), fmt::join(keys, ", "));
  }
  if (colon == scoped.npos) return {};
  const Scope scope = split_scope(scoped.substr(0, colon));
  if (!scope.kernel.empty() && cuda::find_family(scope.kernel) == nullptr) {
    return bad_data("{} is neither a program nor a kernel that GPUs run", quote(scope.kernel));
  }
  if (scope.kernel.empty() && scope.program.empty()) return bad_data("an empty scope");
  if (!scope.program.empty() && !scope.program.starts_with(kProgramPrefix)) {
    return bad_data("{} is no program, expected {}N", quote(scope.program), kProgramPrefix);
  }
  return {};
}

}  // namespace

Result<cuda::Tuning> parse_tuning(std::string_view text, std::string_view path) {
  cuda::Tuning tuning;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, std::min(text.find('#'), end)));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    const size_t space = std::min(line.find_first_of(kBlanks), line.size());
    const std::string_view key = line.substr(0, space), digits = trimmed(line.substr(space));
    int64_t value = 0;
    const auto [rest, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (digits.empty() || failed != std::errc() || rest != digits.data() + digits.size()) {
      return bad_data("{}: line {}: {}, expected a key and a number", path, number, quote(line));
    }
    if (Status s = check_key(key); !s) return bad_data("{}: line {}: {}", path, number, s.error().message);
    if (!tuning.emplace(key, value).second) {
      return bad_data("{}: line {}: {} is set twice", path, number, quote(key));
    }
  }
  return tuning;
}

Result<cuda::Tuning> read_tuning(const std::string& path) {
  if (path.empty()) return cuda::Tuning();
  TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
  const auto bytes = file.bytes();
  return parse_tuning({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

cuda::Tuning tuning_of(const cuda::Tuning& all, std::string_view program, std::string_view kernel) {
  cuda::Tuning found;
  // From the widest scope to the narrowest.
  for (const auto& [with_program, with_kernel] :
       {std::pair{false, false}, std::pair{true, false}, std::pair{false, true}, std::pair{true, true}}) {
    for (const auto& [scoped, value] : all) {
      const size_t colon = scoped.find(':');
      const bool general = colon == scoped.npos;
      const Scope scope = general ? Scope{} : split_scope(std::string_view(scoped).substr(0, colon));
      if (scope.program.empty() == with_program || scope.kernel.empty() == with_kernel) continue;
      if ((with_program && scope.program != program) || (with_kernel && scope.kernel != kernel)) continue;
      found.insert_or_assign(general ? scoped : scoped.substr(colon + 1), value);
    }
  }
  return found;
}

}  // namespace ll
