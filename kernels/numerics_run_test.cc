#include "kernels/numerics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "kernels/cuda/attention_work.h"
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
      const int64_t plane = r / kKvPageSize, kv_heads = type.dim(1).value / 2;
      const KvPart part = plane / kv_heads % 2 == 0 ? KvPart::kKeys : KvPart::kValues;
      kv_load(type.dtype, dense.data() + plane * kKvPageSize * bytes, part, r % kKvPageSize, size, out);
    } else if (is_q8a(type.dtype)) {
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
        std::copy_n(tensor.bytes.data() + r * dense_, dense_, data_ + r * distance_);
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
      std::copy_n(data_ + r * distance_, dense_, dense.data() + r * dense_);
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

}  // namespace

Spec::Spec(const Case& c) : attrs(c.attrs) {
  for (const Tensor& t : c.in) in.push_back(t.type);
  for (const Tensor& t : c.out) out.push_back(t.type);
}

int shared_input(const Case& c, size_t output) { return output < c.shares.size() ? c.shares[output] : -1; }

Outputs run(const Kernel& kernel, Isa isa, const Case& c, int threads, bool deterministic, bool slabs) {
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
        {scratches[static_cast<size_t>(thread)].view().data, scratch_bytes},
        deterministic,
        slabs});
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

std::vector<std::byte> attention_work_of(const Case& c, uint32_t blocks) {
  const auto indices = [&](size_t i) {
    std::vector<int32_t> all(c.in[i].bytes.size() / 4);
    std::memcpy(all.data(), c.in[i].bytes.data(), c.in[i].bytes.size());
    return all;
  };
  const Attrs attrs(c.attrs);
  std::vector<cuda::AttentionItem> items;
  cuda::attention_work(
      {static_cast<int>(blocks), static_cast<int>(attrs.i64("heads")), static_cast<int>(attrs.i64("kv_heads"))},
      indices(2), indices(3), items);
  const auto bytes = std::as_bytes(std::span(items));
  return {bytes.begin(), bytes.end()};
}

void expect_near(const Case& c, const std::vector<std::vector<double>>& tolerance, const Outputs& got,
                 const Outputs& want) {
  for (size_t o = 0; o < want.size(); ++o) {
    if (o >= tolerance.size() || tolerance[o].empty()) {
      EXPECT_TRUE(got[o] == want[o]) << "output " << o << " differs from the reference, expected the same bits";
      continue;
    }
    const std::vector<float> g = read(c.out[o].type, got[o]), w = read(c.out[o].type, want[o]);
    ASSERT_EQ(tolerance[o].size(), g.size()) << "tolerances of output " << o;
    for (size_t i = 0; i < g.size(); ++i) {
      if (g[i] == w[i] || (std::isnan(g[i]) && std::isnan(w[i]))) continue;  // infinities too
      const double error = std::fabs(static_cast<double>(g[i]) - w[i]);
      ASSERT_TRUE(error <= tolerance[o][i]) << "output " << o << " element " << i << " is " << g[i] << ", expected "
                                            << w[i] << " within " << tolerance[o][i];
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

}  // namespace ll::numerics
