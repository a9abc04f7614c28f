// What Kernel::check must refuse, and that what it accepts is safe to run, for every kernel of the catalog.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "kernels/check.h"
#include "kernels/kv_layout.h"
#include "kernels/numerics.h"
#include "kernels/quant/layouts.h"

namespace ll::numerics {
namespace {

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

// Contents for a launch that check accepted: anything in the data, indices as the engine would give them; nothing when
// there are none to give.
std::optional<Case> fill(const Kernel& kernel, const Spec& spec, const std::vector<int>& shares, Random& random) {
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
      if (limit < 1 && !t.bytes.empty()) return std::nullopt;
      for (size_t at = 0; at < t.bytes.size(); at += 4) {
        const auto value = static_cast<int32_t>(random() % static_cast<uint64_t>(limit));
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
  const DType dtypes[] = {DType::kF32, DType::kF16, DType::kBF16,   DType::kI32,
                          DType::kI8,  DType::kQ8A, DType::kQ8A256, DType::kQ8_0};
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
    const std::optional<Case> filled = fill(kernel, spec, base.shares, random);
    if (!filled) continue;
    const Case& c = *filled;
    ++accepted;
    for (int isa = 0; isa < kIsaCount; ++isa) {
      if (has_isa(static_cast<Isa>(isa))) run(kernel, static_cast<Isa>(isa), c, 1 + round % 3);
    }
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
