// The numerics suite: walks the catalog. Each kernel runs every case of its generator (kernels/numerics.h) at each
// level that the machine has, inside poisoned, guarded memory, with 1, 2, 3 and 7 threads, and is compared with its
// scalar level.
#include "kernels/numerics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <thread>

#include "kernels/check.h"
#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"
#include "kernels/quant/q8a.h"

namespace ll::numerics {

TensorType type(DType dtype, std::initializer_list<Dim> dims, Layout layout) {
  TensorType t{.dtype = dtype, .layout = layout, .rank = static_cast<int>(dims.size()), .dims = {}};
  std::copy(dims.begin(), dims.end(), t.dims.begin());
  return t;
}

int64_t rows_of(const TensorType& type) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < type.rank; ++i) rows *= type.dim(i).value;
  return rows;
}

int64_t dense_row_bytes(const TensorType& type) {
  return type.rank == 4 ? kv_row_bytes(type.dtype, type.last().value) : row_bytes(type.dtype, type.last().value);
}

Tensor floats(Random& random, std::initializer_list<Dim> dims, float scale) {
  Tensor t{type(DType::kF32, dims), 0, {}};
  t.bytes.resize(static_cast<size_t>(rows_of(t.type) * dense_row_bytes(t.type)));
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < t.bytes.size(); i += 4) {
    const float v = normal(random) * scale;
    std::memcpy(t.bytes.data() + i, &v, 4);
  }
  return t;
}

Tensor ints(std::initializer_list<Dim> dims, std::span<const int32_t> values) {
  Tensor t{type(DType::kI32, dims), 0, {}};
  t.bytes.assign(std::as_bytes(values).begin(), std::as_bytes(values).end());
  return t;
}

Tensor output(const TensorType& type) { return {type, 0, {}}; }

std::vector<float> read(const TensorType& type, std::span<const std::byte> dense) {
  const int64_t rows = rows_of(type), size = type.last().value, bytes = dense_row_bytes(type);
  std::vector<float> values(static_cast<size_t>(rows * size));
  for (int64_t r = 0; r < rows; ++r) {
    const std::byte* row = dense.data() + r * bytes;
    float* out = values.data() + r * size;
    if (type.rank == 4) {
      kv_load_row(type.dtype, row, size, out);
    } else if (type.dtype == DType::kQ8A) {
      q8a_dequantize_row(row, size, out);
    } else {
      find_format(type.dtype)->dequantize(row, size, out);
    }
  }
  return values;
}

namespace {

constexpr std::byte kPoison{0xff};  // NaN as f32, f16 and scale
constexpr std::byte kGuard{0xa5};
constexpr int64_t kGuardBytes = 64;

// One operand in memory: its rows at their distance, guards around and between them. Inputs end where their last row
// ends, so that an address sanitizer sees reads behind it.
class Placed {
 public:
  Placed(const Tensor& tensor, bool is_output) : dense_(dense_row_bytes(tensor.type)), rows_(rows_of(tensor.type)) {
    if (tensor.type.layout != Layout::kRows) {
      dense_ = *tensor_bytes(tensor.type.dtype, tensor.type.layout, rows_, tensor.type.last().value);
      rows_ = 1;
    }
    const bool slice = tensor.row_bytes > dense_;
    distance_ = slice ? tensor.row_bytes : dense_;
    // A slice starts at a multiple of 4, nothing more.
    const int64_t start = slice ? kGuardBytes + 4 : kGuardBytes;
    const int64_t used = rows_ > 0 ? (rows_ - 1) * distance_ + dense_ : 0;
    const int64_t size = start + used + (is_output ? kGuardBytes : 0);
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, static_cast<size_t>(size)) != 0) std::abort();
    memory_.reset(static_cast<std::byte*>(memory));
    size_ = size;
    std::fill_n(memory_.get(), size, kGuard);
    data_ = memory_.get() + start;
    for (int64_t r = 0; r < rows_; ++r) {
      if (tensor.bytes.empty()) {
        std::fill_n(data_ + r * distance_, dense_, kPoison);
      } else {
        std::memcpy(data_ + r * distance_, tensor.bytes.data() + r * dense_, static_cast<size_t>(dense_));
      }
    }
    // The distance of a vector's elements is the size of one; of all else, that of rows.
    const int64_t row = tensor.type.rank == 1 ? row_bytes(tensor.type.dtype, 1) : distance_;
    view_ = {data_, row, tensor.type.dtype, tensor.type.layout, tensor.type.rank, {}};
    for (int i = 0; i < tensor.type.rank; ++i) view_.dims[static_cast<size_t>(i)] = tensor.type.dim(i).value;
  }

  const TensorView& view() const { return view_; }

  std::vector<std::byte> contents() const {
    std::vector<std::byte> dense(static_cast<size_t>(rows_ * dense_));
    for (int64_t r = 0; r < rows_; ++r) {
      std::memcpy(dense.data() + r * dense_, data_ + r * distance_, static_cast<size_t>(dense_));
    }
    return dense;
  }

  bool guards_hold() const {
    for (const std::byte* p = memory_.get(); p < memory_.get() + size_; ++p) {
      const int64_t at = p - data_;
      const bool inside = at >= 0 && distance_ > 0 && at / distance_ < rows_ && at % distance_ < dense_;
      if (!inside && *p != kGuard) return false;
    }
    return true;
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  int64_t dense_, rows_, distance_ = 0, size_ = 0;
  std::unique_ptr<std::byte, Free> memory_;
  std::byte* data_ = nullptr;
  TensorView view_;
};

struct Spec {
  explicit Spec(const Case& c) {
    for (const Tensor& t : c.in) in.push_back(t.type);
    for (const Tensor& t : c.out) out.push_back(t.type);
    attrs = c.attrs;
  }
  LaunchSpec view() const { return {in, out, Attrs(attrs)}; }
  std::vector<TensorType> in, out;
  std::vector<Attr> attrs;
};

using Outputs = std::vector<std::vector<std::byte>>;

int shared_input(const Case& c, size_t output) { return output < c.shares.size() ? c.shares[output] : -1; }

// Runs one launch on real threads and returns the dense outputs. Reports broken guards and changed inputs.
Outputs run(const Kernel& kernel, Isa isa, const Case& c, int threads) {
  std::vector<Placed> in, out;
  in.reserve(c.in.size());
  for (size_t i = 0; i < c.in.size(); ++i) in.emplace_back(c.in[i], false);
  for (size_t i = 0; i < c.out.size(); ++i) {
    const int shared = shared_input(c, i);
    out.emplace_back(shared < 0 ? c.out[i] : c.in[static_cast<size_t>(shared)], true);
  }
  std::vector<TensorView> in_views, out_views;
  for (const Placed& p : in) in_views.push_back(p.view());
  for (const Placed& p : out) out_views.push_back(p.view());
  for (size_t i = 0; i < out.size(); ++i) {
    const int shared = shared_input(c, i);
    if (shared >= 0) in_views[static_cast<size_t>(shared)] = out[i].view();
  }
  const Spec spec(c);
  const uint64_t scratch_bytes = kernel.scratch != nullptr ? kernel.scratch(spec.view()) : 0;
  const Tensor scratch{type(DType::kI8, {static_cast<int64_t>(scratch_bytes)}), 0, {}};
  std::vector<Placed> scratches;
  for (int i = 0; i < threads; ++i) scratches.emplace_back(scratch, true);

  const KernelFn fn = kernel_fn(kernel, isa);
  const auto work = [&](int thread) {
    fn({in_views,
        out_views,
        Attrs(c.attrs),
        thread,
        threads,
        {scratches[static_cast<size_t>(thread)].view().data, scratch_bytes}});
  };
  std::vector<std::thread> team;
  for (int i = 1; i < threads; ++i) team.emplace_back(work, i);
  work(0);
  for (std::thread& t : team) t.join();

  Outputs outputs;
  for (const Placed& p : out) {
    EXPECT_TRUE(p.guards_hold()) << "wrote outside output " << outputs.size();
    outputs.push_back(p.contents());
  }
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_TRUE(in[i].guards_hold() && in[i].contents() == c.in[i].bytes) << "changed input " << i;
  }
  for (const Placed& p : scratches)
    EXPECT_TRUE(p.guards_hold()) << "wrote outside its " << scratch_bytes << " scratch bytes";
  return outputs;
}

// Compares element by element; a place that is NaN in the reference must be NaN.
void expect_near(const Case& c, const Outputs& got, const Outputs& want) {
  for (size_t o = 0; o < want.size(); ++o) {
    if (o >= c.tolerance.size() || c.tolerance[o].empty()) {
      EXPECT_TRUE(got[o] == want[o]) << "output " << o << " differs from the reference, expected the same bits";
      continue;
    }
    const std::vector<float> g = read(c.out[o].type, got[o]), w = read(c.out[o].type, want[o]);
    ASSERT_EQ(c.tolerance[o].size(), g.size()) << "tolerances of output " << o;
    for (size_t i = 0; i < g.size(); ++i) {
      if (std::isnan(g[i]) && std::isnan(w[i])) continue;
      const double error = std::fabs(static_cast<double>(g[i]) - w[i]);
      ASSERT_TRUE(error <= c.tolerance[o][i]) << "output " << o << " element " << i << " is " << g[i] << ", expected "
                                              << w[i] << " within " << c.tolerance[o][i];
    }
  }
}

const std::vector<CaseList>& all_cases() {
  static const std::vector<CaseList> lists = [] {
    std::vector<CaseList> all = ref_cases();
    for (CaseList& list : linear_cases()) all.push_back(std::move(list));
    return all;
  }();
  return lists;
}

const CaseList* cases_of(const Kernel& kernel) {
  for (const CaseList& list : all_cases()) {
    if (list.kernel == kernel.name) return &list;
  }
  return nullptr;
}

std::vector<Case> make_cases(const Kernel& kernel) {
  const CaseList* list = cases_of(kernel);
  if (list == nullptr) return {};
  Random random(20240601);
  return list->make(random);
}

TEST(Catalog, RowsAreComplete) {
  std::set<std::string_view> names;
  for (const Kernel& kernel : catalog()) {
    SCOPED_TRACE(kernel.name);
    EXPECT_TRUE(names.insert(kernel.name).second) << "listed twice";
    EXPECT_EQ(find_kernel(kernel.name), &kernel);
    EXPECT_NE(kernel.fn[0], nullptr);
    ASSERT_NE(kernel.check, nullptr);
    ASSERT_NE(kernel.cost, nullptr);
    const std::vector<Case> cases = make_cases(kernel);
    ASSERT_FALSE(cases.empty()) << "no case generator: add one to the lists that kernels/numerics.h names";
    // Indices are what check cannot prove, so each must name the step input it comes from.
    for (size_t i = 0; i < cases[0].in.size(); ++i) {
      const TensorType& t = cases[0].in[i].type;
      if (t.dtype != DType::kI32) continue;
      const auto wired = std::find_if(kernel.indices.begin(), kernel.indices.end(),
                                      [&](const IndexOperand& index) { return index.in == static_cast<int>(i); });
      ASSERT_NE(wired, kernel.indices.end()) << "input " << i << " is i32 and names no step input";
      const auto inputs = step_inputs();
      const auto input =
          std::find_if(inputs.begin(), inputs.end(), [&](const StepInput& s) { return s.name == wired->step_input; });
      ASSERT_NE(input, inputs.end()) << wired->step_input;
      EXPECT_EQ(input->rank, t.rank);
      EXPECT_EQ(input->symbol, t.dim(0).symbol);
    }
  }
  EXPECT_EQ(find_kernel("no such kernel"), nullptr);
  for (const CaseList& list : all_cases()) EXPECT_NE(find_kernel(list.kernel), nullptr) << list.kernel;
}

TEST(Catalog, ChecksNameTypesAsTheFormatTableDoes) {
  for (const Format& format : formats()) {
    EXPECT_EQ(check::describe(type(format.dtype, {256})), std::string(format.name) + "[256]");
  }
}

TEST(Catalog, CostsCountEveryOutputByte) {
  for (const Kernel& kernel : catalog()) {
    for (const Case& c : make_cases(kernel)) {
      SCOPED_TRACE(std::string(kernel.name) + " " + c.name);
      int64_t written = 0;
      for (size_t o = 0; o < c.out.size(); ++o) {
        if (shared_input(c, o) < 0) written += rows_of(c.out[o].type) * dense_row_bytes(c.out[o].type);
      }
      EXPECT_GE(kernel.cost(Spec(c).view()).bytes, static_cast<uint64_t>(written));
    }
  }
}

struct Level {
  size_t kernel;
  Isa isa;
};

std::vector<Level> levels() {
  std::vector<Level> all;
  for (size_t k = 0; k < catalog().size(); ++k) {
    for (int isa = 0; isa < kIsaCount; ++isa) {
      if (catalog()[k].fn[static_cast<size_t>(isa)] != nullptr) all.push_back({k, static_cast<Isa>(isa)});
    }
  }
  return all;
}

class Numerics : public testing::TestWithParam<Level> {};

TEST_P(Numerics, MatchesReferenceWithAnyThreads) {
  const Kernel& kernel = catalog()[GetParam().kernel];
  const Isa isa = GetParam().isa;
  if (isa > best_isa()) GTEST_SKIP() << "this machine lacks " << isa_name(isa);
  const std::vector<Case> cases = make_cases(kernel);
  ASSERT_FALSE(cases.empty()) << "no case generator";
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const Status checked = kernel.check(Spec(c).view());
    ASSERT_TRUE(checked) << checked.error().message;
    const Outputs want = run(kernel, Isa::kScalar, c, 1), got = run(kernel, isa, c, 1);
    expect_near(c, got, want);
    for (const int threads : {2, 3, 7}) {
      EXPECT_TRUE(run(kernel, isa, c, threads) == got) << "differs with " << threads << " threads";
    }
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Catalog, Numerics, testing::ValuesIn(levels()), [](const auto& p) {
  return std::string(catalog()[p.param.kernel].name) + "_" + isa_name(p.param.isa);
});

// Refusals: one fact of a good launch is made wrong at a time.
class Refusals : public testing::TestWithParam<size_t> {
 protected:
  void expect_refused(const Spec& spec, const std::string& what) {
    const Status status = kernel().check(spec.view());
    ASSERT_FALSE(status) << "accepted " << what;
    EXPECT_EQ(status.error().code, Code::kBadData) << what;
    EXPECT_GE(status.error().message.size(), 20u) << what << ": " << status.error().message;
  }
  const Kernel& kernel() const { return catalog()[GetParam()]; }
};

TEST_P(Refusals, OperandCounts) {
  const Spec good(make_cases(kernel()).at(0));
  Spec bad = good;
  bad.in.pop_back();
  expect_refused(bad, "a missing input");
  bad = good;
  bad.in.clear();
  expect_refused(bad, "no inputs");
  bad = good;
  bad.in.insert(bad.in.end(), 3, type(DType::kF32, {Dim(5)}));
  expect_refused(bad, "three more inputs");
  bad = good;
  bad.out.pop_back();
  expect_refused(bad, "a missing output");
  bad = good;
  bad.out.push_back(bad.out[0]);
  expect_refused(bad, "one more output");
}

TEST_P(Refusals, Types) {
  const Spec good(make_cases(kernel()).at(0));
  const std::vector<FreeDim> free = cases_of(kernel())->free;
  for (size_t i = 0; i < good.in.size() + good.out.size(); ++i) {
    const auto each = [&](const std::string& what, auto change) {
      Spec bad = good;
      TensorType& t = i < good.in.size() ? bad.in[i] : bad.out[i - good.in.size()];
      change(t);
      expect_refused(bad, fmt::format("operand {} with {}: {}", i, what, check::describe(t)));
    };
    each("another dtype", [](TensorType& t) { t.dtype = t.dtype == DType::kI32 ? DType::kF32 : DType::kI32; });
    each("q8a", [](TensorType& t) { t.dtype = t.dtype == DType::kQ8A ? DType::kQ8_0 : DType::kQ8A; });
    each("an unknown dtype", [](TensorType& t) { t.dtype = static_cast<DType>(99); });
    each("an unknown layout", [](TensorType& t) { t.layout = static_cast<Layout>(7); });
    each("rank 0", [](TensorType& t) { t.rank = 0; });
    each("a lower rank", [](TensorType& t) { t.rank -= 1; });
    each("a higher rank", [](TensorType& t) { t.rank = t.rank == kMaxRank ? 1 : t.rank + 1; });
    each("a rank beyond the limit", [](TensorType& t) { t.rank = kMaxRank + 1; });
    each("a negative rank", [](TensorType& t) { t.rank = -1; });
    const TensorType& t = i < good.in.size() ? good.in[i] : good.out[i - good.in.size()];
    for (size_t d = 0; d < static_cast<size_t>(t.rank); ++d) {
      each("a zero dimension", [&](TensorType& b) { b.dims[d] = Dim(0); });
      each("a negative dimension", [&](TensorType& b) { b.dims[d] = Dim(-1); });
      each("a negative symbol", [&](TensorType& b) { b.dims[d] = Dim(Symbol::kT, -4); });
      each("a huge dimension", [&](TensorType& b) { b.dims[d] = Dim(int64_t{1} << 62); });
      each("a huge symbol", [&](TensorType& b) { b.dims[d] = Dim(Symbol::kT, int64_t{1} << 62); });
      each("an unknown symbol", [&](TensorType& b) { b.dims[d] = Dim(static_cast<Symbol>(9), 4); });
      if (std::any_of(free.begin(), free.end(), [&](const FreeDim& f) {
            return f.operand == static_cast<int>(i) && f.dim == static_cast<int>(d);
          })) {
        continue;
      }
      each("a larger dimension", [&](TensorType& b) { b.dims[d].value += 1; });
      each("a smaller dimension", [&](TensorType& b) { b.dims[d].value -= 1; });
    }
  }
}

TEST_P(Refusals, Attributes) {
  const Spec good(make_cases(kernel()).at(0));
  for (size_t i = 0; i < good.attrs.size(); ++i) {
    Spec bad = good;
    bad.attrs.erase(bad.attrs.begin() + static_cast<std::ptrdiff_t>(i));
    const std::string key(good.attrs[i].key);
    expect_refused(bad, "no " + key);
    const auto with = [&](AttrValue value, const std::string& what) {
      Spec wrong = good;
      wrong.attrs[i].value = value;
      expect_refused(wrong, key + " " + what);
    };
    if (std::holds_alternative<std::string_view>(good.attrs[i].value)) {
      with(int64_t{1}, "an integer");
      with(std::string_view("no such word"), "an unknown word");
      with(std::string_view(""), "an empty word");
    } else if (std::holds_alternative<int64_t>(good.attrs[i].value)) {
      with(std::string_view("1"), "text");
      with(1.0, "a float");
      with(int64_t{-1}, "negative");
      with(std::numeric_limits<int64_t>::max(), "the largest integer");
      with(std::numeric_limits<int64_t>::min(), "the smallest integer");
    } else {
      with(std::string_view("1"), "text");
      with(std::nan(""), "NaN");
      with(std::numeric_limits<double>::infinity(), "infinite");
      with(-std::numeric_limits<double>::infinity(), "negative infinite");
    }
  }
}

std::vector<size_t> kernel_indices() {
  std::vector<size_t> all(catalog().size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  return all;
}
INSTANTIATE_TEST_SUITE_P(Catalog, Refusals, testing::ValuesIn(kernel_indices()),
                         [](const auto& p) { return std::string(catalog()[p.param].name); });

// Launches made at random from the good ones: what check accepts must run inside its buffers.
class Hostile : public testing::TestWithParam<size_t> {};

// Contents for a launch that check accepted: anything in the data, indices as the engine would give them.
Case fill(const Kernel& kernel, const Spec& spec, const std::vector<int>& shares, Random& random) {
  Case c{"random", {}, {}, spec.attrs, shares, {}};
  int64_t pages = 2, sequences = 1, page_columns = 2, tokens = 1, vocabulary = 1;
  for (const TensorType& t : spec.in) {
    if (t.rank == 4) pages = t.dim(0).value;
    if (t.dtype == DType::kI32 && t.rank == 2) sequences = t.dim(0).value, page_columns = t.dim(1).value;
    if (t.dim(0).symbol == Symbol::kT) tokens = t.dim(0).value;
  }
  if (spec.in[0].rank == 2) vocabulary = spec.in[0].dim(0).value;
  for (size_t i = 0; i < spec.in.size(); ++i) {
    Tensor t{spec.in[i], 0, {}};
    const TensorType& type = t.type;
    t.bytes.resize(static_cast<size_t>(type.rank == 4
                                           ? rows_of(type) * dense_row_bytes(type)
                                           : *tensor_bytes(type.dtype, type.layout, rows_of(type), type.last().value)));
    for (std::byte& b : t.bytes) b = static_cast<std::byte>(random());
    for (const IndexOperand& index : kernel.indices) {
      if (index.in != static_cast<int>(i)) continue;
      int64_t limit = 1;
      if (index.step_input == "tokens") limit = vocabulary;
      if (index.step_input == "positions") limit = page_columns * kKvPageSize;
      if (index.step_input == "sequences") limit = sequences;
      if (index.step_input == "slots") limit = pages * kKvPageSize;
      if (index.step_input == "block_table") limit = pages;
      if (index.step_input == "rows") limit = tokens;
      for (size_t at = 0; at < t.bytes.size(); at += 4) {
        const auto value = static_cast<int32_t>(random() % static_cast<uint64_t>(std::max<int64_t>(limit, 1)));
        std::memcpy(t.bytes.data() + at, &value, 4);
      }
    }
    c.in.push_back(std::move(t));
  }
  for (const TensorType& t : spec.out) c.out.push_back(output(t));
  return c;
}

TEST_P(Hostile, WhatCheckAcceptsStaysInsideItsBuffers) {
  const Kernel& kernel = catalog()[GetParam()];
  const Case base = make_cases(kernel).at(0);
  Random random(7);
  const auto pick = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  const int64_t sizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64};
  const DType dtypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kI32, DType::kI8, DType::kQ8A, DType::kQ8_0};
  int accepted = 0;
  for (int round = 0; round < 20000 && accepted < 300; ++round) {
    Spec spec(base);
    // One renaming of sizes for all operands keeps some launches consistent; then a few single changes.
    std::vector<std::pair<int64_t, int64_t>> renamed;
    for (int i = 0; i < 2; ++i) {
      const TensorType& t = spec.in[static_cast<size_t>(pick(static_cast<int64_t>(spec.in.size())))];
      const int64_t size = t.dim(static_cast<int>(pick(t.rank))).value;
      if (size != kKvPageSize) renamed.emplace_back(size, sizes[pick(std::ssize(sizes))]);
    }
    const auto rename = [&](int64_t& value) {
      for (const auto& [from, to] : renamed) {
        if (value == from) {
          value = to;
          return;
        }
      }
    };
    for (std::vector<TensorType>* list : {&spec.in, &spec.out}) {
      for (TensorType& t : *list) {
        for (int d = 0; d < t.rank; ++d) rename(t.dims[static_cast<size_t>(d)].value);
      }
    }
    for (Attr& a : spec.attrs) {
      if (auto* i = std::get_if<int64_t>(&a.value)) rename(*i);
    }
    for (int64_t changes = pick(3); changes > 0; --changes) {
      const int64_t n = pick(static_cast<int64_t>(spec.in.size() + spec.out.size()));
      TensorType& t = n < std::ssize(spec.in) ? spec.in[static_cast<size_t>(n)]
                                              : spec.out[static_cast<size_t>(n - std::ssize(spec.in))];
      switch (pick(5)) {
        case 0:
          t.dims[static_cast<size_t>(pick(t.rank))] = Dim(sizes[pick(std::ssize(sizes))]);
          break;
        case 1:
          t.dims[0].symbol = static_cast<Symbol>(pick(4));
          break;
        case 2:
          t.dtype = dtypes[pick(std::ssize(dtypes))];
          break;
        case 3:
          if (!spec.attrs.empty()) {
            Attr& a = spec.attrs[static_cast<size_t>(pick(std::ssize(spec.attrs)))];
            if (auto* i = std::get_if<int64_t>(&a.value)) *i = sizes[pick(std::ssize(sizes))];
            if (auto* f = std::get_if<double>(&a.value)) *f = static_cast<double>(pick(3));
          }
          break;
        default:
          t.rank = 1 + static_cast<int>(pick(kMaxRank));
          break;
      }
    }
    if (!kernel.check(spec.view())) continue;
    ++accepted;
    const Case c = fill(kernel, spec, base.shares, random);
    for (int isa = 0; isa <= static_cast<int>(best_isa()); ++isa) run(kernel, static_cast<Isa>(isa), c, 1 + round % 3);
    if (HasFailure()) {
      std::string text;
      for (const TensorType& t : spec.in) text += check::describe(t) + " ";
      FAIL() << text;
    }
  }
  EXPECT_GT(accepted, 20);
}

INSTANTIATE_TEST_SUITE_P(Catalog, Hostile, testing::ValuesIn(kernel_indices()),
                         [](const auto& p) { return std::string(catalog()[p.param].name); });

}  // namespace
}  // namespace ll::numerics
