// The text form of a graph (.llir). Round trip is a law: parse(print(g)) is the same as g for every valid graph, and
// print(parse(s)) is the canonical spelling of s.
//
//   module {architecture = "llama", vocab_size = 4096}
//   graph {
//     %tokens = input {name = "tokens"} : i32[T]
//     %w.embd = weight {name = "token_embd.weight"} : q8_0[4096,256]
//     %x = embed %w.embd, %tokens : f32[T,256]              // comments run to the end of the line
//     ...
//     return %logits : f32[R,4096]
//   }
//
// file      = [module attrs] "graph" "{" {op} "return" value ":" type "}"
// op        = value {"," value} "=" name [value {"," value}] [attrs] ":" type {"," type}
// attrs     = "{" [key "=" attribute {"," key "=" attribute}] "}"
// attribute = integer | number | text | "[" integers or numbers "]"     a number has a point or an exponent
// type      = dtype [":" layout] "[" dim {"," dim} "]" | "kv" "<" dtype ">" "[" kv_heads "," head_dim ["," pages] "]"
// dim       = integer | "P" | ("T" | "R" | "S") ["<=" integer]
// value     = "%" letters, digits, "_", ".", "-"
// text      = '"' with \" \\ \n \r \t \xHH '"'
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "ir/graph.h"
#include "runtime/base/result.h"

namespace ll::ir {

inline constexpr size_t kMaxTextBytes = size_t{256} << 20;

std::string print(const Graph& graph);
// One op as its line of the text, without the indent.
std::string print_op(const Graph& graph, OpId op);
std::string attribute_text(const Attribute& a);

// Any bytes give a graph or an error of three lines: "name:line:column: what was found and expected", the line, a
// caret. Types are inferred and must equal those written. Whole-graph rules are left to verify (ir/verifier.h).
Result<Graph> parse(std::string_view text, std::string_view file_name);

}  // namespace ll::ir
