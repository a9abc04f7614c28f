#include "runtime/text/jinja/emitter.h"

#include <algorithm>

namespace ll::jinja {
namespace {
// Conditional expressions and filtered blocks move code that was emitted too early; published templates move some
// thousand instructions. The limit keeps hostile ones linear.
constexpr size_t kMaxMoved = 64 << 20;
}  // namespace

size_t Emitter::emit(Op op, uint32_t a, int32_t b) {
  program_.code.push_back({op, a, b});
  return program_.code.size() - 1;
}

uint32_t Emitter::text(std::string_view text) {
  const auto found = texts_.find(text);
  if (found != texts_.end()) return found->second;
  const auto index = static_cast<uint32_t>(program_.constants.size());
  program_.constants.push_back({Constant::Kind::kString, std::string(text), 0, 0});
  texts_.emplace(text, index);
  return index;
}

uint32_t Emitter::integer(int64_t value) {
  const auto [found, fresh] = integers_.emplace(value, static_cast<uint32_t>(program_.constants.size()));
  if (fresh) program_.constants.push_back({Constant::Kind::kInt, {}, value, 0});
  return found->second;
}

uint32_t Emitter::number(double value) {
  program_.constants.push_back({Constant::Kind::kFloat, {}, 0, value});
  return static_cast<uint32_t>(program_.constants.size() - 1);
}

uint32_t Emitter::call(CallShape shape) {
  std::string key = std::to_string(shape.positional) + "/" + std::to_string(shape.flags);
  for (const uint32_t keyword : shape.keywords) key += "," + std::to_string(keyword);
  const auto [found, fresh] = shapes_.emplace(std::move(key), static_cast<uint32_t>(program_.calls.size()));
  if (fresh) program_.calls.push_back(std::move(shape));
  return found->second;
}

uint32_t Emitter::macro(MacroShape shape) {
  program_.macros.push_back(std::move(shape));
  return static_cast<uint32_t>(program_.macros.size() - 1);
}

bool Emitter::moved(size_t instructions) {
  moved_ += instructions;
  return moved_ <= kMaxMoved;
}

bool Emitter::swap(size_t begin, size_t middle) {
  const auto code = program_.code.begin();
  std::rotate(code + static_cast<ptrdiff_t>(begin), code + static_cast<ptrdiff_t>(middle), program_.code.end());
  return moved(here() - begin);
}

bool Emitter::insert(size_t place, Instruction instruction) {
  program_.code.insert(program_.code.begin() + static_cast<ptrdiff_t>(place), instruction);
  return moved(here() - place);
}

Program Emitter::take() && {
  emit(Op::kHalt);
  program_.finish();
  return std::move(program_);
}

}  // namespace ll::jinja
