// The tables of GPU targets that a writer of ours would never make. The rest of the metadata: crafted_test.cc.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "compiler/plan/metadata.h"
#include "compiler/plan/tiny_draft.h"
#include "compiler/plan/writer.h"
#include "runtime/plan/gpu_memory.h"
#include "runtime/plan/validate.h"

namespace ll {
namespace {

// A valid plan for two targets, laid out as the writer would.
struct IntactGpu {
  crafted::TinyPlan tiny = crafted::tiny_plan(Backend::kGpu);
  Plan& plan = tiny.draft.plan;
  std::string& code = tiny.draft.gpu_code;
  uint64_t weights_bytes = *lay_out_tensors(tiny.draft, true);

  GpuTarget& emulated() { return plan.gpu_targets[0]; }
  GpuTarget& target() { return plan.gpu_targets[1]; }
  GpuKernel& kernel() { return target().kernels[1]; }
  Launch& lists() { return plan.programs[1].launches[11]; }
  GpuNode& node() { return target().programs[1][2][1]; }
  Status validate() const {
    const std::vector<std::byte> metadata = encode_metadata(plan);
    Plan out;
    return validate_plan(metadata, weights_bytes, false, out, std::as_bytes(std::span(code)));
  }
};

struct GpuCase {
  const char* name;
  void (*change)(IntactGpu&);
  const char* message;  // part of it
  Code code = Code::kBadData;
};

constexpr GpuCase kGpuCases[] = {
    {"another target", [](IntactGpu& p) { p.plan.target = "sm_75"; }, "programs are for 'emulated,sm_75'",
     Code::kUnsupported},
    {"no targets", [](IntactGpu& p) { p.plan.gpu_targets.clear(); }, "0 programs"},
    {"targets without programs", [](IntactGpu& p) { p.plan.programs.clear(); }, "0 GPU programs for 2 GPU targets"},
    {"too many targets", [](IntactGpu& p) { p.plan.gpu_targets.resize(17, p.emulated()); }, "17 GPU targets"},
    {"name of another architecture",
     [](IntactGpu& p) {
       p.target().name = "sm_80";
       p.plan.target = "emulated,sm_80";
     },
     "'sm_80' for architecture 75"},
    {"architecture of another name", [](IntactGpu& p) { p.target().sm = 90; }, "'sm_75' for architecture 90"},
    {"targets out of order",
     [](IntactGpu& p) {
       std::swap(p.plan.gpu_targets[0], p.plan.gpu_targets[1]);
       p.plan.target = "sm_75,emulated";
     },
     "code starts at"},
    {"a target twice",
     [](IntactGpu& p) {
       p.plan.gpu_targets = {p.emulated(), p.emulated()};
       p.plan.target = "emulated,emulated";
     },
     "expected ascending"},
    {"instructions beyond the device", [](IntactGpu& p) { p.target().isa = 80; }, "as isa"},
    {"driver of tomorrow", [](IntactGpu& p) { p.target().driver = ~0u; }, "as driver version"},
    {"no kernels", [](IntactGpu& p) { p.target().kernels.clear(); }, "but the target has 0"},
    {"a kernel less", [](IntactGpu& p) { p.target().kernels.pop_back(); }, "kernel 1, but the target has 1"},
    {"fewer programs", [](IntactGpu& p) { p.target().programs.pop_back(); }, "1 programs, expected 2"},
    {"more programs", [](IntactGpu& p) { p.target().programs.push_back(p.target().programs[0]); },
     "3 programs, expected 2"},
    {"fewer launches", [](IntactGpu& p) { p.target().programs[1].pop_back(); }, "11 launches, expected 12"},
    {"more launches", [](IntactGpu& p) { p.target().programs[1].emplace_back(); }, "13 launches, expected 12"},
    {"no nodes", [](IntactGpu& p) { p.target().programs[1][4].clear(); }, "launch 4: 0 nodes"},
    {"too many nodes", [](IntactGpu& p) { p.target().programs[1][4].resize(17); }, "17 nodes"},

    {"function without a name", [](IntactGpu& p) { p.kernel().function = ""; }, "'' is no name of a kernel"},
    {"function with a zero byte", [](IntactGpu& p) { p.kernel().function = std::string_view("tiny\0b", 6); },
     "is no name of a kernel"},
    {"function with a space", [](IntactGpu& p) { p.kernel().function = "tiny b"; }, "is no name of a kernel"},
    {"function of a long name",
     [](IntactGpu& p) {
       static const std::string kLong(256, 'a');
       p.kernel().function = kLong;
     },
     "is no name of a kernel"},
    {"function that the cubin lacks", [](IntactGpu& p) { p.kernel().function = "tiny_c"; }, "has no function 'tiny_c'"},
    {"no threads", [](IntactGpu& p) { p.kernel().threads = 0; }, "threads a block"},
    {"part of a warp", [](IntactGpu& p) { p.kernel().threads = 100; }, "expected a multiple of 32"},
    {"too many threads", [](IntactGpu& p) { p.kernel().threads = 1056; }, "threads a block"},
    {"other registers", [](IntactGpu& p) { p.kernel().registers = 41; }, "expected 41, 1024 and 8"},
    {"other shared memory", [](IntactGpu& p) { p.kernel().shared_bytes = 0; }, "expected 40, 0 and 8"},
    {"too much shared memory", [](IntactGpu& p) { p.kernel().shared_bytes = (227u << 10) + 1; },
     "bytes of shared memory"},
    {"other local memory", [](IntactGpu& p) { p.kernel().local_bytes = ~0u; }, "expected 40, 1024 and 4294967295"},
    {"no code", [](IntactGpu& p) { p.kernel().code_bytes = 0; }, "bytes of code"},
    {"more code than there is", [](IntactGpu& p) { p.kernel().code_bytes = ~uint64_t{0}; }, "bytes of code"},
    {"code cut", [](IntactGpu& p) { p.kernel().code_bytes -= 1; }, "truncated"},
    {"code beyond the section", [](IntactGpu& p) { p.kernel().code_bytes = p.code.size(); }, "beyond the section"},
    {"code moved", [](IntactGpu& p) { p.kernel().code_offset += 64; }, "code starts at"},
    {"code of another kernel", [](IntactGpu& p) { p.kernel().code_offset = p.target().kernels[0].code_offset; },
     "code starts at"},
    {"code offset wraps", [](IntactGpu& p) { p.kernel().code_offset = ~uint64_t{63}; }, "code starts at"},
    {"cubin of another architecture",
     [](IntactGpu& p) { p.code[p.kernel().code_offset + crafted::CubinBuilder::kFlags] = 80; }, "a cubin for sm_80"},
    {"code that is no cubin", [](IntactGpu& p) { p.code[p.kernel().code_offset] = 'x'; }, "cubin: not a cubin"},
    {"PTX of no length", [](IntactGpu& p) { p.kernel().ptx_bytes = 0; }, "no code at"},
    {"PTX moved", [](IntactGpu& p) { p.kernel().ptx_offset = 64; }, "code starts at 64"},
    {"PTX beyond the section", [](IntactGpu& p) { p.kernel().ptx_bytes += 1; }, "beyond the section"},
    {"PTX that does not end", [](IntactGpu& p) { p.code.back() = 'x'; }, "only zero byte"},
    {"PTX that ends twice", [](IntactGpu& p) { p.code[p.code.size() - 3] = '\0'; }, "only zero byte"},
    {"section longer than its kernels", [](IntactGpu& p) { p.code += "more"; }, "end of the last kernel"},
    {"section cut", [](IntactGpu& p) { p.code.pop_back(); }, "beyond the section"},
    {"section missing", [](IntactGpu& p) { p.code.clear(); }, "bytes of code"},

    {"no such kernel", [](IntactGpu& p) { p.node().kernel = 2; }, "kernel 2, but the target has 2"},
    {"no blocks in x", [](IntactGpu& p) { p.node().grid[0] = 0; }, "blocks in x"},
    {"too many blocks in x", [](IntactGpu& p) { p.node().grid[0] = 1u << 31; }, "blocks in x"},
    {"no blocks in y", [](IntactGpu& p) { p.node().grid[1] = 0; }, "blocks in y"},
    {"too many blocks in y", [](IntactGpu& p) { p.node().grid[1] = 65536; }, "blocks in y"},
    {"no blocks in z", [](IntactGpu& p) { p.node().grid[2] = 0; }, "blocks in z"},
    {"too many blocks in z", [](IntactGpu& p) { p.node().grid[2] = 65536; }, "blocks in z"},
    {"shared memory beyond a block's", [](IntactGpu& p) { p.node().dynamic_shared = (227u << 10) - 1023; },
     "dynamic shared memory"},
    {"shared memory wraps", [](IntactGpu& p) { p.node().dynamic_shared = ~0u; }, "dynamic shared memory"},
    {"huge workspace", [](IntactGpu& p) { p.node().workspace = ~uint64_t{0}; }, "bytes of workspace"},
    {"more zeroed than there is", [](IntactGpu& p) { p.node().workspace_zeroed = p.node().workspace + 1; },
     "zeroed workspace"},

    {"weights in a layout of processors",
     [](IntactGpu& p) {
       p.plan.tensors[7].type.layout = Layout::kX16;
       p.weights_bytes = *lay_out_tensors(p.tiny.draft, true);
       for (Program& program : p.plan.programs) program.launches[10].inputs[1].type.layout = Layout::kX16;
     },
     "in layout x16, which GPUs do not read"},
    {"slice not aligned for GPUs", [](IntactGpu& p) { p.plan.programs[1].launches[6].inputs[0].row_bytes = 388; },
     "multiple of 16"},
    {"shortlists of another width", [](IntactGpu& p) { p.lists().outputs[0].type.dims[1] = Dim(131); },
     "expected shortlists as f32[R,132]"},
    {"shortlists of tokens", [](IntactGpu& p) { p.lists().outputs[0].type.dims[0] = Dim(Symbol::kT, 4); },
     "expected shortlists as f32[R,132]"},
    {"shortlists twice", [](IntactGpu& p) { p.plan.programs[1].launches.push_back(p.lists()); },
     "shortlists are written twice"},
    {"shortlists of other rows", [](IntactGpu& p) { p.lists().inputs[0] = p.plan.programs[1].launches[8].outputs[0]; },
     "expected kernel shortlist of the logits"},
    {"shortlists before the logits", [](IntactGpu& p) { std::swap(p.lists(), p.plan.programs[1].launches[10]); },
     "reads the logits before"},
    {"shortlists read", [](IntactGpu& p) { p.lists().inputs[0] = p.lists().outputs[0]; }, "expected output 0 as"},
    {"shortlists of temperatures that are integers", [](IntactGpu& p) { p.lists().inputs[1].type.dtype = DType::kI32; },
     "step input inverse_temperatures as i32[R<=4], expected f32[R]"},
    {"shortlists of row numbers as temperatures", [](IntactGpu& p) { p.lists().inputs[1].index = 5; },
     "step input rows as f32"},
    {"a third output", [](IntactGpu& p) { p.lists().outputs[0].index = 2; }, "output 2 is"},

    {"more operands than a kernel takes",
     [](IntactGpu& p) { p.plan.programs[1].launches[1].inputs.assign(60, p.plan.programs[1].launches[1].inputs[0]); },
     "60 inputs"},
};

TEST(CraftedGpu, IntactPlanIsAccepted) {
  const Status s = IntactGpu().validate();
  EXPECT_TRUE(s) << s.error().message;
}

TEST(CraftedGpu, IsRefusedWithAReason) {
  for (const GpuCase& c : kGpuCases) {
    IntactGpu plan;
    c.change(plan);
    const Status s = plan.validate();
    ASSERT_FALSE(s) << c.name;
    EXPECT_EQ(s.error().code, c.code) << c.name << ": " << s.error().message;
    EXPECT_NE(s.error().message.find(c.message), std::string::npos) << c.name << ": " << s.error().message;
  }
}

TEST(CraftedGpu, CutOrFlippedAnywhereItIsHarmless) {
  const IntactGpu plan;
  std::vector<std::byte> metadata = encode_metadata(plan.plan);
  std::string code = plan.code;
  const auto check = [&](size_t i) {
    Plan out;
    const Status s = validate_plan(metadata, plan.weights_bytes, false, out, std::as_bytes(std::span(code)));
    if (!s) {
      EXPECT_TRUE(s.error().code == Code::kBadData || s.error().code == Code::kUnsupported) << i;
      return;
    }
    // What passes has a place in memory.
    for (const GpuTarget& t : out.gpu_targets) EXPECT_GE(GpuMemory(out, t).total, out.kv_pool_bytes) << i;
  };
  for (size_t i = 0; i < metadata.size(); ++i) {
    for (const unsigned flip : {0x01u, 0xffu}) {
      metadata[i] ^= static_cast<std::byte>(flip);
      check(i);
      metadata[i] ^= static_cast<std::byte>(flip);
    }
  }
  for (size_t i = 0; i < code.size(); ++i) {
    code[i] = static_cast<char>(~code[i]);
    check(i);
    code[i] = static_cast<char>(~code[i]);
  }
}

// Shared tables again: a few kilobytes must not stand for gigabytes of nodes.
TEST(CraftedGpu, NodesThatAreSharedAreCountedEachTime) {
  IntactGpu plan;
  plan.plan.programs[1].launches.clear();
  plan.target().programs[1].assign(60000, std::vector<GpuNode>(16));
  const Status s = plan.validate();
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().message.find("not a well-formed"), std::string::npos) << s.error().message;
}

// Not a test: with LLCUDA_WRITE_CORPUS=FOLDER, writes seeds for runtime/plan/plan_fuzz.cc there: the plan, and each
// case as gpu-case-N.
TEST(CraftedGpu, Corpus) {
  const char* folder = std::getenv("LLCUDA_WRITE_CORPUS");
  if (folder == nullptr) GTEST_SKIP() << "LLCUDA_WRITE_CORPUS names no folder";
  const auto metadata = [&](const std::string& name, const IntactGpu& p) {
    std::string start = {'G', 0, 0, 0};
    for (const uint64_t number : {p.weights_bytes, uint64_t{p.code.size()}}) {
      for (int i = 0; i < 4; ++i) start.push_back(static_cast<char>(number >> 8 * i));
    }
    const std::vector<std::byte> bytes = encode_metadata(p.plan);
    std::ofstream out(fmt::format("{}/{}", folder, name), std::ios::binary);
    out << start << p.code;
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  metadata("gpu-metadata", IntactGpu());
  for (size_t i = 0; i < std::size(kGpuCases); ++i) {
    IntactGpu plan;
    kGpuCases[i].change(plan);
    metadata(fmt::format("gpu-case-{:02}", i), plan);
  }
  IntactGpu plan;
  const std::string path = fmt::format("{}/gpu-file", folder);
  ASSERT_TRUE(write_plan(plan.tiny.draft, path));
  std::ifstream in(path, std::ios::binary);
  std::ofstream(fmt::format("{}/gpu-sealed", folder), std::ios::binary) << "S" << in.rdbuf();
}

}  // namespace
}  // namespace ll
