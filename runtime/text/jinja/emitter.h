// The program under construction.
#pragma once

#include <map>
#include <string>

#include "runtime/text/jinja/program.h"

namespace ll::jinja {

class Emitter {
 public:
  size_t here() const { return program_.code.size(); }
  // Appends an instruction and returns its place.
  size_t emit(Op op, uint32_t a = 0, int32_t b = 0);
  // A jump forwards whose target is set by land().
  size_t jump(Op op, uint32_t a = 0) { return emit(op, a, 0); }
  void land(size_t jump) { program_.code[jump].b = distance(jump, here()); }
  void jump_back(Op op, size_t target, uint32_t a = 0) { emit(op, a, distance(here(), target)); }
  Instruction& at(size_t place) { return program_.code[place]; }

  uint32_t text(std::string_view text);
  uint32_t integer(int64_t value);
  uint32_t number(double value);
  uint32_t call(CallShape shape);
  uint32_t macro(MacroShape shape);
  const std::string& text_of(uint32_t constant) const { return program_.constants[constant].text; }
  CallShape& call_shape(uint32_t index) { return program_.calls[index]; }
  void drop_last() { program_.code.pop_back(); }

  // Swaps [begin, middle) and [middle, here()); jumps inside either part stay right. False when a template does this
  // too often.
  bool swap(size_t begin, size_t middle);
  // Makes room for one instruction; nothing may jump across the place.
  bool insert(size_t place, Instruction instruction);
  bool full() const { return program_.code.size() > kMaxInstructions; }

  Program take() &&;

 private:
  static int32_t distance(size_t from, size_t to) {
    return static_cast<int32_t>(static_cast<int64_t>(to) - static_cast<int64_t>(from) - 1);
  }
  bool moved(size_t instructions);

  Program program_;
  std::map<std::string, uint32_t, std::less<>> texts_;
  std::map<int64_t, uint32_t> integers_;
  std::map<std::string, uint32_t> shapes_;
  size_t moved_ = 0;
};

}  // namespace ll::jinja
