#include "compiler/codegen/gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "compiler/codegen/cubin_cache.h"
#include "compiler/codegen/cuda_sources.h"
#include "compiler/codegen/targets.h"
#include "compiler/codegen/tuning.h"
#include "kernels/cuda/prologue.h"
#include "runtime/base/checked.h"
#include "runtime/base/escape.h"
#include "runtime/plan/container.h"
#include "runtime/plan/cubin.h"

namespace ll {

const std::vector<Program>& gpu_programs(const Plan& plan) {
  return plan.backend == Backend::kGpu ? plan.programs : plan.other_programs;
}

namespace {

// Files that `source` includes, itself first, as the table of sources has them.
void collect(std::string_view name, std::set<std::string_view>& seen) {
  const auto sources = cuda_sources();
  const auto it = std::find_if(sources.begin(), sources.end(), [&](const CudaSource& s) { return s.name == name; });
  if (it == sources.end() || !seen.insert(it->name).second) return;
  constexpr std::string_view kInclude = "#include \"";
  for (size_t at = it->text.find(kInclude); at != it->text.npos; at = it->text.find(kInclude, at)) {
    at += kInclude.size();
    const size_t end = it->text.find('"', at);
    if (end == it->text.npos) return;
    collect(it->text.substr(at, end - at), seen);
  }
}

// Everything that the machine code of `code` depends on, which includes `source`.
Hash128 key_of(const std::string& code, std::string_view source, const cuda::Target& target, const Nvrtc& nvrtc) {
  std::string text = fmt::format("{}\n{} isa {}\n{}\n", nvrtc.fingerprint(target), target.name, target.isa,
                                 fmt::join(cuda::device_options(), " "));
  text += code;
  std::set<std::string_view> files;
  collect(source, files);
  for (const CudaSource& s : cuda_sources()) {
    if (files.contains(s.name)) text += fmt::format("\n{} {}\n{}", s.name, s.text.size(), s.text);
  }
  return hash128(std::as_bytes(std::span(text)));
}

// The instance's source with another number of blocks that a multiprocessor is to hold, under its own name.
std::string source_for(const CompiledInstance& c, int blocks_per_sm) {
  cuda::Instance other = c.instance;
  other.blocks_per_sm = blocks_per_sm;
  std::string text = cuda::prologue(other);
  const std::string name = cuda::kernel_name(other);
  for (size_t at = text.find(name); at != text.npos; at = text.find(name, at + c.name.size())) {
    text.replace(at, name.size(), c.name);
  }
  return text;
}

Result<bool> has_local_memory(const GpuCode& code, const std::string& name) {
  TRY_ASSIGN(const Cubin cubin, read_cubin(std::as_bytes(std::span(code.cubin))));
  const CubinKernel* found = cubin.find(name);
  if (found == nullptr) return error(Code::kInternal, "the cubin of {} does not hold it", name);
  return found->local_bytes > 0;
}

// From the cache, or compiled. Code that spills is compiled again for fewer blocks of a multiprocessor, which leaves
// more registers to each; where not even one helps, what it was first.
Result<GpuCode> code_of(const CompiledInstance& c, const cuda::Target& target, const Nvrtc& nvrtc,
                        const CubinCache& cache, bool ptx) {
  std::optional<GpuCode> first;
  for (int blocks = c.instance.blocks_per_sm; blocks >= 1; --blocks) {
    const std::string source = source_for(c, blocks);
    const Hash128 key = key_of(source, c.instance.source, target, nvrtc);
    auto code = cache.find(key, ptx);
    if (!code) {
      TRY_ASSIGN(code, nvrtc.compile(source, c.name, target, ptx));
      cache.store(key, *code);
    }
    TRY_ASSIGN(const bool spills, has_local_memory(*code, c.name));
    if (!spills) return *std::move(code);
    if (!first) first = std::move(code);
  }
  return *std::move(first);
}

// The section of GPU code under construction.
uint64_t append(std::string& section, std::string_view piece) {
  const uint64_t offset = checked_align_up(section.size(), kTensorAlignment).value();
  section.resize(offset, '\0');
  section += piece;
  return offset;
}

}  // namespace

Result<GpuProgramNodes> lower_for_gpu(const Program& program, const cuda::Target& target, const cuda::Tuning& tuning) {
  GpuProgramNodes nodes;
  for (const Launch& l : program.launches) {
    std::vector<TensorType> in, out;
    std::vector<int64_t> in_row_bytes;
    for (const Operand& o : l.inputs) {
      in.push_back(o.type);
      in_row_bytes.push_back(o.row_bytes);
    }
    for (const Operand& o : l.outputs) out.push_back(o.type);
    const cuda::PlacedLaunch placed{{in, out, Attrs(l.attrs)}, in_row_bytes};
    const cuda::Family* family = cuda::find_family(l.kernel->name);
    if (family == nullptr) return unsupported("kernel {} does not run on GPUs yet (%{})", l.kernel->name, l.op);
    auto& list = nodes.launches.emplace_back();
    Status s = family->lower(placed, target, tuning_of(tuning, program.name, l.kernel->name), list);
    if (s && list.empty()) s = error(Code::kInternal, "its family gives no kernels");
    if (!s) return std::move(s).error().in(fmt::format("{}: kernel {} (%{})", program.name, l.kernel->name, l.op));
  }
  return nodes;
}

Result<std::vector<CompiledInstance>> compile_instances(const std::vector<cuda::Instance>& instances,
                                                        const cuda::Target& target, const GpuOptions& options) {
  std::vector<CompiledInstance> list;
  std::set<std::string> names;
  for (const cuda::Instance& i : instances) {
    std::string name = cuda::kernel_name(i);
    if (names.insert(name).second) list.push_back({i, std::move(name), {}});
  }
  if (target.sm == 0) {
    for (CompiledInstance& c : list) c.code.cubin = encode_instance(c.instance);
    return list;
  }
  TRY_ASSIGN(const auto nvrtc, Nvrtc::open(options.nvrtc, target.sm));
  const CubinCache cache(options.cache_folder);
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  size_t done = 0;
  bool compiled = false;
  Status status;
  const auto work = [&] {
    for (size_t i = next++; i < list.size(); i = next++) {
      CompiledInstance& c = list[i];
      auto code = code_of(c, target, *nvrtc, cache, options.ptx);
      const std::lock_guard lock(mutex);
      if (code) c.code = *std::move(code);
      if (!code && status) status = std::move(code).error();
      if (!status) return;
      compiled = true;
      ++done;
      if (options.progress) options.progress(done, list.size());
    }
  };
  std::vector<std::thread> team;
  for (int t = 1; t < options.threads; ++t) team.emplace_back(work);
  work();
  for (std::thread& t : team) t.join();
  TRY(std::move(status));
  if (compiled) cache.trim();
  return list;
}

namespace {

Result<std::vector<cuda::Instance>> instances_of(const Plan& plan, const cuda::Target& target,
                                                 const cuda::Tuning& tuning) {
  std::vector<cuda::Instance> instances;
  for (const Program& p : gpu_programs(plan)) {
    TRY_ASSIGN(const GpuProgramNodes nodes, lower_for_gpu(p, target, tuning));
    for (const auto& launch : nodes.launches) {
      for (const cuda::KernelLaunch& k : launch) instances.push_back(k.instance);
    }
  }
  return instances;
}

}  // namespace

Result<std::string> kernels_text(const Plan& plan, const GpuOptions& options, bool ptx) {
  const cuda::Target& target = options.targets.front();
  TRY_ASSIGN(const auto instances, instances_of(plan, target, options.tuning));
  std::string text;
  if (ptx) {
    if (target.sm == 0) return usage("target {} has no PTX", target.name);
    TRY_ASSIGN(const auto compiled, compile_instances(instances, target, options));
    for (const CompiledInstance& c : compiled) text += fmt::format("// {}\n{}\n", c.name, c.code.ptx.c_str());
    return text;
  }
  std::set<std::string> names;
  for (const cuda::Instance& i : instances) {
    const std::string name = cuda::kernel_name(i);
    if (names.insert(name).second) text += fmt::format("// {} for {}\n{}\n", name, target.name, cuda::prologue(i));
  }
  return text;
}

Status add_gpu_code(PlanDraft& draft, const GpuOptions& options) {
  Plan& plan = draft.plan;
  for (const cuda::Target& target : options.targets) {
    GpuTarget out;
    out.name = draft.intern(target.name);
    out.sm = static_cast<uint32_t>(target.sm);
    out.isa = target.sm == 0 ? 0 : static_cast<uint32_t>(target.isa);
    std::vector<GpuProgramNodes> programs;
    std::vector<cuda::Instance> instances;
    for (const Program& p : gpu_programs(plan)) {
      TRY_ASSIGN(GpuProgramNodes nodes, lower_for_gpu(p, target, options.tuning));
      for (const auto& launch : nodes.launches) {
        for (const cuda::KernelLaunch& k : launch) instances.push_back(k.instance);
      }
      programs.push_back(std::move(nodes));
    }
    TRY_ASSIGN(const auto compiled, compile_instances(instances, target, options));
    std::map<std::string_view, uint32_t> index;
    for (const CompiledInstance& c : compiled) {
      GpuKernel k;
      k.function = draft.intern(c.name);
      k.threads = static_cast<uint32_t>(c.instance.threads);
      if (target.sm != 0) {
        TRY_ASSIGN(const Cubin cubin, read_cubin(std::as_bytes(std::span(c.code.cubin))));
        const CubinKernel* found = cubin.find(c.name);
        if (found == nullptr) return error(Code::kInternal, "the cubin of {} does not hold it", c.name);
        k.registers = found->registers;
        k.shared_bytes = found->shared_bytes;
        k.local_bytes = found->local_bytes;
        out.driver = std::max(out.driver, least_driver(cubin.abi_version));
      }
      k.code_offset = append(draft.gpu_code, c.code.cubin);
      k.code_bytes = c.code.cubin.size();
      if (!c.code.ptx.empty()) {
        k.ptx_offset = append(draft.gpu_code, c.code.ptx);
        k.ptx_bytes = c.code.ptx.size();
      }
      index.emplace(c.name, static_cast<uint32_t>(out.kernels.size()));
      out.kernels.push_back(k);
    }
    for (const GpuProgramNodes& p : programs) {
      auto& launches = out.programs.emplace_back();
      for (const auto& launch : p.launches) {
        auto& nodes = launches.emplace_back();
        for (const cuda::KernelLaunch& k : launch) {
          nodes.push_back(
              {index.at(cuda::kernel_name(k.instance)), k.grid, k.dynamic_shared, k.workspace, k.workspace_zeroed});
          out.workspace_bytes = std::max(out.workspace_bytes, k.workspace);
          out.workspace_zeroed_bytes = std::max(out.workspace_zeroed_bytes, k.workspace_zeroed);
        }
      }
    }
    plan.gpu_targets.push_back(std::move(out));
  }
  return {};
}

Result<std::string> tiles_text(const Plan& plan, const GpuOptions& options) {
  std::string text;
  for (const cuda::Target& target : options.targets) {
    for (const Program& p : gpu_programs(plan)) {
      TRY_ASSIGN(const GpuProgramNodes nodes, lower_for_gpu(p, target, options.tuning));
      text += fmt::format("{} {}\n", target.name, p.name);
      for (size_t i = 0; i < p.launches.size(); ++i) {
        for (const cuda::KernelLaunch& k : nodes.launches[i]) {
          text += fmt::format("  {:<24} {:<40} grid {}x{}x{} block {} shared {}{}{}\n", p.launches[i].op,
                              cuda::kernel_name(k.instance), k.grid[0], k.grid[1], k.grid[2], k.instance.threads,
                              k.dynamic_shared, k.note.empty() ? "" : "  ", k.note);
        }
      }
    }
  }
  return text;
}

}  // namespace ll
