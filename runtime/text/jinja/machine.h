// Runs a program: a stack machine over Python's values. The machine never recurses, whatever a template does.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "runtime/text/jinja/builtins.h"
#include "runtime/text/jinja/object.h"
#include "runtime/text/jinja/program.h"
#include "runtime/text/jinja/template.h"

namespace ll::jinja {

class Machine {
 public:
  Machine(const Program& program, const RenderOptions& options);
  Result<Rendered> run(const Value& context);

  // Work that counts as one step: bytes of a string made or read through, items of a list made or walked.
  static constexpr uint64_t kBytesPerStep = 256, kItemsPerStep = 8;

  // Budgets. `work` counts steps, `grow` bytes; both only note an excess, which ends the rendering at the next
  // instruction or the next over() that a long built-in asks for.
  void work(uint64_t steps) { ticks_ += kTicks * steps; }
  void grow(uint64_t bytes) { memory_ += bytes; }
  bool over() const { return ticks_ / kTicks > options_.max_steps || memory_ > options_.max_memory; }
  Status check() const;
  // Before a string of n bytes or a list of n items is made.
  Status check_string(uint64_t bytes) const;
  Status check_items(uint64_t items) const;

  // Making values.
  template <class T>
  T* make() {
    grow(sizeof(T) + 16);
    objects_.push_back(std::make_unique<T>());
    return static_cast<T*>(objects_.back().get());
  }
  V string(Text text, bool markup = false);
  V string(std::string_view text, bool trusted) { return string(Text(text, trusted)); }
  V list(std::vector<V> items) { return sequence(Kind::kList, std::move(items)); }
  V tuple(std::vector<V> items) { return sequence(Kind::kTuple, std::move(items)); }
  V iterator(std::vector<V> items, const char* type = "generator", std::optional<std::string> error = {});
  V undefined(std::string message);
  V undefined_name(std::string_view name);
  V undefined_attribute(const V& object, const V& name);
  static V value(Kind kind, Object* object) {
    V v = ll::jinja::make(kind, false);
    v.object = object;
    return v;
  }
  // A dict under construction; a repeated key takes the last value at the first place. Fails on keys that cannot be
  // hashed.
  Result<V> dict(std::vector<std::pair<V, V>> items);

  // Python's operations (operators.cc).
  bool truth(const V& v);
  Result<bool> equal(const V& a, const V& b, int depth = 0);
  // Python's ordering: kLess, kSame, kGreater, or kUnordered with a NaN; fails where Python does. `symbol` is for the
  // message.
  enum class Order : uint8_t { kLess, kSame, kGreater, kUnordered };
  Result<Order> order(const V& a, const V& b, const char* symbol = "<", int depth = 0);
  Result<bool> compare(Comparison op, const V& a, const V& b);
  Result<bool> contains(const V& container, const V& item);
  Result<V> binary(Op op, const V& a, const V& b);
  Result<V> unary(Op op, const V& v);
  Status hashable(const V& v, int depth = 0);
  // Notes the work of reading n bytes.
  void read(uint64_t bytes) { work(bytes / kBytesPerStep); }
  // A total order of hashable values in which equal ones, and only they, are neither before nor behind each other.
  int key_order(const V& a, const V& b);
  Error undefined_error(const V& v) const { return bad_data("{}", v.as<Undefined>()->message); }

  // Parts of values (access.cc).
  Result<V> attribute(const V& object, const V& name);
  Result<V> item(const V& object, const V& key);
  Result<V> slice(const V& object, const V& start, const V& stop, const V& step);
  const V* lookup(const Dict& dict, const V& key);
  // What iter() yields, in order; uses iterators up. The vector lives as long as the rendering.
  Result<const std::vector<V>*> items_of(const V& v);
  // The items of v, which have to be `count`: what a, b = v assigns.
  Result<const std::vector<V>*> unpack(const V& v, size_t count);
  // len(); fails where Python does.
  Result<int64_t> length(const V& v);
  // The n-th character's offset; n may be the length.
  size_t char_offset(const String& s, int64_t index);
  int64_t char_length(const String& s);
  V substring(const V& string, size_t begin, size_t end);
  // getattr(object, name) under the sandbox's rules; kMissing where Python raises AttributeError.
  V native_attribute(const V& object, std::string_view name);

  // Text of values (print.cc).
  Result<Text> str(const V& v);
  Result<Text> repr(const V& v);
  struct JsonStyle {
    bool ensure_ascii = false, sort_keys = false;
    std::optional<std::string> indent;
    std::string item_separator = ", ", key_separator = ": ";
  };
  Result<Text> json(const V& v, const JsonStyle& style);

  // Python's % and str.format (format.cc).
  Result<V> percent_format(const V& format, const V& arguments);
  Result<V> brace_format(const V& format, const Args& args);

  // How many filters called one another: map('map', ...) would otherwise nest without end.
  int filter_depth = 0;

  const RenderOptions& options() const { return options_; }
  const Program& program() const { return program_; }

 private:
  struct Frame {
    enum class Kind : uint8_t { kTemplate, kMacro, kLoop };
    Kind kind = Kind::kTemplate;
    size_t return_to = 0;
    size_t stack = 0, loops = 0, captures = 0;  // sizes when the frame began
    Scope* scope = nullptr;                     // the caller's
    Scope* base = nullptr;                      // the frame's own outermost
    int64_t depth0 = 0;
  };

  V sequence(Kind kind, std::vector<V> items);
  Result<V> convert(const Value& value, int depth);
  Status load_context(const Value& context);
  Status step(const Instruction& in);
  Status step_block(const Instruction& in);
  Status step_loop(const Instruction& in);
  Status step_build(const Instruction& in);
  Error corrupt() const { return bad_data("template program is damaged"); }
  bool has(size_t n) const { return stack_.size() >= frames_.back().stack + n; }
  V pop();
  void push(const V& v) { stack_.push_back(v); }
  Status emit(const V& v);
  Status write(const Text& text);
  V load(uint32_t name);
  void store(uint32_t name, const V& v);
  Scope* new_scope(Scope* parent);
  bool pop_scope();
  Loop* loop() { return loops_.size() > frames_.back().loops ? loops_.back() : nullptr; }
  Status next_item(const Instruction& in);
  Result<std::pair<std::vector<V>, std::vector<std::pair<V, V>>>> arguments(const CallShape& shape);
  Status call(const CallShape& shape);
  Status call_macro(const Macro& macro, const Args& args);
  Status call_loop(Loop& loop, const Args& args);
  Status return_text();
  Status push_frame(Frame frame);
  Result<V> constant(uint32_t index);

  const Program& program_;
  const RenderOptions& options_;
  std::vector<std::unique_ptr<Object>> objects_;
  // An instruction is a tick: loads, constants and literals come several to each step that decides something.
  static constexpr uint64_t kTicks = 4;
  uint64_t ticks_ = 0, memory_ = 0;

  size_t pc_ = 0;
  bool halted_ = false;
  std::vector<V> stack_;
  std::vector<Frame> frames_;
  std::vector<Text> captures_;  // the first is the result
  std::vector<Loop*> loops_;
  std::vector<V> constants_;  // made when first used
  std::vector<V> globals_;    // by constant: the template's own variables, else its input, else Jinja's functions
  Scope* root_ = nullptr;
  Scope* scope_ = nullptr;
  std::vector<Scope*> free_scopes_;
};

}  // namespace ll::jinja
