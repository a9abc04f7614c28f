#include "compiler/plan/metadata.h"

#include <map>
#include <string>
#include <tuple>

#include "kernels/quant/formats.h"
#include "schemas/plan_generated.h"

namespace ll {
namespace {

template <class T>
using Offset = flatbuffers::Offset<T>;

// Builds bottom up, as FlatBuffers wants it. The maps find what was built before: the programs of a plan differ in
// sizes more than in anything else, and sharing keeps a 32-layer model below a megabyte.
class Encoder {
 public:
  std::vector<std::byte> run(const Plan& p) {
    const auto model = model_info(p.model);
    std::vector<Offset<fb::KvCache>> caches;
    for (const KvCache& c : p.kv_caches) caches.push_back(fb::CreateKvCache(b_, type(c.type), c.offset, c.bytes));
    std::vector<Offset<fb::Tensor>> tensors;
    for (const PlanTensor& t : p.tensors) {
      const auto dtype = t.source < 0 ? uint8_t{0} : static_cast<uint8_t>(t.source_dtype);
      tensors.push_back(
          fb::CreateTensor(b_, string(t.name), type(t.type), t.source_offset, t.source_bytes, t.source, dtype));
    }
    std::vector<Offset<fb::SourceFile>> sources;
    for (const PlanSource& s : p.sources) {
      sources.push_back(fb::CreateSourceFile(b_, string(s.name), s.size, s.hash_low, s.hash_high));
    }
    std::vector<Offset<fb::Program>> programs;
    const auto& cpu = p.backend == Backend::kCpu ? p.programs : p.other_programs;
    const auto& gpu = p.backend == Backend::kCpu ? p.other_programs : p.programs;
    for (const Program& program : cpu) programs.push_back(encode(program));
    std::vector<Offset<fb::Program>> gpu_programs;
    for (const Program& program : gpu) gpu_programs.push_back(encode(program));
    std::vector<Offset<fb::GpuTarget>> targets;
    for (const GpuTarget& t : p.gpu_targets) targets.push_back(gpu_target(t));
    const auto producer = string(p.producer), target = string(p.target);
    const auto caches_at = b_.CreateVector(caches);
    const auto tensors_at = b_.CreateVector(tensors);
    const auto sources_at = b_.CreateVector(sources);
    const auto programs_at = b_.CreateVector(programs);
    Offset<flatbuffers::Vector<Offset<fb::Program>>> gpu_programs_at;
    Offset<flatbuffers::Vector<Offset<fb::GpuTarget>>> targets_at;
    if (!targets.empty()) {
      gpu_programs_at = b_.CreateVector(gpu_programs);
      targets_at = b_.CreateVector(targets);
    }
    fb::FinishPlanBuffer(b_, fb::CreatePlan(b_, producer, model, target, p.reference_kernels, p.max_batch, p.pages,
                                            p.page_size, p.pages_per_sequence, p.kv_pool_bytes, caches_at, tensors_at,
                                            sources_at, programs_at, gpu_programs_at, targets_at));
    const auto* bytes = reinterpret_cast<const std::byte*>(b_.GetBufferPointer());
    return {bytes, bytes + b_.GetSize()};
  }

 private:
  Offset<flatbuffers::String> string(std::string_view s) {
    const auto [it, fresh] = strings_.try_emplace(std::string(s));
    if (fresh) it->second = b_.CreateString(s.data(), s.size());
    return it->second;
  }

  Offset<fb::Type> type(const TensorType& t) {
    std::vector<fb::Dim> dims;
    TypeKey key{t.dtype, t.layout, {}};
    for (int i = 0; i < t.rank; ++i) {
      dims.emplace_back(t.dim(i).value, static_cast<uint8_t>(t.dim(i).symbol));
      std::get<2>(key).emplace_back(t.dim(i).value, t.dim(i).symbol);
    }
    const auto [it, fresh] = types_.try_emplace(key);
    if (fresh) {
      const auto dims_at = b_.CreateVectorOfStructs(dims);
      it->second = fb::CreateType(b_, static_cast<uint8_t>(t.dtype), static_cast<uint8_t>(t.layout), dims_at);
    }
    return it->second;
  }

  Offset<fb::Operand> operand(const Operand& o) {
    const auto type_at = type(o.type);
    const bool dense = o.space != Space::kArena || o.row_bytes == dense_row_bytes(o.type);
    const uint64_t row_bytes = dense ? 0 : static_cast<uint64_t>(o.row_bytes);
    const auto [it, fresh] = operands_.try_emplace({o.space, o.index, o.offset, row_bytes, type_at.o});
    if (fresh) {
      it->second = fb::CreateOperand(b_, static_cast<fb::Space>(o.space), o.index, o.offset, row_bytes, type_at);
    }
    return it->second;
  }

  Offset<fb::Attr> attr(const Attr& a) {
    const auto key = string(a.key);
    int64_t i = 0;
    double f = 0;
    Offset<flatbuffers::String> s = 0;
    if (const auto* integer = std::get_if<int64_t>(&a.value)) i = *integer;
    if (const auto* number = std::get_if<double>(&a.value)) f = *number;
    if (const auto* text = std::get_if<std::string_view>(&a.value)) s = string(*text);
    const auto kind = static_cast<uint8_t>(a.value.index());
    const auto [it, fresh] = attrs_.try_emplace({key.o, kind, i, f, s.o});
    if (fresh) it->second = fb::CreateAttr(b_, key, i, f, s, kind);
    return it->second;
  }

  // Vectors of the same offsets are shared too.
  template <class T>
  Offset<flatbuffers::Vector<Offset<T>>> list(const std::vector<Offset<T>>& items) {
    std::vector<flatbuffers::uoffset_t> key;
    for (const auto& i : items) key.push_back(i.o);
    const auto [it, fresh] = lists_.try_emplace(std::move(key));
    if (fresh) it->second = b_.CreateVector(items).o;
    return it->second;
  }

  Offset<fb::Program> encode(const Program& p) {
    std::vector<Offset<fb::Launch>> launches;
    for (const Launch& l : p.launches) {
      std::vector<Offset<fb::Operand>> in, out;
      for (const Operand& o : l.inputs) in.push_back(operand(o));
      for (const Operand& o : l.outputs) out.push_back(operand(o));
      std::vector<Offset<fb::Attr>> attrs;
      for (const Attr& a : l.attrs) attrs.push_back(attr(a));
      const auto kernel = string(l.kernel->name);
      const auto op = string(l.op);
      const auto in_at = list(in), out_at = list(out);
      const auto attrs_at = list(attrs);
      launches.push_back(fb::CreateLaunch(b_, kernel, op, in_at, out_at, attrs_at));
    }
    const auto name = string(p.name);
    const auto launches_at = b_.CreateVector(launches);
    return fb::CreateProgram(b_, name, p.max_tokens, p.max_sequences, p.max_rows, p.arena_bytes, launches_at);
  }

  Offset<fb::GpuTarget> gpu_target(const GpuTarget& t) {
    std::vector<Offset<fb::GpuKernel>> kernels;
    for (const GpuKernel& k : t.kernels) {
      const auto function = string(k.function);
      kernels.push_back(fb::CreateGpuKernel(b_, function, k.code_offset, k.code_bytes, k.ptx_offset, k.ptx_bytes,
                                            k.threads, k.registers, k.shared_bytes, k.local_bytes));
    }
    std::vector<Offset<fb::GpuProgram>> programs;
    for (const auto& program : t.programs) {
      std::vector<Offset<fb::GpuLaunch>> launches;
      for (const std::vector<GpuNode>& nodes : program) launches.push_back(gpu_launch(nodes));
      programs.push_back(fb::CreateGpuProgram(b_, list(launches)));
    }
    const auto name = string(t.name);
    const auto kernels_at = b_.CreateVector(kernels);
    const auto programs_at = b_.CreateVector(programs);
    return fb::CreateGpuTarget(b_, name, t.sm, t.isa, t.driver, kernels_at, programs_at);
  }

  Offset<fb::GpuLaunch> gpu_launch(const std::vector<GpuNode>& nodes) {
    std::vector<Offset<fb::GpuNode>> items;
    for (const GpuNode& n : nodes) {
      const auto [it, fresh] =
          nodes_.try_emplace({n.kernel, n.grid, n.dynamic_shared, n.workspace, n.workspace_zeroed});
      if (fresh) {
        it->second = fb::CreateGpuNode(b_, n.kernel, n.grid[0], n.grid[1], n.grid[2], n.dynamic_shared, n.workspace,
                                       n.workspace_zeroed);
      }
      items.push_back(it->second);
    }
    const auto items_at = list(items);
    const auto [it, fresh] = launches_.try_emplace(items_at.o);
    if (fresh) it->second = fb::CreateGpuLaunch(b_, items_at);
    return it->second;
  }

  Offset<fb::ModelInfo> model_info(const ModelInfo& m) {
    const auto architecture = string(m.architecture), name = string(m.name);
    const auto eos = b_.CreateVector(m.eos_tokens);
    return fb::CreateModelInfo(b_, architecture, name, m.vocab_size, m.context_length, m.bos_token, eos, m.add_bos);
  }

  using TypeKey = std::tuple<DType, Layout, std::vector<std::pair<int64_t, Symbol>>>;
  using OperandKey = std::tuple<Space, uint32_t, uint64_t, uint64_t, flatbuffers::uoffset_t>;
  using AttrKey = std::tuple<flatbuffers::uoffset_t, uint8_t, int64_t, double, flatbuffers::uoffset_t>;
  flatbuffers::FlatBufferBuilder b_;
  std::map<std::string, Offset<flatbuffers::String>> strings_;
  std::map<TypeKey, Offset<fb::Type>> types_;
  std::map<OperandKey, Offset<fb::Operand>> operands_;
  std::map<AttrKey, Offset<fb::Attr>> attrs_;
  std::map<std::vector<flatbuffers::uoffset_t>, flatbuffers::uoffset_t> lists_;
  std::map<std::tuple<uint32_t, std::array<uint32_t, 3>, uint32_t, uint64_t, uint64_t>, Offset<fb::GpuNode>> nodes_;
  std::map<flatbuffers::uoffset_t, Offset<fb::GpuLaunch>> launches_;
};

}  // namespace

std::vector<std::byte> encode_metadata(const Plan& plan) { return Encoder().run(plan); }

}  // namespace ll
