// Metadata that a writer of ours would never make, as a reader sees it once the checksums are right.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "compiler/plan/metadata.h"
#include "compiler/plan/tiny_draft.h"
#include "compiler/plan/writer.h"
#include "runtime/plan/validate.h"
#include "schemas/plan_generated.h"

namespace ll {
namespace {

// A valid plan, laid out as the writer would.
struct Intact {
  crafted::TinyPlan tiny = crafted::tiny_plan();
  Plan plan = tiny.draft.plan;
  uint64_t weights_bytes = 0;
  bool has_sources = false;

  Intact() {
    for (PlanTensor& t : plan.tensors) {
      weights_bytes = (weights_bytes + 63) / 64 * 64;
      t.bytes = static_cast<uint64_t>(repacked_bytes(t.type, weight_rows(t.type)));
      t.source_offset = weights_bytes;
      t.source_bytes = t.bytes;
      weights_bytes += t.bytes;
    }
  }
  // Moves tensor `i` into a source file.
  void refer(size_t i, uint64_t size) {
    has_sources = true;
    plan.sources.push_back({"model.gguf", size, 1, 2});
    PlanTensor& t = plan.tensors[i];
    t.source = 0;
    t.source_dtype = t.type.dtype;
    t.source_offset = 0;
    // Later tensors move up.
    weights_bytes = 0;
    for (PlanTensor& u : plan.tensors) {
      if (u.source >= 0) continue;
      u.source_offset = (weights_bytes + 63) / 64 * 64;
      weights_bytes = u.source_offset + u.source_bytes;
    }
  }
  Launch& launch(size_t i) { return plan.programs[1].launches[i]; }
  Status validate() const {
    const std::vector<std::byte> metadata = encode_metadata(plan);
    Plan out;
    return validate_plan(metadata, weights_bytes, has_sources, out);
  }
};

struct Case {
  const char* name;
  void (*change)(Intact&);
  const char* message;  // part of it
  Code code = Code::kBadData;
};

// Launches of the tiny plan's programs.
enum : size_t { kEmbed, kNorm, kMerged, kRope, kAttention, kLinearAdd, kActivation, kAdd, kGather, kQuantize, kLogits };

constexpr Case kCases[] = {
    {"target", [](Intact& p) { p.plan.target = "sm_75"; }, "'sm_75'", Code::kUnsupported},
    {"no vocabulary", [](Intact& p) { p.plan.model.vocab_size = 0; }, "vocab_size"},
    {"huge vocabulary", [](Intact& p) { p.plan.model.vocab_size = ~0u; }, "vocab_size"},
    {"bos outside", [](Intact& p) { p.plan.model.bos_token = 33; }, "bos_token 33"},
    {"eos outside",
     [](Intact& p) {
       p.plan.model.eos_tokens = {5, -1};
     },
     "eos_tokens[1] -1"},
    {"huge context", [](Intact& p) { p.plan.model.context_length = ~0u; }, "context_length"},
    {"table too narrow", [](Intact& p) { p.plan.pages_per_sequence = 1; }, "pages_per_sequence is 1, expected 2"},
    {"page size", [](Intact& p) { p.plan.page_size = 16; }, "pages of 16 tokens", Code::kUnsupported},
    {"no batch", [](Intact& p) { p.plan.max_batch = 0; }, "max_batch"},
    {"fewer pages than a sequence", [](Intact& p) { p.plan.pages = 1; }, "as pages"},
    {"more pages than slots", [](Intact& p) { p.plan.pages = 1u << 30; }, "as pages"},
    {"pool too small", [](Intact& p) { p.plan.kv_pool_bytes -= 64; }, "beyond the KV pool"},
    {"pool too large", [](Intact& p) { p.plan.kv_pool_bytes += 64; }, "end of the last KV cache"},
    {"cache moved", [](Intact& p) { p.plan.kv_caches[0].offset = 64; }, "starts at 64, expected 0"},
    {"caches overlap",
     [](Intact& p) {
       p.plan.kv_caches.push_back(p.plan.kv_caches[0]);
       p.plan.kv_pool_bytes *= 2;
     },
     "kv cache 1: starts at 0"},
    {"cache of i32", [](Intact& p) { p.plan.kv_caches[0].type.dtype = DType::kI32; }, "expected f32, f16 or i8"},
    {"cache of other pages", [](Intact& p) { p.plan.kv_caches[0].type.dims[0] = Dim(4); }, "expected [5 pages"},
    {"cache with an odd plane", [](Intact& p) { p.plan.kv_caches[0].type.dims[1] = Dim(3); }, "3 planes"},
    {"cache size wraps",
     [](Intact& p) {
       p.plan.kv_caches[0].type.dims[1] = Dim(int64_t{1} << 31);
       p.plan.kv_caches[0].type.dims[3] = Dim(int64_t{1} << 31);
     },
     "size is"},

    {"unknown dtype", [](Intact& p) { p.plan.tensors[0].type.dtype = static_cast<DType>(99); }, "dtype 99",
     Code::kUnsupported},
    {"unknown layout", [](Intact& p) { p.plan.tensors[0].type.layout = static_cast<Layout>(9); }, "layout 9",
     Code::kUnsupported},
    {"layout of earlier plans", [](Intact& p) { p.plan.tensors[0].type.layout = static_cast<Layout>(1); },
     "compile the model again", Code::kUnsupported},
    {"layout that the dtype lacks", [](Intact& p) { p.plan.tensors[1].type.layout = Layout::kX16; }, "has no layout"},
    {"tensor with a symbol", [](Intact& p) { p.plan.tensors[0].type.dims[0] = Dim(Symbol::kT, 33); },
     "expected numbers"},
    {"tensor of i32", [](Intact& p) { p.plan.tensors[0].type.dtype = DType::kI32; }, "no type of a weight"},
    {"tensor of no rows", [](Intact& p) { p.plan.tensors[0].type.dims[0] = Dim(0); }, "dimension 0 is 0"},
    {"negative dimension", [](Intact& p) { p.plan.tensors[0].type.dims[1] = Dim(-32); }, "dimension 1 is -32"},
    {"half a block", [](Intact& p) { p.plan.tensors[0].type.dims[1] = Dim(65); }, "no multiple of the block"},
    {"tensor size wraps",
     [](Intact& p) {
       p.plan.tensors[0].type.dims[0] = Dim(int64_t{1} << 31);
       p.plan.tensors[0].type.dims[1] = Dim(int64_t{1} << 31);
     },
     "expected"},
    {"tensor too short", [](Intact& p) { p.plan.tensors[0].source_bytes -= 1; }, "expected 1122"},
    {"tensor moved", [](Intact& p) { p.plan.tensors[1].source_offset += 64; }, "starts at"},
    {"tensor beyond the section", [](Intact& p) { p.plan.tensors.back().source_offset = ~uint64_t{0} - 63; },
     "starts at"},
    {"section longer than its tensors", [](Intact& p) { p.weights_bytes += 64; }, "weights section has"},
    {"section too short", [](Intact& p) { p.weights_bytes -= 1; }, "beyond the weights section"},

    {"no such source", [](Intact& p) { p.plan.tensors[0].source = 0; }, "source 0, but the plan names 0"},
    {"negative source", [](Intact& p) { p.plan.tensors[0].source = -2; }, "source is -2"},
    {"feature bit missing", [](Intact& p) { p.refer(0, 1 << 20), p.has_sources = false; }, "feature bit"},
    {"source is a path", [](Intact& p) { p.refer(0, 1 << 20), p.plan.sources[0].name = "../x"; }, "no bare file name"},
    {"source is a folder", [](Intact& p) { p.refer(0, 1 << 20), p.plan.sources[0].name = ".."; }, "no bare file name"},
    {"source has no name", [](Intact& p) { p.refer(0, 1 << 20), p.plan.sources[0].name = ""; }, "no bare file name"},
    {"source too short", [](Intact& p) { p.refer(0, 100); }, "beyond 'model.gguf'"},
    {"source offset wraps",
     [](Intact& p) {
       p.refer(0, 1 << 20);
       p.plan.tensors[0].source_offset = ~uint64_t{0};
     },
     "beyond 'model.gguf'"},
    {"source of another type",
     [](Intact& p) {
       p.refer(0, 1 << 20);
       p.plan.tensors[0].source_dtype = DType::kF16;
     },
     "cannot make"},
    {"source of an unknown type",
     [](Intact& p) {
       p.refer(0, 1 << 20);
       p.plan.tensors[0].source_dtype = static_cast<DType>(200);
     },
     "no type of a weight"},

    {"no programs", [](Intact& p) { p.plan.programs.clear(); }, "0 programs"},
    {"too many programs",
     [](Intact& p) {
       p.plan.programs[0].launches.clear();
       for (int i = 0; i < 70; ++i) p.plan.programs.push_back(p.plan.programs[0]);
     },
     "72 programs"},
    {"programs out of order", [](Intact& p) { std::swap(p.plan.programs[0], p.plan.programs[1]); }, "as max_tokens"},
    {"more sequences than the batch", [](Intact& p) { p.plan.programs[1].max_sequences = 3; }, "as max_sequences"},
    {"more rows than tokens", [](Intact& p) { p.plan.programs[1].max_rows = 5; }, "as max_rows"},
    {"no tokens", [](Intact& p) { p.plan.programs[0].max_tokens = 0; }, "as max_tokens"},
    {"huge arena", [](Intact& p) { p.plan.programs[1].arena_bytes = ~uint64_t{0}; }, "as arena_bytes"},
    {"arena too small", [](Intact& p) { p.plan.programs[1].arena_bytes = 1024; }, "beyond the arena of 1024"},
    {"no launches", [](Intact& p) { p.plan.programs[1].launches.clear(); }, "no launch writes the logits"},

    {"dimension beyond the program's", [](Intact& p) { p.launch(kNorm).inputs[0].type.dims[0] = Dim(Symbol::kT, 5); },
     "expected 4 as in the program"},
    {"symbol in dimension 1", [](Intact& p) { p.launch(kNorm).inputs[0].type.dims[1] = Dim(Symbol::kT, 4); },
     "dimension 1 is a symbol"},
    {"unknown symbol", [](Intact& p) { p.launch(kNorm).inputs[0].type.dims[0] = Dim(static_cast<Symbol>(9), 4); },
     "unknown symbol 9"},
    {"unknown space", [](Intact& p) { p.launch(kNorm).inputs[0].space = static_cast<Space>(6); }, "unknown space 6"},
    {"operand beyond the arena", [](Intact& p) { p.launch(kNorm).outputs[0].offset = uint64_t{1} << 40; },
     "beyond the arena"},
    {"operand offset wraps", [](Intact& p) { p.launch(kNorm).outputs[0].offset = ~uint64_t{63}; }, "beyond the arena"},
    {"operand not aligned", [](Intact& p) { p.launch(kNorm).outputs[0].offset += 4; }, "multiple of 64"},
    {"slice not aligned", [](Intact& p) { p.launch(kActivation).inputs[0].offset += 2; }, "multiple of 4"},
    {"slice beyond its row", [](Intact& p) { p.launch(kActivation).inputs[0].offset += 256; },
     "was not written before"},
    {"slice with another distance", [](Intact& p) { p.launch(kActivation).inputs[0].row_bytes = 380; },
     "380 bytes apart"},
    {"rows wrap", [](Intact& p) { p.launch(kActivation).inputs[0].row_bytes = int64_t{1} << 62; }, "row_bytes"},
    {"rows overlap", [](Intact& p) { p.launch(kActivation).inputs[0].row_bytes = 8; }, "row_bytes 8"},
    {"slice written", [](Intact& p) { p.launch(kActivation).outputs[0].row_bytes = 384; },
     "unless an f32 slice is read"},
    {"weight that is none", [](Intact& p) { p.launch(kNorm).inputs[1].index = 8; }, "tensor 8, but the plan has 8"},
    {"weight as another type", [](Intact& p) { p.launch(kNorm).inputs[1].type.dims[0] = Dim(65); }, "'norm.weight' as"},
    {"weight written", [](Intact& p) { p.launch(kNorm).outputs[0] = p.launch(kNorm).inputs[1]; }, "writes a weight"},
    {"input that is none", [](Intact& p) { p.launch(kEmbed).inputs[1].index = 7; }, "step input 7"},
    {"input as another type", [](Intact& p) { p.launch(kEmbed).inputs[1].type.dtype = DType::kF32; },
     "step input tokens as"},
    {"input written", [](Intact& p) { p.launch(kEmbed).outputs[0] = p.launch(kEmbed).inputs[1]; },
     "writes a step input"},
    {"table of other columns", [](Intact& p) { p.launch(kAttention).inputs[4].type.dims[1] = Dim(3); },
     "expected i32[S,2]"},
    {"cache that is none", [](Intact& p) { p.launch(kRope).inputs[0].index = 1; }, "KV cache 1, but the plan has 1"},
    {"cache as another type", [](Intact& p) { p.launch(kRope).inputs[0].type.dims[3] = Dim(64); }, "KV cache 0 as"},
    {"logits read first", [](Intact& p) { p.launch(kNorm).inputs[0] = p.launch(kLogits).outputs[0]; },
     "reads the logits"},
    {"shortlists by a CPU", [](Intact& p) { p.launch(kLogits).outputs[0].index = kShortlists; },
     "output 1 is f32[R<=4,33], expected output 0"},
    {"logits of other columns", [](Intact& p) { p.launch(kLogits).outputs[0].type.dims[1] = Dim(32); }, "f32[R,33]"},
    {"logits twice", [](Intact& p) { p.plan.programs[1].launches.push_back(p.launch(kLogits)); }, "written twice"},
    {"integers in the arena", [](Intact& p) { p.launch(kNorm).inputs[0].type.dtype = DType::kI32; },
     "expected an activation"},
    {"blocks in the arena", [](Intact& p) { p.launch(kNorm).inputs[0].type.dtype = DType::kQ8_0; },
     "expected an activation"},

    {"read before write", [](Intact& p) { p.plan.programs[1].launches.erase(p.plan.programs[1].launches.begin()); },
     "was not written before"},
    {"read after overwrite", [](Intact& p) { p.launch(kAttention).outputs[0].offset = 0; }, "launch 5"},
    {"read as another type",
     [](Intact& p) {
       p.launch(kQuantize).inputs[0].type.dims[0] = Dim(Symbol::kT, 4);
       p.launch(kQuantize).outputs[0].type.dims[0] = Dim(Symbol::kT, 4);
     },
     "was written at"},
    {"output over an input",
     [](Intact& p) { p.launch(kAttention).outputs[0].offset = p.launch(kAttention).inputs[0].offset; },
     "overlaps input 0"},
    {"output over part of an in-place input", [](Intact& p) { p.launch(kLinearAdd).outputs[0].offset += 64; },
     "overlaps input"},
    {"cache written twice", [](Intact& p) { p.launch(kAttention) = p.launch(kRope); }, "written twice"},
    {"cache from nowhere", [](Intact& p) { p.launch(kNorm).outputs.push_back(p.launch(kRope).outputs[1]); },
     "launch 1"},

    {"index from a weight", [](Intact& p) { p.launch(kEmbed).inputs[1] = p.launch(kNorm).inputs[1]; },
     "expected a step input"},
    {"another index", [](Intact& p) { p.launch(kEmbed).inputs[1].index = 1; }, "step input positions, expected tokens"},
    {"index where there is none", [](Intact& p) { p.launch(kNorm).inputs[1] = p.launch(kEmbed).inputs[1]; },
     "expected no step input"},
    {"table smaller than the vocabulary",
     [](Intact& p) {
       p.plan.model.vocab_size = 34;
       p.launch(kLogits).outputs[0].type.dims[1] = Dim(34);
     },
     "for each of 34 tokens"},
    {"rows of R", [](Intact& p) { p.launch(kGather).inputs[0].type.dims[0] = Dim(Symbol::kR, 4); }, "expected T rows"},

    {"missing attribute", [](Intact& p) { p.launch(kNorm).attrs.clear(); }, "eps"},
    {"attribute of another kind", [](Intact& p) { p.launch(kNorm).attrs[0].value = std::string_view("1e-5"); }, "eps"},
    {"attribute twice", [](Intact& p) { p.launch(kNorm).attrs.push_back(p.launch(kNorm).attrs[0]); }, "appears twice"},
    {"head size 0", [](Intact& p) { p.launch(kAttention).attrs[2].value = int64_t{0}; }, "head_dim"},
    {"fewer operands", [](Intact& p) { p.launch(kAttention).inputs.pop_back(); }, "inputs"},
    {"no operands", [](Intact& p) { p.launch(kGather).inputs.clear(); }, "inputs"},
    {"no outputs", [](Intact& p) { p.launch(kGather).outputs.clear(); }, "0 outputs"},
    {"many operands", [](Intact& p) { p.launch(kNorm).inputs.assign(100, p.launch(kNorm).inputs[0]); }, "100 inputs"},
};

TEST(CraftedMetadata, IntactPlanIsAccepted) {
  const Status s = Intact().validate();
  EXPECT_TRUE(s) << s.error().message;
  Intact referred;
  referred.refer(0, 1 << 20);
  const Status r = referred.validate();
  EXPECT_TRUE(r) << r.error().message;
}

TEST(CraftedMetadata, IsRefusedWithAReason) {
  for (const Case& c : kCases) {
    Intact plan;
    c.change(plan);
    const Status s = plan.validate();
    ASSERT_FALSE(s) << c.name;
    EXPECT_EQ(s.error().code, c.code) << c.name << ": " << s.error().message;
    EXPECT_NE(s.error().message.find(c.message), std::string::npos) << c.name << ": " << s.error().message;
  }
}

TEST(CraftedMetadata, UnknownKernelIsUnsupported) {
  Intact plan;
  Kernel kernel = *plan.launch(kNorm).kernel;
  kernel.name = "rms_norm_of_tomorrow";
  plan.launch(kNorm).kernel = &kernel;
  const Status s = plan.validate();
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, Code::kUnsupported);
  EXPECT_NE(s.error().message.find("program 1: launch 1 ('rms_norm_of_tomorrow' 'h'): kernel"), std::string::npos)
      << s.error().message;
}

TEST(CraftedMetadata, CutOrFlippedAnywhereItIsHarmless) {
  const Intact plan;
  std::vector<std::byte> metadata = encode_metadata(plan.plan);
  for (size_t size = 0; size < metadata.size(); ++size) {
    const std::vector<std::byte> cut(metadata.begin(), metadata.begin() + static_cast<long>(size));
    Plan out;
    const bool only_padding = size + 8 >= metadata.size();
    EXPECT_TRUE(!validate_plan(cut, plan.weights_bytes, false, out) || only_padding) << size;
  }
  for (size_t i = 0; i < metadata.size(); ++i) {
    for (const unsigned flip : {0x01u, 0x80u, 0xffu}) {
      metadata[i] ^= static_cast<std::byte>(flip);
      Plan out;
      const Status s = validate_plan(metadata, plan.weights_bytes, false, out);  // a name may change and be fine
      EXPECT_TRUE(s || s.error().code == Code::kBadData || s.error().code == Code::kUnsupported) << i;
      metadata[i] ^= static_cast<std::byte>(flip);
    }
  }
}

// Tables may be shared: without a limit, a few kilobytes stand for millions of launches.
TEST(CraftedMetadata, SharedTablesAreCountedEachTime) {
  flatbuffers::FlatBufferBuilder b;
  const auto dims = b.CreateVectorOfStructs(std::vector<fb::Dim>{fb::Dim(4, 1), fb::Dim(64, 0)});
  const auto type = fb::CreateType(b, 0, 0, dims);
  const auto operand = fb::CreateOperand(b, fb::Space::arena, 0, 0, 0, type);
  const auto operands = b.CreateVector(std::vector(60, operand));
  const auto one = b.CreateVector(std::vector(1, operand));
  const auto launch = fb::CreateLaunch(b, b.CreateString("add"), 0, operands, one);
  const auto launches = b.CreateVector(std::vector(2000, launch));
  const auto program = fb::CreateProgram(b, b.CreateString("p"), 4, 1, 1, 4096, launches);
  const auto programs = b.CreateVector(std::vector(60, program));
  const auto model = fb::CreateModelInfo(b, b.CreateString("llama"), 0, 33, 40);
  const auto caches = b.CreateVector(std::vector<flatbuffers::Offset<fb::KvCache>>());
  const auto tensors = b.CreateVector(std::vector<flatbuffers::Offset<fb::Tensor>>());
  const auto text = b.CreateString("x");
  fb::FinishPlanBuffer(b, fb::CreatePlan(b, text, model, text, false, 2, 5, 32, 2, 0, caches, tensors, 0, programs));
  const auto* data = reinterpret_cast<const std::byte*>(b.GetBufferPointer());
  const std::vector<std::byte> metadata(data, data + b.GetSize());
  Plan out;
  const Status s = validate_plan(metadata, 0, false, out);
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().message.find("not a well-formed"), std::string::npos) << s.error().message;
}

// Not a test: with LLCUDA_WRITE_CORPUS=FOLDER, writes seeds for runtime/plan/plan_fuzz.cc there: the plan in parts and
// each case as case-N.
TEST(CraftedMetadata, Corpus) {
  const char* folder = std::getenv("LLCUDA_WRITE_CORPUS");
  if (folder == nullptr) GTEST_SKIP() << "LLCUDA_WRITE_CORPUS names no folder";
  const auto save = [&](const std::string& name, const std::string& start, std::span<const std::byte> bytes) {
    std::ofstream out(fmt::format("{}/{}", folder, name), std::ios::binary);
    out << start;
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  const auto metadata = [&](const std::string& name, const Intact& p) {
    std::string start = {'M', static_cast<char>(p.has_sources), 0, 0};
    for (int i = 0; i < 4; ++i) start.push_back(static_cast<char>(p.weights_bytes >> 8 * i));
    save(name, start, encode_metadata(p.plan));
  };
  Intact plan;
  metadata("metadata", plan);
  plan.plan.programs.pop_back();
  metadata("metadata-one-program", plan);
  plan.refer(0, 1 << 20);
  metadata("metadata-source", plan);
  for (size_t i = 0; i < std::size(kCases); ++i) {
    Intact changed;
    kCases[i].change(changed);
    metadata(fmt::format("case-{:03}", i), changed);
  }
  for (const bool embed : {true, false}) {
    crafted::TinyPlan tiny = crafted::tiny_plan();
    tiny.draft.plan.programs.pop_back();
    const std::string path = fmt::format("{}/{}", folder, embed ? "file" : "file-reference");
    WriteOptions options;
    options.embed = embed;
    ASSERT_TRUE(write_plan(tiny.draft, path, options));
    std::ifstream in(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    save(fmt::format("sealed{}", embed ? "" : "-reference"), "S", std::as_bytes(std::span(text)));
  }
}

}  // namespace
}  // namespace ll
