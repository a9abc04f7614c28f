// Models to plans, from the outside: what llcc compile promises.
#include "compiler/driver.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "compiler/plan/explain.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/weights.h"
#include "tests/files.h"

namespace ll {
namespace {

namespace fs = std::filesystem;

const std::string kModel = LLCUDA_SOURCE_DIR "/examples/kjv-7m-Q8_0.gguf";

class DriverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "llcuda-driver-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    options_.input = kModel;
    options_.output = path("out.llcp");
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  static std::string read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {(std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>()};
  }
  // The bytes of the plan that `options` makes.
  std::string plan_of(const CompileOptions& options) {
    const auto r = compile(options);
    EXPECT_TRUE(r) << r.error().message;
    return read(options.output);
  }
  Error error_of(const CompileOptions& options) {
    auto r = compile(options);
    EXPECT_FALSE(r);
    return r ? Error{Code::kOk, ""} : std::move(r).error();
  }

  fs::path folder_;
  CompileOptions options_;
};

TEST_F(DriverTest, CompilesTheBundledModel) {
  ASSERT_TRUE(compile(options_));
  const auto plan = open_plan(options_.output, {.verify_weights = true});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ((*plan)->model.architecture, "llama");
  EXPECT_EQ((*plan)->model.vocab_size, 4096u);
  EXPECT_EQ((*plan)->model.context_length, 2048u);
  EXPECT_EQ((*plan)->kv_caches.size(), 8u);
  EXPECT_EQ((*plan)->kv_caches[0].type.dtype, DType::kF16);
  EXPECT_FALSE((*plan)->tokenizer.empty());
  EXPECT_FALSE((*plan)->chat_template.empty());
  std::vector<uint32_t> tokens;
  for (const Program& p : (*plan)->programs) tokens.push_back(p.max_tokens);
  EXPECT_EQ(tokens, (std::vector<uint32_t>{1, 2, 4, 8, 16, 32, 64, 128, 256, 512}));
  EXPECT_EQ((*plan)->programs[9].max_rows, 64u);
  EXPECT_EQ((*plan)->programs[9].max_sequences, 8u);
}

TEST_F(DriverTest, SameInputSameBytes) {
  const std::string first = plan_of(options_);
  // From another path, to another path, on other threads.
  fs::create_directory(path("elsewhere"));
  fs::copy_file(kModel, path("elsewhere/renamed.gguf"));
  CompileOptions other = options_;
  other.input = path("elsewhere/renamed.gguf");
  other.output = path("elsewhere/p");
  other.threads = 1;
  EXPECT_TRUE(first == plan_of(other));
  // From the printed graph.
  CompileOptions emit = options_;
  emit.emit = Emit::kIr;
  emit.output.clear();
  const auto text = compile(emit);
  ASSERT_TRUE(text) << text.error().message;
  std::ofstream(path("g.llir")) << *text;
  CompileOptions graph = options_;
  graph.input = path("g.llir");
  graph.weights_model = kModel;
  EXPECT_TRUE(first == plan_of(graph));
}

TEST_F(DriverTest, OptionsReachThePlan) {
  options_.context_length = 40;
  options_.max_batch = 3;
  options_.kv_type = DType::kI8;
  ASSERT_TRUE(compile(options_));
  const auto plan = open_plan(options_.output);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ((*plan)->model.context_length, 40u);
  EXPECT_EQ((*plan)->pages_per_sequence, 2u);
  EXPECT_EQ((*plan)->pages, 9u);
  EXPECT_EQ((*plan)->max_batch, 3u);
  EXPECT_EQ((*plan)->kv_caches[0].type.dtype, DType::kI8);
  EXPECT_EQ((*plan)->programs.back().max_tokens, 128u);  // the first that holds 3 * 40 tokens
}

TEST_F(DriverTest, ReferenceKernelsUsePlainLayoutsAndF32Caches) {
  options_.reference_kernels = true;
  ASSERT_TRUE(compile(options_));
  const auto plan = open_plan(options_.output);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_TRUE((*plan)->reference_kernels);
  EXPECT_EQ((*plan)->kv_caches[0].type.dtype, DType::kF32);
  for (const PlanTensor& t : (*plan)->tensors) EXPECT_EQ(t.type.layout, Layout::kRows) << t.name;
  for (const Launch& l : (*plan)->programs[0].launches) {
    EXPECT_FALSE(l.kernel->name.ends_with("_q8")) << l.kernel->name;
  }
}

TEST_F(DriverTest, ReferencedWeightsEqualEmbeddedOnes) {
  fs::copy_file(kModel, path("kjv-7m-Q8_0.gguf"));
  options_.input = path("kjv-7m-Q8_0.gguf");
  ASSERT_TRUE(compile(options_));
  CompileOptions reference = options_;
  reference.embed_weights = false;
  reference.output = path("reference.llcp");
  ASSERT_TRUE(compile(reference));
  EXPECT_LT(fs::file_size(reference.output), fs::file_size(options_.output) / 4);
  const auto a = open_plan(options_.output), b = open_plan(reference.output);
  ASSERT_TRUE(a && b);
  const auto x = Weights::load(*a), y = Weights::load(*b, "", 2);
  ASSERT_TRUE(x);
  ASSERT_TRUE(y) << y.error().message;
  for (size_t i = 0; i < (*a)->tensors.size(); ++i) {
    ASSERT_EQ(std::memcmp(x->data(i), y->data(i), (*a)->tensors[i].bytes), 0) << (*a)->tensors[i].name;
  }
}

TEST_F(DriverTest, EveryFamilyAndTypeCompiles) {
  if (!fs::exists(test_files::shared_folder() / "models"))
    GTEST_SKIP() << test_files::shared_folder() << " is not there";
  for (const char* model : {"llama-gqa", "llama-mha-tied", "llama3-rope", "mistral-swa", "qwen2-bias", "kjv-7m",
                            "kjv-1m-draft", "kjv-7m/gguf/kjv-7m-Q4_0.gguf", "kjv-7m/gguf/kjv-7m-Q4_K_M.gguf"}) {
    for (const bool reference : {false, true}) {
      options_.input = (test_files::shared_folder() / "models" / model).string();
      options_.reference_kernels = reference;
      const auto r = compile(options_);
      ASSERT_TRUE(r) << model << ": " << r.error().message;
      const auto plan = open_plan(options_.output, {.verify_weights = true});
      ASSERT_TRUE(plan) << model << ": " << plan.error().message;
    }
  }
}

TEST_F(DriverTest, ProgramTextListsEveryLaunch) {
  options_.emit = Emit::kProgram;
  options_.output.clear();
  const auto text = compile(options_);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_NE(text->find("program step-1: up to 1 tokens"), std::string::npos);
  EXPECT_NE(text->find("= embed 'token_embd.weight' q8_0:x16[4096,256], tokens i32[T<=1] -> @0 f32[T<=1,256]"),
            std::string::npos);
  EXPECT_NE(text->find("-> logits f32[R<=64,4096]"), std::string::npos);
}

TEST_F(DriverTest, ExplainNamesProgramsThatAreNotThere) {
  ASSERT_TRUE(compile(options_));
  const auto plan = open_plan(options_.output);
  ASSERT_TRUE(plan);
  EXPECT_TRUE(explain_text(**plan, 9));
  EXPECT_TRUE(explain_json(**plan, {}));
  EXPECT_EQ(explain_text(**plan, 10).error().code, Code::kUsage);
}

TEST_F(DriverTest, RefusesWhatItCannotDo) {
  const auto expect = [&](const CompileOptions& o, Code code, std::string_view part) {
    const Error e = error_of(o);
    EXPECT_EQ(e.code, code) << e.message;
    EXPECT_NE(e.message.find(part), std::string::npos) << e.message;
    EXPECT_TRUE(fs::is_empty(folder_)) << "something was left behind";
  };
  CompileOptions o = options_;
  o.target = "sm_71";
  expect(o, Code::kUnsupported, "cpu");
  o = options_;
  o.context_length = 4096;
  expect(o, Code::kUsage, "at most 2048");
  o = options_;
  o.max_batch = 0;
  expect(o, Code::kUsage, "--max-batch 0");
  o = options_;
  o.max_batch = 65537;
  expect(o, Code::kUsage, "--max-batch 65537");
  o = options_;
  o.output.clear();
  expect(o, Code::kUsage, "-o PLAN.llcp");
  o = options_;
  o.emit = Emit::kIr;
  expect(o, Code::kUsage, "stdout");
  o = options_;
  o.input = "graph.llir";
  expect(o, Code::kUsage, "--weights MODEL");
  o = options_;
  o.weights_model = "embd";
  expect(o, Code::kUsage, "embed or reference");
  o = options_;
  o.disabled_passes = {"no_such_pass"};
  expect(o, Code::kUsage, "no such pass");
  o = options_;
  o.input = path("absent.gguf");
  expect(o, Code::kNoInput, "absent.gguf");
  o = options_;
  o.output = path("absent/plan.llcp");
  expect(o, Code::kCannotCreate, "absent");
}

TEST_F(DriverTest, NeverWritesOverItsInput) {
  fs::copy_file(kModel, path("m.gguf"));
  fs::create_hard_link(path("m.gguf"), path("link.llcp"));
  options_.input = path("m.gguf");
  for (const char* output : {"m.gguf", "link.llcp"}) {
    options_.output = path(output);
    EXPECT_EQ(error_of(options_).code, Code::kUsage);
  }
  EXPECT_EQ(fs::file_size(path("m.gguf")), fs::file_size(kModel));
}

TEST_F(DriverTest, GraphOfAnotherModelIsRefused) {
  const auto expect = [&](std::string_view text, std::string_view part) {
    std::ofstream(path("g.llir"), std::ios::trunc) << text;
    CompileOptions o = options_;
    o.input = path("g.llir");
    o.weights_model = kModel;
    const Error e = error_of(o);
    EXPECT_EQ(e.code, Code::kBadData) << e.message;
    EXPECT_NE(e.message.find(part), std::string::npos) << e.message;
    EXPECT_FALSE(fs::exists(options_.output));
  };
  const std::string start =
      "graph {\n  %tokens = input {name = \"tokens\"} : i32[T]\n  %rows = input {name = \"rows\"} : i32[R]\n";
  const std::string end =
      "  %x = embed %w, %tokens : f32[T,256]\n  %l = gather_rows %x, %rows : f32[R,256]\n"
      "  %y = linear %l, %w : f32[R,4096]\n  return %y : f32[R,4096]\n}\n";
  expect(start + "  %w = weight {name = \"absent\"} : q8_0[4096,256]\n" + end, "no tensor 'absent'");
  expect(start + "  %w = weight {name = \"token_embd.weight\"} : f32[4096,256]\n" + end, "q8_0[4096,256] in the model");
  expect("graph {", "g.llir:1");
}

}  // namespace
}  // namespace ll
