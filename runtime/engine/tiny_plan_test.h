// A plan small enough to write by hand, for tests of the engine and of the C ABI that must not need the compiler: one
// layer of attention over random weights, in f32.
//
//   tokens -> embed -> linear -> rope_kv_write -> attention -> linear_add -> gather_rows -> linear -> logits
#pragma once

#include <flatbuffers/flatbuffers.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/kv_layout.h"
#include "runtime/base/atomic_file.h"
#include "runtime/plan/checksum.h"
#include "runtime/plan/container.h"
#include "runtime/plan/plan.h"
#include "runtime/sampling/philox.h"
#include "schemas/plan_generated.h"

namespace ll::tiny {

inline constexpr int64_t kVocab = 40, kWidth = 32, kHeads = 2, kKvHeads = 1, kHeadDim = 16;
inline constexpr uint32_t kContext = 80, kPagesPerSequence = 3, kPages = 7, kMaxBatch = 3;
struct Bucket {
  uint32_t tokens, sequences, rows;
};
inline constexpr Bucket kBuckets[] = {{1, 1, 1}, {4, 3, 2}, {16, 3, 4}};

struct Options {
  bool reference_kernels = false;
  bool nan_weights = false;
  std::string tokenizer{};      // section bytes
  std::string chat_template{};  // source
  std::vector<int32_t> eos_tokens = {2};
};

class Writer {
 public:
  explicit Writer(const Options& options) : options_(options) {}

  void write(const std::string& path) {
    const auto add = [&](const char* name, std::vector<int64_t> dims, double scale) {
      int64_t count = 1;
      for (const int64_t d : dims) count *= d;
      std::vector<float> values(static_cast<size_t>(count));
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>((uniform(tensors_.size(), i) * 2 - 1) * scale);
      }
      return tensor(name, std::move(dims), values);
    };
    const double scale = 1.7 / std::sqrt(static_cast<double>(kWidth));
    const int64_t qkv_width = (kHeads + 2 * kKvHeads) * kHeadDim;
    embed_ = add("embed", {kVocab, kWidth}, 1);
    qkv_ = add("qkv", {qkv_width, kWidth}, 2 * scale);
    out_ = add("out", {kWidth, kWidth}, scale);
    head_ = add("head", {kVocab, kWidth}, options_.nan_weights ? std::numeric_limits<double>::quiet_NaN() : scale);
    std::vector<float> inv_freq(kHeadDim / 2);
    for (size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] = std::pow(0.1F, static_cast<float>(i) / 2);
    inv_freq_ = tensor("inv_freq", {kHeadDim / 2}, inv_freq);
    finish(path);
  }

 private:
  template <class T>
  using Vec = std::vector<flatbuffers::Offset<T>>;
  struct Extent {
    int64_t value;
    Symbol symbol = Symbol::kNone;
  };

  flatbuffers::Offset<fb::Type> type(const std::vector<Extent>& dims, DType dtype = DType::kF32) {
    std::vector<fb::Dim> out;
    for (const Extent& d : dims) out.emplace_back(d.value, static_cast<uint8_t>(d.symbol));
    return fb::CreateType(fb_, static_cast<uint8_t>(dtype), 0, fb_.CreateVectorOfStructs(out));
  }

  uint32_t tensor(const char* name, std::vector<int64_t> dims, const std::vector<float>& values) {
    weights_.resize((weights_.size() + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment);
    const uint64_t offset = weights_.size();
    const auto bytes = std::as_bytes(std::span(values));
    weights_.insert(weights_.end(), bytes.begin(), bytes.end());
    std::vector<Extent> extents;
    for (const int64_t d : dims) extents.push_back({d});
    tensor_dims_.push_back(extents);
    tensors_.push_back(fb::CreateTensor(fb_, fb_.CreateString(name), type(extents), offset, bytes.size(), -1));
    return static_cast<uint32_t>(tensors_.size() - 1);
  }

  using Operand = flatbuffers::Offset<fb::Operand>;
  Operand weight(uint32_t index) {
    return fb::CreateOperand(fb_, fb::Space::weight, index, 0, 0, type(tensor_dims_[index]));
  }
  Operand constant(uint32_t index) {
    return fb::CreateOperand(fb_, fb::Space::constant, index, 0, 0, type(tensor_dims_[index]));
  }
  Operand input(std::string_view name, const Bucket& b) {
    uint32_t index = 0;
    while (step_inputs()[index].name != name) ++index;
    const Symbol symbol = step_inputs()[index].symbol;
    std::vector<Extent> dims = {{symbol == Symbol::kT   ? b.tokens
                                 : symbol == Symbol::kS ? b.sequences
                                                        : b.rows,
                                 symbol}};
    if (step_inputs()[index].rank == 2) dims.push_back({kPagesPerSequence});
    return fb::CreateOperand(fb_, fb::Space::input, index, 0, 0, type(dims, DType::kI32));
  }
  Operand kv() { return fb::CreateOperand(fb_, fb::Space::kv, 0, 0, 0, kv_type()); }
  flatbuffers::Offset<fb::Type> kv_type() { return type({{kPages}, {2 * kKvHeads}, {kKvPageSize}, {kHeadDim}}); }
  // An activation [rows, width] at a place of its own.
  struct Value {
    uint64_t offset;
    Extent rows;
    int64_t width;
  };
  Value value(Extent rows, int64_t width) {
    const Value v = {arena_, rows, width};
    arena_ += (static_cast<uint64_t>(rows.value * width) * sizeof(float) + 63) / 64 * 64;
    return v;
  }
  Operand use(const Value& v) {
    return fb::CreateOperand(fb_, fb::Space::arena, 0, v.offset, 0, type({v.rows, {v.width}}));
  }

  using Attrs = Vec<fb::Attr>;
  flatbuffers::Offset<fb::Attr> attr(const char* key, int64_t v) {
    return fb::CreateAttr(fb_, fb_.CreateString(key), v, 0, 0, 0);
  }
  flatbuffers::Offset<fb::Attr> attr(const char* key, double v) {
    return fb::CreateAttr(fb_, fb_.CreateString(key), 0, v, 0, 1);
  }
  flatbuffers::Offset<fb::Attr> attr(const char* key, const char* v) {
    return fb::CreateAttr(fb_, fb_.CreateString(key), 0, 0, fb_.CreateString(v), 2);
  }
  void launch(Vec<fb::Launch>& launches, const char* kernel, const std::vector<Operand>& in,
              const std::vector<Operand>& out, const Attrs& attrs = {}) {
    launches.push_back(fb::CreateLaunch(fb_, fb_.CreateString(kernel), fb_.CreateString(kernel), fb_.CreateVector(in),
                                        fb_.CreateVector(out), fb_.CreateVector(attrs)));
  }

  flatbuffers::Offset<fb::Program> program(const Bucket& b) {
    arena_ = 0;
    const Extent t = {b.tokens, Symbol::kT}, r = {b.rows, Symbol::kR};
    const Value x = value(t, kWidth), qkv = value(t, (kHeads + 2 * kKvHeads) * kHeadDim),
                q = value(t, kHeads * kHeadDim), a = value(t, kHeads * kHeadDim), y = value(t, kWidth),
                g = value(r, kWidth);
    const Attrs heads = {attr("heads", kHeads), attr("kv_heads", kKvHeads), attr("head_dim", kHeadDim)};
    Attrs rope = heads, attention = heads;
    rope.push_back(attr("style", "half"));
    rope.push_back(attr("mscale", 1.0));
    attention.push_back(attr("scale", 0.25));
    attention.push_back(attr("window", int64_t{0}));
    Vec<fb::Launch> l;
    launch(l, "embed", {weight(embed_), input("tokens", b)}, {use(x)});
    launch(l, "linear", {use(x), weight(qkv_)}, {use(qkv)});
    launch(l, "rope_kv_write", {kv(), use(qkv), input("positions", b), input("slots", b), constant(inv_freq_)},
           {use(q), kv()}, rope);
    launch(l, "attention", {use(q), kv(), input("positions", b), input("sequences", b), input("block_table", b)},
           {use(a)}, attention);
    launch(l, "linear_add", {use(a), weight(out_), use(x)}, {use(y)});
    launch(l, "gather_rows", {use(y), input("rows", b)}, {use(g)});
    launch(l, "linear", {use(g), weight(head_)},
           {fb::CreateOperand(fb_, fb::Space::output, 0, 0, 0, type({r, {kVocab}}))});
    const auto launches = fb_.CreateVector(l);
    const std::string name = "tokens " + std::to_string(b.tokens);
    return fb::CreateProgram(fb_, fb_.CreateString(name), b.tokens, b.sequences, b.rows, arena_, launches);
  }

  void finish(const std::string& path) {
    Vec<fb::Program> programs;
    for (const Bucket& b : kBuckets) programs.push_back(program(b));
    const auto model = fb::CreateModelInfo(fb_, fb_.CreateString("tiny"), fb_.CreateString("by hand"), kVocab, kContext,
                                           1, fb_.CreateVector(options_.eos_tokens), true);
    const uint64_t kv_bytes = kPages * 2 * kKvHeads * kKvPageSize * kHeadDim * sizeof(float);
    const Vec<fb::KvCache> caches = {fb::CreateKvCache(fb_, kv_type(), 0, kv_bytes)};
    const auto fb_caches = fb_.CreateVector(caches);
    const auto fb_tensors = fb_.CreateVector(tensors_);
    const auto fb_programs = fb_.CreateVector(programs);
    fb_.Finish(fb::CreatePlan(fb_, fb_.CreateString("a test"), model, fb_.CreateString("cpu"),
                              options_.reference_kernels, kMaxBatch, kPages, kKvPageSize, kPagesPerSequence, kv_bytes,
                              fb_caches, fb_tensors, 0, fb_programs),
               fb::PlanIdentifier());
    const auto metadata = std::as_bytes(std::span(fb_.GetBufferPointer(), fb_.GetSize()));
    const Hash128 weight_hash = hash128(weights_);
    std::vector<std::byte> hashes(16);
    std::memcpy(hashes.data(), &weight_hash.low, 8);
    std::memcpy(hashes.data() + 8, &weight_hash.high, 8);
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file) << file.error().message;
    const std::vector<std::byte> zeros(kPlanHeaderBytes);
    ASSERT_TRUE(file->write(zeros));
    PlanHeader header;
    const auto section = [&](SectionType kind, std::span<const std::byte> bytes, const Hash128& hash) {
      const SectionRule& rule = *find_section_rule(static_cast<uint32_t>(kind));
      ASSERT_TRUE(file->pad_to(rule.alignment));
      header.sections.push_back(
          {static_cast<uint32_t>(kind), static_cast<uint32_t>(rule.alignment), file->size(), bytes.size(), hash});
      ASSERT_TRUE(file->write(bytes));
    };
    section(SectionType::kMetadata, metadata, hash128(metadata));
    if (!options_.tokenizer.empty()) {
      const auto bytes = std::as_bytes(std::span(options_.tokenizer));
      section(SectionType::kTokenizer, bytes, hash128(bytes));
    }
    if (!options_.chat_template.empty()) {
      const auto bytes = std::as_bytes(std::span(options_.chat_template));
      section(SectionType::kTemplate, bytes, hash128(bytes));
    }
    section(SectionType::kWeights, weights_, hash128(hashes));
    section(SectionType::kWeightHashes, hashes, hash128(hashes));
    ASSERT_TRUE(file->pad_to(64));
    ASSERT_EQ(file->size(), footer_offset(header.sections));
    header.file_bytes = file->size() + kPlanFooterBytes;
    const auto start = encode_header(header);
    ASSERT_TRUE(file->write(encode_footer(start)));
    ASSERT_TRUE(file->write_at(0, start));
    ASSERT_TRUE(file->commit());
  }

  Options options_;
  flatbuffers::FlatBufferBuilder fb_;
  Vec<fb::Tensor> tensors_;
  std::vector<std::vector<Extent>> tensor_dims_;
  std::vector<std::byte> weights_;
  uint64_t arena_ = 0;
  uint32_t embed_ = 0, qkv_ = 0, out_ = 0, head_ = 0, inv_freq_ = 0;
};

// Writes such a plan into the test's temporary folder and returns its path.
inline std::string write_plan(const char* name, const Options& options = {}) {
  const std::string path = testing::TempDir() + "/" + name + "_" + std::to_string(getpid()) + ".llcp";
  Writer(options).write(path);
  return path;
}

}  // namespace ll::tiny
