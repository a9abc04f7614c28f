#include "compiler/plan/explain.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "kernels/check.h"

namespace ll {
namespace {

using Json = nlohmann::ordered_json;

std::string size_text(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string count_text(uint64_t count) {
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T", " P"};
  double value = static_cast<double>(count);
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{}", count) : fmt::format("{:.1f}{}", value, kUnits[unit]);
}

// "@1024 f32[T<=8,256]", "'blk.0.attn_q.weight' q8_0:x16[256,256]", "tokens i32[T<=8]", "kv0", "logits f32[R<=8,4096]".
std::string operand_text(const Plan& plan, const Operand& o) {
  switch (o.space) {
    case Space::kWeight:
    case Space::kConstant:
      return fmt::format("'{}' {}", plan.tensors[o.index].name, check::describe(o.type));
    case Space::kInput:
      return fmt::format("{} {}", step_inputs()[o.index].name, check::describe(o.type));
    case Space::kKv:
      return fmt::format("kv{}", o.index);
    case Space::kOutput:
      return fmt::format("{} {}", output_name(o.index), check::describe(o.type));
    case Space::kArena:
      break;
  }
  if (o.row_bytes == dense_row_bytes(o.type)) return fmt::format("@{} {}", o.offset, check::describe(o.type));
  return fmt::format("@{} {} rows {} apart", o.offset, check::describe(o.type), o.row_bytes);
}

std::string attr_text(const AttrValue& value) {
  if (const auto* i = std::get_if<int64_t>(&value)) return fmt::format("{}", *i);
  if (const auto* f = std::get_if<double>(&value)) return fmt::format("{}", *f);
  return fmt::format("\"{}\"", std::get<std::string_view>(value));
}

std::string launch_text(const Plan& plan, const Launch& l) {
  std::string line = fmt::format("{} ", l.kernel->name);
  for (size_t i = 0; i < l.inputs.size(); ++i) line += (i == 0 ? "" : ", ") + operand_text(plan, l.inputs[i]);
  for (size_t i = 0; i < l.attrs.size(); ++i) {
    line += fmt::format("{}{} = {}", i == 0 ? " {" : ", ", l.attrs[i].key, attr_text(l.attrs[i].value));
  }
  if (!l.attrs.empty()) line += "}";
  for (size_t i = 0; i < l.outputs.size(); ++i) line += (i == 0 ? " -> " : ", ") + operand_text(plan, l.outputs[i]);
  return line;
}

std::string program_line(const Program& p) {
  return fmt::format(
      "program {}: up to {} tokens, {} sequences, {} logit rows; {} launches, arena {}, scratch {} a thread", p.name,
      p.max_tokens, p.max_sequences, p.max_rows, p.launches.size(), size_text(p.arena_bytes),
      size_text(p.scratch_bytes));
}

// What launches of one kernel cost together.
struct Total {
  uint64_t launches = 0, bytes = 0, operations = 0;
  void add(const Cost& cost) {
    ++launches;
    bytes += cost.bytes;
    operations += cost.operations;
  }
};

struct Totals {
  Total all;
  std::map<std::string_view, Total> by_kernel;
  explicit Totals(const Program& p) {
    for (const Launch& l : p.launches) {
      all.add(l.cost);
      by_kernel[l.kernel->name].add(l.cost);
    }
  }
};

uint64_t weight_bytes(const Plan& plan) {
  uint64_t sum = 0;
  for (const PlanTensor& t : plan.tensors) sum += t.bytes;
  return sum;
}

Result<std::vector<size_t>> chosen(const Plan& plan, std::optional<size_t> program) {
  if (program && *program >= plan.programs.size()) {
    return usage("there is no program {}: the plan has {}, numbered from 0", *program, plan.programs.size());
  }
  std::vector<size_t> list;
  for (size_t i = 0; i < plan.programs.size(); ++i) {
    if (!program || *program == i) list.push_back(i);
  }
  return list;
}

std::string arena_text(const Launch& l) {
  std::string text;
  for (const Operand& o : l.outputs) {
    if (o.space == Space::kArena) text += fmt::format("{}@{}", text.empty() ? "" : " ", o.offset);
    if (o.space == Space::kOutput) text += fmt::format("{}{}", text.empty() ? "" : " ", output_name(o.index));
  }
  return text.empty() ? "-" : text;
}

// The kernels that a target runs for a launch of the plan's GPU programs; none for a plan that runs on CPUs.
std::span<const GpuNode> nodes_of(const Plan& plan, const GpuTarget& target, size_t program, size_t launch) {
  if (plan.backend != Backend::kGpu) return {};
  return target.programs[program][launch];
}

std::string node_text(const GpuTarget& target, const GpuNode& n) {
  const GpuKernel& k = target.kernels[n.kernel];
  std::string text =
      fmt::format("{} {} grid {}x{}x{} of {} threads, {} registers, shared {}", target.name, k.function, n.grid[0],
                  n.grid[1], n.grid[2], k.threads, k.registers, size_text(k.shared_bytes + n.dynamic_shared));
  if (n.workspace > 0) text += fmt::format(", workspace {}", size_text(n.workspace));
  if (k.local_bytes > 0) text += fmt::format(", local {} a thread", size_text(k.local_bytes));
  return text;
}

size_t node_count(const Plan& plan, const GpuTarget& target, size_t program) {
  size_t count = 0;
  for (size_t l = 0; l < plan.programs[program].launches.size(); ++l) {
    count += nodes_of(plan, target, program, l).size();
  }
  return count;
}

std::string explain_program(const Plan& plan, size_t index) {
  const Program& p = plan.programs[index];
  std::string out = program_line(p) + "\n";
  out += fmt::format("  {:>4}  {:<22} {:<18} {:<24} {:>10} {:>9}  {}\n", "", "op", "kernel", "shape", "bytes",
                     "operations", "to");
  for (size_t i = 0; i < p.launches.size(); ++i) {
    const Launch& l = p.launches[i];
    out += fmt::format("  {:>4}  {:<22} {:<18} {:<24} {:>10} {:>9}   {}\n", i, l.op, l.kernel->name,
                       check::describe(l.outputs[0].type), size_text(l.cost.bytes), count_text(l.cost.operations),
                       arena_text(l));
    for (const GpuTarget& target : plan.gpu_targets) {
      for (const GpuNode& n : nodes_of(plan, target, index, i))
        out += fmt::format("          {}\n", node_text(target, n));
    }
  }
  const Totals totals(p);
  out += "  by kernel:\n";
  for (const auto& [name, t] : totals.by_kernel) {
    out += fmt::format(
        "    {:<18} {:>5} launches {:>10} {:>9} operations {:>5.1f} % of bytes\n", name, t.launches, size_text(t.bytes),
        count_text(t.operations),
        totals.all.bytes == 0 ? 0.0 : 100.0 * static_cast<double>(t.bytes) / static_cast<double>(totals.all.bytes));
  }
  out += fmt::format("  total {} launches, {}, {} operations\n", totals.all.launches, size_text(totals.all.bytes),
                     count_text(totals.all.operations));
  for (const GpuTarget& target : plan.gpu_targets) {
    if (plan.backend == Backend::kGpu) {
      out += fmt::format("  {}: {} kernels in a graph\n", target.name, node_count(plan, target, index));
    }
  }
  return out;
}

// A full step of each program, at a token's share of it.
std::string predictions(const Plan& plan, const std::vector<size_t>& list, const MachineRates& rates) {
  std::string out = fmt::format("predicted at {:.1f} GB/s and {:.0f} G operations/s:\n", rates.bytes_per_second / 1e9,
                                rates.operations_per_second / 1e9);
  for (const size_t i : list) {
    const Program& p = plan.programs[i];
    const double empty = predicted_seconds(plan, p, rates, 0);
    const double full = predicted_seconds(plan, p, rates, plan.model.context_length);
    out += fmt::format("  program {:<6} {:>9.2f} ms a step of {} tokens, {:.3f} ms a token; full context {:.2f} ms\n",
                       p.name, empty * 1e3, p.max_tokens, empty * 1e3 / p.max_tokens, full * 1e3);
  }
  return out;
}

Json node_json(const GpuTarget& target, const GpuNode& n) {
  const GpuKernel& k = target.kernels[n.kernel];
  return {{"function", k.function},
          {"grid", n.grid},
          {"threads", k.threads},
          {"registers", k.registers},
          {"shared_bytes", k.shared_bytes + n.dynamic_shared},
          {"local_bytes", k.local_bytes},
          {"workspace", n.workspace}};
}

Json cost_json(const Total& t) { return {{"launches", t.launches}, {"bytes", t.bytes}, {"operations", t.operations}}; }

Json operand_json(const Plan& plan, const Operand& o) {
  Json j = {{"space", space_name(o.space)}, {"type", check::describe(o.type)}};
  if (o.space == Space::kWeight || o.space == Space::kConstant) j["name"] = plan.tensors[o.index].name;
  if (o.space == Space::kInput) j["name"] = step_inputs()[o.index].name;
  if (o.space == Space::kKv) j["index"] = o.index;
  if (o.space == Space::kArena) {
    j["offset"] = o.offset;
    j["row_bytes"] = o.row_bytes;
  }
  return j;
}

Json launch_json(const Plan& plan, const Launch& l) {
  Json in = Json::array(), out = Json::array(), attrs = Json::object();
  for (const Operand& o : l.inputs) in.push_back(operand_json(plan, o));
  for (const Operand& o : l.outputs) out.push_back(operand_json(plan, o));
  for (const Attr& a : l.attrs) {
    std::visit([&](const auto& value) { attrs[std::string(a.key)] = value; }, a.value);
  }
  return {{"op", l.op},
          {"kernel", l.kernel->name},
          {"inputs", in},
          {"outputs", out},
          {"attributes", attrs},
          {"bytes", l.cost.bytes},
          {"operations", l.cost.operations}};
}

}  // namespace

std::string program_text(const Plan& plan) {
  std::string out;
  for (const Program& p : plan.programs) {
    out += program_line(p) + "\n";
    for (const Launch& l : p.launches) out += fmt::format("  %{} = {}\n", l.op, launch_text(plan, l));
  }
  return out;
}

Result<std::string> explain_text(const Plan& plan, std::optional<size_t> program, const MachineRates* rates) {
  TRY_ASSIGN(const std::vector<size_t> list, chosen(plan, program));
  std::string out =
      fmt::format("{} for {}, {}context {}, up to {} sequences\n", plan.model.architecture, plan.target,
                  plan.reference_kernels ? "reference kernels, " : "", plan.model.context_length, plan.max_batch);
  std::string working = fmt::format("scratch {} a thread", size_text(plan.scratch_bytes));
  if (plan.backend == Backend::kGpu) {
    uint64_t workspace = 0;
    for (const GpuTarget& target : plan.gpu_targets) workspace = std::max(workspace, target.workspace_bytes);
    working = fmt::format("workspace {}", size_text(workspace));
  }
  out += fmt::format("memory: weights {}, arena {}, {}, KV {} a token ({} for {} pages of {})\n\n",
                     size_text(weight_bytes(plan)), size_text(plan.arena_bytes), working,
                     size_text(plan.kv_bytes_per_token), size_text(plan.kv_pool_bytes), plan.pages, plan.page_size);
  for (const size_t i : list) out += explain_program(plan, i) + "\n";
  if (rates != nullptr) out += predictions(plan, list, *rates);
  return out;
}

Result<std::string> explain_json(const Plan& plan, std::optional<size_t> program, const MachineRates* rates) {
  TRY_ASSIGN(const std::vector<size_t> list, chosen(plan, program));
  Json programs = Json::array();
  for (const size_t i : list) {
    const Program& p = plan.programs[i];
    const Totals totals(p);
    Json kernels = Json::object(), launches = Json::array();
    for (const auto& [name, t] : totals.by_kernel) kernels[std::string(name)] = cost_json(t);
    for (size_t l = 0; l < p.launches.size(); ++l) {
      Json launch = launch_json(plan, p.launches[l]);
      for (const GpuTarget& target : plan.gpu_targets) {
        for (const GpuNode& n : nodes_of(plan, target, i, l)) {
          launch["nodes"][std::string(target.name)].push_back(node_json(target, n));
        }
      }
      launches.push_back(std::move(launch));
    }
    programs.push_back({{"index", i},
                        {"name", p.name},
                        {"max_tokens", p.max_tokens},
                        {"max_sequences", p.max_sequences},
                        {"max_rows", p.max_rows},
                        {"arena_bytes", p.arena_bytes},
                        {"scratch_bytes", p.scratch_bytes},
                        {"total", cost_json(totals.all)},
                        {"kernels", kernels},
                        {"launches", launches}});
    if (rates != nullptr) {
      programs.back()["predicted_seconds"] = predicted_seconds(plan, p, *rates, 0);
      programs.back()["predicted_seconds_full_context"] = predicted_seconds(plan, p, *rates, plan.model.context_length);
    }
  }
  Json root = {{"architecture", plan.model.architecture},
               {"target", plan.target},
               {"reference_kernels", plan.reference_kernels},
               {"context_length", plan.model.context_length},
               {"max_batch", plan.max_batch},
               {"memory",
                {{"weights", weight_bytes(plan)},
                 {"arena", plan.arena_bytes},
                 {"scratch_per_thread", plan.scratch_bytes},
                 {"kv_per_token", plan.kv_bytes_per_token},
                 {"kv_pool", plan.kv_pool_bytes}}},
               {"programs", programs}};
  if (rates != nullptr) {
    root["machine"] = {{"bytes_per_second", rates->bytes_per_second},
                       {"operations_per_second", rates->operations_per_second}};
  }
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace ll
