// Template source to program, in one pass: the parser emits code as it reads, in the order of Jinja's grammar.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/jinja/emitter.h"
#include "runtime/text/jinja/lexer.h"

namespace ll::jinja {

Result<Program> compile(std::string_view source);

// Functions return false once an error is recorded. Only nested blocks and nested expressions recurse, counted by
// nesting_.
class Parser {
 public:
  explicit Parser(std::string_view source) : lexer_(source) {}
  bool parse();
  Error error() const;
  Program take() && { return std::move(emitter_).take(); }

 private:
  enum class Level : uint8_t { kConditional, kOr, kAnd, kNot, kCompare, kAdd, kConcat, kMul, kPow };
  // What an assignment writes to.
  struct Target {
    enum class Kind : uint8_t { kName, kAttribute, kTuple };
    Kind kind = Kind::kName;
    std::string name;
    std::string attribute;
    std::vector<Target> items;
  };
  // A block that break and continue may have to leave, or may not cross.
  struct Enclosure {
    enum class Kind : uint8_t { kScope, kCapture, kLoop, kElse, kFunction };
    Kind kind;
    size_t next = 0;             // loops: the place of kForNext
    std::vector<size_t> breaks;  // loops: jumps to the end
  };
  // The special variables that a macro's body reads: caller, kwargs, varargs.
  struct Specials {
    std::array<bool, 3> read{}, shadowed{};
    bool in_body = false;
  };
  using Ends = std::span<const std::string_view>;

  // parser.cc: tokens
  bool advance();
  bool look(Token& token);
  bool skip_if(Tok type, bool& skipped);
  bool skip_name(std::string_view name, bool& skipped);
  bool expect(Tok type);
  bool expect_name(std::string_view name);
  bool expect_identifier(std::string& name);
  bool fail(std::string message, int line = 0);
  bool fail_unknown_tag(const Token& tag);
  bool fail_end();
  bool enter();
  void leave() { --nesting_; }

  // parser.cc: statements
  bool body(Ends ends);
  bool block_body(Ends ends, bool drop_end);
  bool statement();
  bool set();
  bool set_block(const Target& target);
  bool loop();
  bool loop_filter(const Target& target);
  bool condition();
  bool with();
  bool block();
  bool call_block();
  bool filter_block();
  bool captured_block(bool filtered, bool inline_filter, Ends ends);
  bool macro();
  bool signature(MacroShape& shape, std::optional<size_t>& caller_without_default);
  bool macro_body(MacroShape& shape, std::string_view end, std::optional<size_t> caller_without_default, int line);
  bool print();
  bool generation();
  bool leave_loop(bool stop);
  bool other_template(std::string_view tag);
  bool autoescape();

  // targets
  bool assignment_target(Target& target, bool with_namespace);
  bool target_item(Target& target, bool with_namespace);
  bool check_namespaces(const Target& target);
  bool store(const Target& target);
  bool store_name(std::string_view name);

  // parser_expression.cc
  bool tuple(bool with_conditional, bool parentheses);
  bool expression();
  bool expression(Level level);
  bool conditional_tail(size_t begin, int line);
  bool operand(Level level);
  bool comparisons();
  bool unary(bool with_filter);
  bool primary();
  bool parentheses();
  bool list();
  bool dict();
  bool postfix();
  bool subscript();
  bool slice_or_item(bool& sliced);
  bool filters_and_tests();
  bool filter(bool first_inline);
  bool test();
  bool dotted_name(std::string& name);
  bool arguments(CallShape& shape);
  bool call();
  void load(std::string_view name);
  void require_builtin(bool is_filter, std::string_view name, int line);

  Lexer lexer_;
  Emitter emitter_;
  Token current_;
  std::optional<Token> ahead_;
  std::string error_;
  int error_line_ = 0;
  int nesting_ = 0;
  // Whether the expression read last was a call: {% call %} takes no other.
  bool is_call_ = false;
  // Jinja rejects a template that names an unknown filter or test outside of conditions; inside, only its use fails.
  bool soft_ = false;
  struct Unknown {
    size_t place;
    int line;
    std::string message;
  };
  std::vector<Unknown> unknown_;
  std::vector<std::string> tags_;
  std::vector<std::vector<std::string_view>> ends_;
  std::vector<Enclosure> enclosures_;
  std::vector<Specials> specials_;
  std::vector<std::string> blocks_;
  int loops_ = 0;
};

}  // namespace ll::jinja
