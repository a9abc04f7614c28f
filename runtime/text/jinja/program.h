// What a template compiles to: instructions of a stack machine, in one flat list (machine.h runs them).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace ll::jinja {

// Operands a and b: k a constant, n a constant that is a name, c a call shape, m a macro, to a jump distance from the
// next instruction. The comment shows the operand stack before -> after, its top at the right.
enum class Op : uint8_t {
  kHalt,
  kText,            // k                 writes a literal of the template
  kEmit,            // a: v ->           writes str(v); with a 1 fails unless v is a string
  kNone,            // -> None
  kTrue,            // -> True
  kFalse,           // -> False
  kConst,           // k: -> constant
  kLoad,            // n: -> value or undefined
  kStore,           // n: v ->
  kCheckNamespace,  // n: fails unless the name holds a namespace
  kStoreAttr,       // a n, b k: v ->    namespace n's attribute k
  kUnpack,          // a count: v -> last .. first
  kGetAttr,         // k: v -> v.k
  kGetItem,         // v key -> v[key]
  kSlice,           // v start stop step -> v[start:stop:step]
  kList,            // a count: items -> list
  kTuple,           // a count: items -> tuple
  kDict,            // a count: key value .. -> dict
  kNegative,
  kPositive,
  kNot,
  kAdd,  // the binary operators: x y -> x op y
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,
  kCompare,          // a Comparison: x y -> bool
  kChain,            // a Comparison, b to: x y -> y when it holds, else jumps with -> result
  kConcat,           // a count: items -> text
  kPop,              // v ->
  kJump,             // b to
  kJumpIfFalse,      // b to: v ->
  kAnd,              // b to: v -> when true, else jumps and keeps v
  kOr,               // b to: v -> when false, else jumps and keeps v
  kUndefined,        // k: -> undefined whose message is k
  kFilter,           // a k filter name, b c: v args -> result
  kTest,             // a k test name, b c: v args -> bool
  kCall,             // b c: callee args -> result
  kMacro,            // a m: -> macro that sees the current scope
  kParameter,        // a n, b to: jumps when the argument was given; the default's code follows
  kParameterAbsent,  // a n: an argument that was not given becomes undefined
  kReturn,           // end of a macro: -> its text, in the caller's frame
  kBeginCapture,
  kEndCapture,   // -> text since kBeginCapture
  kDropCapture,  // leaves a capture by break or continue
  kPushScope,
  kPushRootScope,  // a block's scope: sees the template's variables alone
  kPopScope,
  kFilterBegin,  // items ->            starts to filter what a loop will walk
  kFilterNext,   // b to: -> item in a scope of its own, or jumps
  kFilterKeep,   // v ->                keeps the item when v is true
  kFilterEnd,    // -> items kept
  kForBegin,     // a 1 when recursive, b to (backwards): items ->      the code a recursive call runs
  kForNext,      // b to: -> item in a scope of its own, or jumps
  kForDone,      // one iteration ran to its end
  kForElse,      // b to: jumps past the else branch when an iteration ran to its end
  kForEnd,       // leaves the loop; ends a recursive call
  kFail,         // k: fails with a message
  kCount,
};

enum class Comparison : uint32_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn, kCount };

struct Instruction {
  Op op;
  uint32_t a = 0;
  int32_t b = 0;
};

struct Constant {
  enum class Kind : uint8_t { kString, kInt, kFloat };
  Kind kind = Kind::kString;
  std::string text;
  int64_t integer = 0;
  double number = 0;
};

// The arguments of a call, on the stack in this order: positional, one per keyword, *iterable, **mapping, caller.
struct CallShape {
  enum Flags : uint8_t { kStar = 1, kStarStar = 2, kCaller = 4, kFlags = 7 };
  uint32_t positional = 0;
  std::vector<uint32_t> keywords;  // constants
  uint8_t flags = 0;
};

struct MacroShape {
  enum Flags : uint8_t { kVarargs = 1, kKwargs = 2, kCaller = 4, kFlags = 7 };
  uint32_t name = 0;                 // constant; "caller" for call blocks
  std::vector<uint32_t> parameters;  // constants
  uint32_t entry = 0;                // instruction
  uint8_t flags = 0;                 // which special variables the body reads
};

struct Program {
  std::vector<Instruction> code;  // ends with kHalt
  std::vector<Constant> constants;
  std::vector<CallShape> calls;
  std::vector<MacroShape> macros;

  // Derived by finish().
  std::map<std::string_view, uint32_t> strings;  // constant by its text
  std::vector<int16_t> filters, tests;           // by constant: index of the built-in of that name, or -1

  // Fills in what is derived. `constants` must not change afterwards.
  void finish();
};

inline constexpr size_t kMaxInstructions = 4 << 20;

std::string serialize(const Program& program);
// Checks every operand; how instructions use the stacks is checked as they run.
Result<Program> deserialize(std::span<const std::byte> bytes);

}  // namespace ll::jinja
