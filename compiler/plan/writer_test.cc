// Plans written and read back, intact and damaged.
#include "compiler/plan/writer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "compiler/plan/metadata.h"
#include "compiler/plan/tiny_draft.h"
#include "kernels/quant/layouts.h"
#include "runtime/plan/container.h"
#include "runtime/plan/weights.h"

namespace ll {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

class WriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "llcuda-plan-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  static Bytes read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
  }
  static void write(const std::string& path, std::span<const std::byte> bytes) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  std::string write_tiny(const std::string& name, const WriteOptions& options = {}) {
    crafted::TinyPlan tiny = crafted::tiny_plan();
    const Status s = write_plan(tiny.draft, path(name), options);
    EXPECT_TRUE(s) << s.error().message;
    return path(name);
  }
  // Opens `bytes` as a plan file, weights verified.
  Result<ValidatedPlan> open(std::span<const std::byte> bytes) {
    write(path("damaged.llcp"), bytes);
    return open_plan(path("damaged.llcp"), {.verify_weights = true});
  }
  // With header, table, footer and the section hashes made right again.
  Result<ValidatedPlan> open_resealed(Bytes bytes, const PlanHeader& header) {
    const auto sealed = encode_header(header);
    std::copy(sealed.begin(), sealed.end(), bytes.begin());
    const auto footer = encode_footer(sealed);
    std::copy(footer.begin(), footer.end(), bytes.end() - kPlanFooterBytes);
    return open(bytes);
  }

  fs::path folder_;
};

TEST_F(WriterTest, ReadsBackWhatWasWritten) {
  crafted::TinyPlan tiny = crafted::tiny_plan();
  ASSERT_TRUE(write_plan(tiny.draft, path("a.llcp")));
  const auto opened = open_plan(path("a.llcp"), {.verify_weights = true});
  ASSERT_TRUE(opened) << opened.error().message;
  const Plan &a = tiny.draft.plan, &b = **opened;
  EXPECT_EQ(encode_metadata(a), encode_metadata(b));
  EXPECT_EQ(b.model.name, "tiny");
  EXPECT_EQ(b.model.eos_tokens, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(b.chat_template, tiny.draft.chat_template);
  EXPECT_EQ(b.graph, tiny.draft.graph);
  EXPECT_EQ(b.tokenizer.size(), tiny.draft.tokenizer.size());
  ASSERT_EQ(b.programs.size(), 2u);
  EXPECT_EQ(b.programs[1].launches.size(), 11u);
  EXPECT_EQ(b.programs[1].launches[6].inputs[0].row_bytes, 384);
  EXPECT_EQ(b.kv_bytes_per_token, a.kv_bytes_per_token);
  EXPECT_EQ(b.arena_bytes, a.programs[1].arena_bytes);
  EXPECT_EQ(b.program_for(1, 1, 1), &b.programs[0]);
  EXPECT_EQ(b.program_for(2, 2, 2), &b.programs[1]);
  EXPECT_EQ(b.program_for(5, 1, 1), nullptr);
}

TEST_F(WriterTest, WeightsHaveTheValuesOfTheSource) {
  crafted::TinyPlan tiny = crafted::tiny_plan();
  ASSERT_TRUE(write_plan(tiny.draft, path("a.llcp")));
  const auto plan = open_plan(path("a.llcp"));
  ASSERT_TRUE(plan) << plan.error().message;
  const auto weights = Weights::load(*plan);
  ASSERT_TRUE(weights) << weights.error().message;
  for (size_t i = 0; i < (*plan)->tensors.size(); ++i) {
    const PlanTensor& t = (*plan)->tensors[i];
    EXPECT_EQ(reinterpret_cast<uintptr_t>(weights->data(i)) % 64, 0u) << t.name;
    const TensorData& d = tiny.draft.data[i];
    const int64_t k = t.type.last().value;
    std::vector<float> expected(static_cast<size_t>(k)), found(expected);
    for (int64_t r = 0; r < weight_rows(t.type); ++r) {
      dequantize_row(d.dtype, Layout::kRows, d.bytes.data(), r, k, expected.data());
      dequantize_row(t.type.dtype, t.type.layout, weights->data(i), r, k, found.data());
      ASSERT_EQ(expected, found) << t.name << " row " << r;
    }
  }
}

TEST_F(WriterTest, SameBytesWhateverThePathAndTheThreads) {
  const Bytes a = read(write_tiny("a.llcp", {.threads = 1}));
  EXPECT_EQ(a, read(write_tiny("another name.llcp", {.threads = 5})));
  EXPECT_GT(a.size(), kPlanHeaderBytes);
}

TEST_F(WriterTest, ReferencePlanLoadsTheSameWeights) {
  write(path("tiny.gguf"), crafted::tiny_plan().file);
  const auto embedded = open_plan(write_tiny("a.llcp"));
  const auto reference = open_plan(write_tiny("b.llcp", {.embed = false}));
  ASSERT_TRUE(embedded);
  ASSERT_TRUE(reference) << reference.error().message;
  EXPECT_LT(fs::file_size(path("b.llcp")), fs::file_size(path("a.llcp")));
  const auto a = Weights::load(*embedded), b = Weights::load(*reference, "", 3);
  ASSERT_TRUE(a);
  ASSERT_TRUE(b) << b.error().message;
  for (size_t i = 0; i < (*embedded)->tensors.size(); ++i) {
    EXPECT_EQ(std::memcmp(a->data(i), b->data(i), (*embedded)->tensors[i].bytes), 0) << (*embedded)->tensors[i].name;
  }
}

TEST_F(WriterTest, ReferencePlanRefusesAnotherSource) {
  const auto plan = open_plan(write_tiny("b.llcp", {.embed = false}));
  ASSERT_TRUE(plan);
  auto missing = Weights::load(*plan);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kNoInput);
  Bytes file = crafted::tiny_plan().file;
  file.back() ^= std::byte{1};
  write(path("tiny.gguf"), file);
  auto changed = Weights::load(*plan);
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code, Code::kBadData);
  EXPECT_NE(changed.error().message.find("checksum"), std::string::npos) << changed.error().message;
  file.pop_back();
  write(path("tiny.gguf"), file);
  auto shorter = Weights::load(*plan);
  ASSERT_FALSE(shorter);
  EXPECT_NE(shorter.error().message.find("bytes"), std::string::npos) << shorter.error().message;
}

TEST_F(WriterTest, TruncatedAtAnyByteIsBadData) {
  const std::string plan = write_tiny("a.llcp");
  for (uintmax_t size = fs::file_size(plan); size-- > 0;) {
    fs::resize_file(plan, size);
    const auto opened = open_plan(plan);
    ASSERT_FALSE(opened) << size;
    ASSERT_EQ(opened.error().code, Code::kBadData) << size << ": " << opened.error().message;
  }
}

TEST_F(WriterTest, AppendedBytesAreBadData) {
  Bytes bytes = read(write_tiny("a.llcp"));
  bytes.push_back(std::byte{0});
  const auto opened = open(bytes);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kBadData);
  EXPECT_NE(opened.error().message.find("appended"), std::string::npos) << opened.error().message;
}

TEST_F(WriterTest, AnyByteFlippedIsNoticed) {
  Bytes bytes = read(write_tiny("a.llcp"));
  const std::string damaged = path("damaged.llcp");
  write(damaged, bytes);
  std::fstream file(damaged, std::ios::in | std::ios::out | std::ios::binary);
  const auto header = decode_header(bytes, bytes.size());
  ASSERT_TRUE(header);
  const Section weights = *header->find(SectionType::kWeights);
  for (size_t i = 0; i < bytes.size(); ++i) {
    // The weights are one sum, nothing is parsed: a sample is enough.
    if (i >= weights.offset && i < weights.offset + weights.bytes && i % 211 != 0) continue;
    for (const unsigned flip : {0x01u, 0x80u, 0xffu}) {
      const auto put = [&](std::byte b) {
        file.seekp(static_cast<std::streamoff>(i));
        file.put(static_cast<char>(b));
        file.flush();
      };
      put(bytes[i] ^ static_cast<std::byte>(flip));
      const auto opened = open_plan(damaged, {.verify_weights = true});
      put(bytes[i]);
      ASSERT_FALSE(opened) << "byte " << i;
      const Code code = opened.error().code;
      ASSERT_TRUE(code == Code::kBadData || code == Code::kUnsupported) << i << ": " << opened.error().message;
    }
  }
  ASSERT_TRUE(open_plan(damaged, {.verify_weights = true}));
}

TEST_F(WriterTest, NewerFormatsAreUnsupported) {
  const Bytes bytes = read(write_tiny("a.llcp"));
  const auto header = decode_header(bytes, bytes.size());
  ASSERT_TRUE(header);

  PlanHeader h = *header;
  h.major = kPlanMajor + 1;
  auto opened = open_resealed(bytes, h);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kUnsupported);
  EXPECT_NE(opened.error().message.find("version 2.0"), std::string::npos) << opened.error().message;

  h = *header;
  h.required = 1u << 20;
  opened = open_resealed(bytes, h);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kUnsupported);
  EXPECT_NE(opened.error().message.find("0x100000"), std::string::npos) << opened.error().message;

  h = *header;
  h.minor = kPlanMinor + 1;
  h.optional = 1u << 20;
  opened = open_resealed(bytes, h);
  EXPECT_TRUE(opened) << opened.error().message;
}

TEST_F(WriterTest, SectionsOfANewerMinorAreSkippedButVerified) {
  Bytes bytes = read(write_tiny("a.llcp"));
  auto header = decode_header(bytes, bytes.size());
  ASSERT_TRUE(header);
  bytes.resize(footer_offset(header->sections));
  Section extra{.type = 77, .alignment = 64, .offset = bytes.size(), .bytes = 64, .hash = {}};
  bytes.resize(bytes.size() + 64 + kPlanFooterBytes, std::byte{7});
  extra.hash = hash128(std::span(bytes).subspan(extra.offset, extra.bytes));
  header->sections.push_back(extra);
  header->file_bytes = bytes.size();
  const auto opened = open_resealed(bytes, *header);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ((*opened)->sections.back().type, "unknown");
  bytes[extra.offset] = std::byte{8};
  const auto damaged = open_resealed(bytes, *header);
  ASSERT_FALSE(damaged);
  EXPECT_NE(damaged.error().message.find("unknown type 77"), std::string::npos) << damaged.error().message;
}

// A section table whose checksum is right and whose numbers are not.
TEST_F(WriterTest, CraftedSectionTablesAreBadData) {
  const Bytes bytes = read(write_tiny("a.llcp"));
  const auto header = decode_header(bytes, bytes.size());
  ASSERT_TRUE(header);
  const auto refused = [&](const std::function<void(PlanHeader&)>& change) {
    PlanHeader h = *header;
    change(h);
    const auto opened = open_resealed(bytes, h);
    return !opened && opened.error().code == Code::kBadData;
  };
  const uint64_t huge = ~uint64_t{0};
  for (size_t i = 0; i < header->sections.size(); ++i) {
    EXPECT_TRUE(refused([&](PlanHeader& h) { h.sections[i].offset = huge; })) << i;
    EXPECT_TRUE(refused([&](PlanHeader& h) { h.sections[i].offset = huge - 63; })) << i;
    EXPECT_TRUE(refused([&](PlanHeader& h) { h.sections[i].bytes = huge; })) << i;
    EXPECT_TRUE(refused([&](PlanHeader& h) { h.sections[i].bytes = 0; })) << i;
    EXPECT_TRUE(refused([&](PlanHeader& h) { h.sections[i].bytes += 64; })) << i;
    EXPECT_TRUE(refused([&](PlanHeader& h) { h.sections[i].alignment = 0; })) << i;
    EXPECT_TRUE(refused([&](PlanHeader& h) { h.sections[i].alignment = 96; })) << i;
    EXPECT_TRUE(refused([&](PlanHeader& h) { h.sections.erase(h.sections.begin() + static_cast<long>(i)); })) << i;
    EXPECT_TRUE(refused([&](PlanHeader& h) { h.sections[i].type = 1 + (h.sections[i].type + 1) % 6; })) << i;
  }
  EXPECT_TRUE(refused([](PlanHeader& h) { h.sections.clear(); }));
  EXPECT_TRUE(refused([](PlanHeader& h) { h.file_bytes = 0; }));
}

TEST_F(WriterTest, OtherFilesAreNamed) {
  const auto message = [&](std::string_view text) {
    const auto opened = open(std::as_bytes(std::span(text)));
    EXPECT_FALSE(opened);
    EXPECT_EQ(opened.error().code, Code::kBadData);
    return opened.error().message;
  };
  EXPECT_NE(message("").find("not a plan"), std::string::npos);
  EXPECT_NE(message("GGUF....").find("a GGUF file"), std::string::npos);
  EXPECT_NE(message("\x89LLCP\n\x1a\n").find("text mode"), std::string::npos);
  EXPECT_EQ(open_plan(path("absent.llcp")).error().code, Code::kNoInput);
  EXPECT_EQ(open_plan(folder_.string()).error().code, Code::kNoInput);
}

TEST_F(WriterTest, RefusesWhatAReaderWouldRefuse) {
  crafted::TinyPlan tiny = crafted::tiny_plan();
  tiny.draft.plan.programs[0].launches.pop_back();
  const Status s = write_plan(tiny.draft, path("a.llcp"));
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, Code::kInternal);
  EXPECT_FALSE(fs::exists(path("a.llcp")));
  EXPECT_TRUE(fs::is_empty(folder_));
}

// Killed at any moment, a writer leaves the old plan or the new one.
TEST_F(WriterTest, KilledWriterLeavesAWholePlan) {
  const std::string plan = write_tiny("a.llcp");
  for (int round = 0; round < 100; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      while (true) {
        crafted::TinyPlan tiny = crafted::tiny_plan();
        if (!write_plan(tiny.draft, plan)) _exit(1);
      }
    }
    usleep(static_cast<useconds_t>(200 + 137 * round));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed";
    const auto opened = open_plan(plan, {.verify_weights = true});
    ASSERT_TRUE(opened) << opened.error().message;
  }
  // What the last kill left behind is swept by the next write.
  write_tiny("a.llcp");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

}  // namespace
}  // namespace ll
