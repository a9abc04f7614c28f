#include "runtime/text/jinja/program.h"

#include "runtime/base/byte_reader.h"
#include "runtime/text/jinja/builtins.h"
#include "runtime/text/jinja/template.h"
#include "runtime/text/utf8.h"

namespace ll::jinja {
namespace {

constexpr uint32_t kMagic = 0x314A4C4C;  // "LLJ1"; the digit is the version of the format

// What an instruction's operands are, for validation.
enum class Operand : uint8_t {
  kUnused,
  kConstant,
  kString,
  kCount,
  kCallShape,
  kMacroShape,
  kTarget,
  kComparison,
  kFlag
};
struct Operands {
  Operand a = Operand::kUnused, b = Operand::kUnused;
};

Operands operands_of(Op op) {
  using enum Operand;
  switch (op) {
    case Op::kConst:
      return {kConstant};
    case Op::kEmit:
      return {kFlag};
    case Op::kText:
    case Op::kLoad:
    case Op::kStore:
    case Op::kCheckNamespace:
    case Op::kGetAttr:
    case Op::kUndefined:
    case Op::kParameterAbsent:
    case Op::kFail:
      return {kString};
    case Op::kStoreAttr:
      return {kString, kString};
    case Op::kUnpack:
    case Op::kList:
    case Op::kTuple:
    case Op::kDict:
    case Op::kConcat:
      return {kCount};
    case Op::kCompare:
      return {kComparison};
    case Op::kChain:
      return {kComparison, kTarget};
    case Op::kJump:
    case Op::kJumpIfFalse:
    case Op::kAnd:
    case Op::kOr:
    case Op::kFilterNext:
    case Op::kForNext:
    case Op::kForElse:
      return {kUnused, kTarget};
    case Op::kFilter:
    case Op::kTest:
      return {kString, kCallShape};
    case Op::kCall:
      return {kUnused, kCallShape};
    case Op::kMacro:
      return {kMacroShape};
    case Op::kParameter:
      return {kString, kTarget};
    case Op::kForBegin:
      return {kFlag, kTarget};
    default:
      return {};
  }
}

bool valid(const Program& program, Operand operand, int64_t value, size_t place) {
  const auto below = [&](size_t limit) { return value >= 0 && static_cast<uint64_t>(value) < limit; };
  switch (operand) {
    case Operand::kUnused:
      return value == 0;
    case Operand::kConstant:
      return below(program.constants.size());
    case Operand::kString:
      return below(program.constants.size()) &&
             program.constants[static_cast<size_t>(value)].kind == Constant::Kind::kString;
    case Operand::kCount:
      return below(kMaxInstructions);
    case Operand::kCallShape:
      return below(program.calls.size());
    case Operand::kMacroShape:
      return below(program.macros.size());
    case Operand::kComparison:
      return below(static_cast<size_t>(Comparison::kCount));
    case Operand::kFlag:
      return below(2);
    case Operand::kTarget: {
      const int64_t target = static_cast<int64_t>(place) + 1 + value;
      return target >= 0 && target < static_cast<int64_t>(program.code.size());
    }
  }
  return false;
}

class Writer {
 public:
  template <class T>
  void put(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void text(std::string_view text) {
    put(static_cast<uint32_t>(text.size()));
    out_.append(text);
  }
  void list(const std::vector<uint32_t>& values) {
    put(static_cast<uint32_t>(values.size()));
    for (const uint32_t value : values) put(value);
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

// A count of things of at least `size` bytes each.
Result<uint32_t> read_count(ByteReader& in, size_t size, size_t limit, const char* what) {
  TRY_ASSIGN(const uint32_t count, in.read<uint32_t>());
  if (count > limit || count > in.remaining() / size) {
    return bad_data("template program claims {} {}, more than its bytes hold or the limit {}", count, what, limit);
  }
  return count;
}

Result<std::vector<uint32_t>> read_names(ByteReader& in, const Program& program, const char* what) {
  TRY_ASSIGN(const uint32_t count, read_count(in, sizeof(uint32_t), 255, what));
  std::vector<uint32_t> names;
  for (uint32_t i = 0; i < count; ++i) {
    TRY_ASSIGN(const uint32_t name, in.read<uint32_t>());
    if (!valid(program, Operand::kString, name, 0))
      return bad_data("template program names constant {}, which is no string", name);
    names.push_back(name);
  }
  return names;
}

Result<Constant> read_constant(ByteReader& in) {
  Constant constant;
  TRY_ASSIGN(const uint8_t kind, in.read<uint8_t>());
  switch (kind) {
    case static_cast<uint8_t>(Constant::Kind::kString): {
      TRY_ASSIGN(const uint32_t size, in.read<uint32_t>());
      TRY_ASSIGN(const std::string_view text, in.text(size));
      if (size > 2 * kMaxSource || !is_utf8(text))
        return bad_data("template program holds a string that is no UTF-8 or too long");
      constant.text = text;
      break;
    }
    case static_cast<uint8_t>(Constant::Kind::kInt): {
      constant.kind = Constant::Kind::kInt;
      TRY_ASSIGN(constant.integer, in.read<int64_t>());
      break;
    }
    case static_cast<uint8_t>(Constant::Kind::kFloat): {
      constant.kind = Constant::Kind::kFloat;
      TRY_ASSIGN(constant.number, in.read<double>());
      break;
    }
    default:
      return bad_data("template program holds a constant of unknown kind {}", kind);
  }
  return constant;
}

}  // namespace

void Program::finish() {
  filters.assign(constants.size(), -1);
  tests.assign(constants.size(), -1);
  for (uint32_t i = 0; i < constants.size(); ++i) {
    if (constants[i].kind != Constant::Kind::kString) continue;
    strings.emplace(constants[i].text, i);
    filters[i] = static_cast<int16_t>(find_filter(constants[i].text));
    tests[i] = static_cast<int16_t>(find_test(constants[i].text));
  }
}

std::string serialize(const Program& program) {
  Writer out;
  out.put(kMagic);
  out.put(static_cast<uint32_t>(program.constants.size()));
  for (const Constant& constant : program.constants) {
    out.put(constant.kind);
    switch (constant.kind) {
      case Constant::Kind::kString:
        out.text(constant.text);
        break;
      case Constant::Kind::kInt:
        out.put(constant.integer);
        break;
      case Constant::Kind::kFloat:
        out.put(constant.number);
        break;
    }
  }
  out.put(static_cast<uint32_t>(program.calls.size()));
  for (const CallShape& call : program.calls) {
    out.put(call.positional);
    out.put(call.flags);
    out.list(call.keywords);
  }
  out.put(static_cast<uint32_t>(program.macros.size()));
  for (const MacroShape& macro : program.macros) {
    out.put(macro.name);
    out.put(macro.entry);
    out.put(macro.flags);
    out.list(macro.parameters);
  }
  out.put(static_cast<uint32_t>(program.code.size()));
  for (const Instruction& in : program.code) {
    out.put(in.op);
    out.put(in.a);
    out.put(in.b);
  }
  return out.take();
}

Result<Program> deserialize(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Program program;
  TRY_ASSIGN(const uint32_t magic, in.read<uint32_t>());
  if (magic != kMagic) return bad_data("template program begins with {:#010x}, expected {:#010x}", magic, kMagic);
  TRY_ASSIGN(const uint32_t constants, read_count(in, 5, kMaxInstructions, "constants"));
  for (uint32_t i = 0; i < constants; ++i) {
    TRY_ASSIGN(program.constants.emplace_back(), read_constant(in));
  }
  TRY_ASSIGN(const uint32_t calls, read_count(in, 9, kMaxInstructions, "call shapes"));
  for (uint32_t i = 0; i < calls; ++i) {
    CallShape& call = program.calls.emplace_back();
    TRY_ASSIGN(call.positional, in.read<uint32_t>());
    TRY_ASSIGN(call.flags, in.read<uint8_t>());
    if (call.positional > kMaxInstructions || call.flags > CallShape::kFlags)
      return bad_data("template program holds a malformed call shape");
    TRY_ASSIGN(call.keywords, read_names(in, program, "keywords"));
  }
  TRY_ASSIGN(const uint32_t macros, read_count(in, 13, kMaxInstructions, "macros"));
  for (uint32_t i = 0; i < macros; ++i) {
    MacroShape& macro = program.macros.emplace_back();
    TRY_ASSIGN(macro.name, in.read<uint32_t>());
    TRY_ASSIGN(macro.entry, in.read<uint32_t>());
    TRY_ASSIGN(macro.flags, in.read<uint8_t>());
    if (macro.flags > MacroShape::kFlags || !valid(program, Operand::kString, macro.name, 0)) {
      return bad_data("template program holds a malformed macro");
    }
    TRY_ASSIGN(macro.parameters, read_names(in, program, "parameters"));
  }
  TRY_ASSIGN(const uint32_t size, read_count(in, 9, kMaxInstructions + 1, "instructions"));
  for (uint32_t i = 0; i < size; ++i) {
    TRY_ASSIGN(const uint8_t op, in.read<uint8_t>());
    if (op >= static_cast<uint8_t>(Op::kCount)) return bad_data("instruction {} has unknown code {}", i, op);
    Instruction& instruction = program.code.emplace_back();
    instruction.op = static_cast<Op>(op);
    TRY_ASSIGN(instruction.a, in.read<uint32_t>());
    TRY_ASSIGN(instruction.b, in.read<int32_t>());
  }
  if (in.remaining() != 0) return bad_data("{} bytes follow the template program", in.remaining());
  if (program.code.empty() || program.code.back().op != Op::kHalt)
    return bad_data("template program does not end with a halt");
  for (size_t i = 0; i < program.code.size(); ++i) {
    const Instruction& instruction = program.code[i];
    const Operands operands = operands_of(instruction.op);
    if (!valid(program, operands.a, instruction.a, i) || !valid(program, operands.b, instruction.b, i)) {
      return bad_data("instruction {} has an operand out of range", i);
    }
  }
  for (const MacroShape& macro : program.macros) {
    if (macro.entry >= program.code.size())
      return bad_data("a macro begins at instruction {}, beyond the last", macro.entry);
  }
  program.finish();
  return program;
}

}  // namespace ll::jinja
