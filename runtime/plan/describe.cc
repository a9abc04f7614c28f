#include "runtime/plan/describe.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "kernels/check.h"
#include "kernels/quant/layouts.h"
#include "runtime/base/escape.h"
#include "runtime/plan/checksum.h"
#include "runtime/plan/repack.h"

namespace ll {
namespace {

using Json = nlohmann::ordered_json;

std::string hash_text(uint64_t low, uint64_t high) { return Hash128{low, high}.hex(); }

}  // namespace

std::string describe_plan(const Plan& plan) {
  std::string out;
  const auto line = [&](std::string_view key, const std::string& value) {
    out += fmt::format("{:<20} {}\n", key, value);
  };
  const auto number = [&](std::string_view key, uint64_t value) { line(key, std::to_string(value)); };
  line("format", "plan (.llcp)");
  line("producer", escaped(plan.producer));
  line("target", escaped(plan.target));
  line("architecture", escaped(plan.model.architecture));
  line("name", escaped(plan.model.name));
  number("vocab_size", plan.model.vocab_size);
  number("context_length", plan.model.context_length);
  line("bos_token", plan.model.bos_token < 0 ? "none" : std::to_string(plan.model.bos_token));
  line("eos_tokens", fmt::format("[{}]", fmt::join(plan.model.eos_tokens, ", ")));
  line("add_bos", plan.model.add_bos ? "true" : "false");
  line("reference_kernels", plan.reference_kernels ? "true" : "false");
  number("max_batch", plan.max_batch);
  line("kv_pages", fmt::format("{} of {} tokens, {} a sequence", plan.pages, plan.page_size, plan.pages_per_sequence));
  number("kv_pool_bytes", plan.kv_pool_bytes);
  number("kv_bytes_per_token", plan.kv_bytes_per_token);
  number("arena_bytes", plan.arena_bytes);
  number("scratch_bytes", plan.scratch_bytes);
  out += "\nsections\n";
  for (const SectionInfo& s : plan.sections) {
    out += fmt::format("  {:<16} {:>14} bytes at {:>12}  {}\n", s.type, s.bytes, s.offset,
                       hash_text(s.hash_low, s.hash_high));
  }
  if (!plan.sources.empty()) out += "\nsources\n";
  for (const PlanSource& s : plan.sources) {
    out += fmt::format("  {}  {} bytes  {}\n", escaped(s.name), s.size, hash_text(s.hash_low, s.hash_high));
  }
  out += fmt::format("\nkv caches ({})\n", plan.kv_caches.size());
  for (size_t i = 0; i < plan.kv_caches.size(); ++i) {
    const KvCache& c = plan.kv_caches[i];
    out += fmt::format("  {:>4}  {}  {} bytes at {}\n", i, check::describe(c.type), c.bytes, c.offset);
  }
  out += "\nprograms\n";
  for (size_t i = 0; i < plan.programs.size(); ++i) {
    const Program& p = plan.programs[i];
    out += fmt::format("  {:>4}  {:<10} tokens <= {}, sequences <= {}, rows <= {}: {} launches, arena {} bytes\n", i,
                       escaped(p.name), p.max_tokens, p.max_sequences, p.max_rows, p.launches.size(), p.arena_bytes);
  }
  out += fmt::format("\ntensors ({})\n", plan.tensors.size());
  for (const PlanTensor& t : plan.tensors) {
    out += fmt::format(
        "  {:<32} {:<28} {} bytes{}\n", escaped(t.name), check::describe(t.type), t.bytes,
        t.source < 0 ? "" : fmt::format(" from {}", escaped(plan.sources[static_cast<size_t>(t.source)].name)));
  }
  return out;
}

std::string describe_plan_json(const Plan& plan) {
  Json sections = Json::array(), sources = Json::array(), caches = Json::array(), programs = Json::array(),
       tensors = Json::array();
  for (const SectionInfo& s : plan.sections) {
    sections.push_back(
        {{"type", s.type}, {"offset", s.offset}, {"bytes", s.bytes}, {"xxh3_128", hash_text(s.hash_low, s.hash_high)}});
  }
  for (const PlanSource& s : plan.sources) {
    sources.push_back({{"name", s.name}, {"bytes", s.size}, {"xxh3_128", hash_text(s.hash_low, s.hash_high)}});
  }
  for (const KvCache& c : plan.kv_caches) {
    caches.push_back({{"type", check::describe(c.type)}, {"offset", c.offset}, {"bytes", c.bytes}});
  }
  for (const Program& p : plan.programs) {
    programs.push_back({{"name", p.name},
                        {"max_tokens", p.max_tokens},
                        {"max_sequences", p.max_sequences},
                        {"max_rows", p.max_rows},
                        {"arena_bytes", p.arena_bytes},
                        {"scratch_bytes", p.scratch_bytes},
                        {"launches", p.launches.size()}});
  }
  for (const PlanTensor& t : plan.tensors) {
    std::vector<int64_t> shape;
    for (int i = 0; i < t.type.rank; ++i) shape.push_back(t.type.dim(i).value);
    Json entry = {{"name", t.name},
                  {"dtype", dtype_name(t.type.dtype)},
                  {"layout", layout_name(t.type.layout)},
                  {"shape", shape},
                  {"bytes", t.bytes}};
    if (t.source >= 0) entry["source"] = plan.sources[static_cast<size_t>(t.source)].name;
    entry["offset"] = t.source_offset;
    tensors.push_back(entry);
  }
  const Json root = {{"format", "plan"},
                     {"producer", plan.producer},
                     {"target", plan.target},
                     {"model",
                      {{"architecture", plan.model.architecture},
                       {"name", plan.model.name},
                       {"vocab_size", plan.model.vocab_size},
                       {"context_length", plan.model.context_length},
                       {"bos_token", plan.model.bos_token},
                       {"eos_tokens", plan.model.eos_tokens},
                       {"add_bos", plan.model.add_bos}}},
                     {"reference_kernels", plan.reference_kernels},
                     {"max_batch", plan.max_batch},
                     {"kv",
                      {{"pages", plan.pages},
                       {"page_size", plan.page_size},
                       {"pages_per_sequence", plan.pages_per_sequence},
                       {"pool_bytes", plan.kv_pool_bytes},
                       {"bytes_per_token", plan.kv_bytes_per_token},
                       {"caches", caches}}},
                     {"arena_bytes", plan.arena_bytes},
                     {"scratch_bytes", plan.scratch_bytes},
                     {"sections", sections},
                     {"sources", sources},
                     {"programs", programs},
                     {"tensors", tensors}};
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<TensorValues> plan_tensor_values(const Plan& plan, const Weights& weights, std::string_view name) {
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlanTensor& t = plan.tensors[i];
    if (t.name != name || weights.data(i) == nullptr) continue;
    TensorValues out;
    for (int d = 0; d < t.type.rank; ++d) out.shape.push_back(t.type.dim(d).value);
    const int64_t rows = weight_rows(t.type), k = t.type.last().value;
    out.values.resize(static_cast<size_t>(rows * k));
    for (int64_t r = 0; r < rows; ++r) {
      dequantize_row(t.type.dtype, t.type.layout, weights.data(i), r, k, out.values.data() + r * k);
    }
    return out;
  }
  return usage("the plan has no tensor {}", quote(name));
}

}  // namespace ll
