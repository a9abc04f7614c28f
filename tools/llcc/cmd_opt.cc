// llcc opt: runs passes on a graph, text in, text out.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "compiler/passes/pipeline.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "runtime/base/mapped_file.h"
#include "tools/llcc/commands.h"

namespace ll {
namespace {

struct OptArguments {
  std::string file;
  std::string list = "default";  // of passes, separated by commas
  std::string kv_type;
  std::vector<std::string> disabled, print_after;
  PassOptions passes;
  bool list_passes = false, print_report = false, split_input = false;
};

Result<std::string> read(const std::string& path) {
  if (path != "-") {
    TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
    const auto bytes = file.bytes();
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  std::string text;
  char buffer[1 << 16];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, stdin)) {
    text.append(buffer, n);
    if (text.size() > ir::kMaxTextBytes) break;
  }
  return text;
}

constexpr std::string_view kSplit = "// -----\n";

// The graphs of a file of several, each behind as many empty lines as stand before it: errors then name the file's
// lines.
std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> graphs;
  size_t lines = 0;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(kSplit, begin), text.size());
    graphs.push_back(std::string(lines, '\n') + text.substr(begin, end - begin));
    lines += static_cast<size_t>(std::count(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                            text.begin() + static_cast<std::ptrdiff_t>(end), '\n')) +
             1;
    begin = end + kSplit.size();
  }
  return graphs;
}

Result<std::vector<const Pass*>> chosen(const OptArguments& o) {
  std::vector<const Pass*> list;
  for (size_t begin = 0; begin <= o.list.size();) {
    const size_t end = std::min(o.list.find(',', begin), o.list.size());
    const std::string name = o.list.substr(begin, end - begin);
    begin = end + 1;
    if (name == "default") {  // the bucket's passes too, when the sizes are given
      for (const Pass& p : passes()) {
        if (p.integer_kernels && o.passes.reference_kernels) continue;
        if (p.stage == PassStage::kBucket && o.passes.sizes.tokens == 0) continue;
        list.push_back(&p);
      }
      continue;
    }
    const Pass* pass = find_pass(name);
    if (pass == nullptr && !name.empty()) return usage("unknown pass '{}', see llcc opt --list-passes", name);
    if (pass != nullptr) list.push_back(pass);
  }
  return list;
}

Status known(const std::vector<std::string>& names) {
  for (const std::string& n : names) {
    if (find_pass(n) == nullptr) return usage("unknown pass '{}', see llcc opt --list-passes", n);
  }
  return {};
}

void print_report(const PassReport& report) {
  for (const PassEntry& e : report.passes) {
    fmt::print(stderr, "{:<22} {:>8.3f} ms  {} -> {} ops", e.name, e.seconds * 1e3, e.ops_before, e.ops_after);
    for (const auto& [name, count] : e.rewrites) {
      if (count != 0) fmt::print(stderr, "  {} x{}", name, count);
    }
    for (const std::string& note : e.notes) fmt::print(stderr, "  {}", note);
    fmt::print(stderr, "\n");
  }
}

Status run(OptArguments& o) {
  if (o.list_passes) {
    for (const Pass& p : passes()) fmt::print("{:<22} {}\n", p.name, p.reason);
    return {};
  }
  if (o.file.empty()) return usage("FILE.llir is missing");
  TRY(known(o.disabled));
  TRY(known(o.print_after));
  o.passes.disabled.insert(o.disabled.begin(), o.disabled.end());
  o.passes.print_after.insert(o.print_after.begin(), o.print_after.end());
  if (o.passes.reference_kernels) o.passes.kv_dtype = DType::kF32;
  if (o.kv_type == "f32") o.passes.kv_dtype = DType::kF32;
  if (o.kv_type == "f16") o.passes.kv_dtype = DType::kF16;
  if (o.kv_type == "q8") o.passes.kv_dtype = DType::kI8;
  // What a step of T tokens can have at most, where nothing else is said.
  StepSizes& s = o.passes.sizes;
  if (s.tokens > 0) {
    if (s.rows == 0) s.rows = s.tokens;
    if (s.sequences == 0) s.sequences = s.tokens;
    if (s.pages_per_sequence == 0) s.pages_per_sequence = 64;
    if (s.pages == 0) s.pages = 64;
  }
  TRY_ASSIGN(const std::vector<const Pass*> list, chosen(o));
  TRY_ASSIGN(const std::string text, read(o.file));
  const std::vector<std::string> graphs = o.split_input ? split(text) : std::vector<std::string>{text};
  for (size_t i = 0; i < graphs.size(); ++i) {
    TRY_ASSIGN(ir::Graph graph, ir::parse(graphs[i], o.file));
    if (Status valid = ir::verify(graph); !valid) return std::move(valid).error().in(o.file);
    PassReport report;
    TRY(run_passes(graph, list, o.passes, &report));
    if (o.print_report) print_report(report);
    fmt::print("{}{}", i > 0 ? kSplit : "", ir::print(graph));
  }
  return {};
}

}  // namespace

Command add_opt(CLI::App& app) {
  auto o = std::make_shared<OptArguments>();
  app.add_option("FILE", o->file, "graph (.llir), or - for stdin");
  app.add_option("--passes", o->list,
                 "passes to run, in this order: a,b,c; default: the whole pipeline, as far as the sizes "
                 "given allow");
  app.add_option("--disable-pass", o->disabled, "pass not to run (may be given several times)");
  app.add_option("--print-after", o->print_after,
                 "print the graph to stderr after this pass (may be given several times)");
  app.add_flag("--print-after-all", o->passes.print_after_all, "print the graph to stderr after every pass");
  app.add_flag("--report", o->print_report, "print time, ops and rewrites of every pass to stderr");
  app.add_flag("--split-input", o->split_input, "the file holds several graphs, separated by lines '// -----'");
  app.add_flag("--list-passes", o->list_passes, "list the passes in pipeline order and stop");
  app.add_flag("--reference-kernels", o->passes.reference_kernels,
               "f32 activations and KV cache, weights in the file's order");
  app.add_option("--kv-type", o->kv_type, "element type of the KV caches")->check(CLI::IsMember({"f32", "f16", "q8"}));
  StepSizes& s = o->passes.sizes;
  const CLI::Range size(int64_t{1}, ir::kMaxDim);
  app.add_option("--tokens", s.tokens, "most tokens of a step; chooses kernels and plans memory for it")->check(size);
  app.add_option("--rows", s.rows, "most logit rows of a step (default: --tokens)")->check(size);
  app.add_option("--sequences", s.sequences, "most sequences of a step (default: --tokens)")->check(size);
  app.add_option("--pages-per-sequence", s.pages_per_sequence, "columns of the block table (default: 64)")->check(size);
  app.add_option("--pages", s.pages, "KV pages of each layer (default: 64)")->check(size);
  return [o] { return run(*o); };
}

}  // namespace ll
