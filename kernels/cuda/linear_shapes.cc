#include "kernels/cuda/linear_shapes.h"

#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"

namespace ll::cuda {
namespace {

constexpr DType k4 = DType::kQ4_K, k6 = DType::kQ6_K;

// Rows of q, k and v; of gate and up; of the rest.
constexpr LinearPart k1bQkv4[] = {{k4, 2048}, {k4, 512}, {k4, 512}}, k1bQkv6[] = {{k4, 2048}, {k4, 512}, {k6, 512}};
constexpr LinearPart k1bOut[] = {{k4, 2048}}, k1bGate[] = {{k4, 8192}, {k4, 8192}};
constexpr LinearPart k1bDown4[] = {{k4, 2048}}, k1bDown6[] = {{k6, 2048}};
constexpr LinearPart k3bQkv4[] = {{k4, 3072}, {k4, 1024}, {k4, 1024}}, k3bQkv6[] = {{k4, 3072}, {k4, 1024}, {k6, 1024}};
constexpr LinearPart k3bOut[] = {{k4, 3072}}, k3bGate[] = {{k4, 8192}, {k4, 8192}};
constexpr LinearPart k3bDown4[] = {{k4, 3072}}, k3bDown6[] = {{k6, 3072}};
constexpr LinearPart k8bQkv4[] = {{k4, 4096}, {k4, 1024}, {k4, 1024}}, k8bQkv6[] = {{k4, 4096}, {k4, 1024}, {k6, 1024}};
constexpr LinearPart k8bOut[] = {{k4, 4096}}, k8bGate[] = {{k4, 14336}, {k4, 14336}};
constexpr LinearPart k8bDown4[] = {{k4, 4096}}, k8bDown6[] = {{k6, 4096}};
constexpr LinearPart k7bQkv4[] = {{k4, 3584}, {k4, 512}, {k4, 512}}, k7bQkv6[] = {{k4, 3584}, {k4, 512}, {k6, 512}};
constexpr LinearPart k7bOut[] = {{k4, 3584}}, k7bGate[] = {{k4, 18944}, {k4, 18944}};
constexpr LinearPart k7bDown4[] = {{k4, 3584}}, k7bDown6[] = {{k6, 3584}};
constexpr LinearPart kLlamaHead[] = {{k6, 128256}}, kQwenHead[] = {{k6, 152064}};

constexpr std::string_view kMergedLinear = "merged_linear_q8", kLinearAdd = "linear_add_q8",
                           kGatedLinear = "gated_linear_q8", kLinear = "linear_q8";
constexpr std::string_view k1b = "llama-3.2-1b", k3b = "llama-3.2-3b", k8b = "llama-3.1-8b", k7b = "qwen2.5-7b";

constexpr LinearShape kShapes[] = {
    {k1b, "attn_qkv", kMergedLinear, k1bQkv4, 2048, false, 8},
    {k1b, "attn_qkv q6_K v", kMergedLinear, k1bQkv6, 2048, false, 8},
    {k1b, "attn_output", kLinearAdd, k1bOut, 2048, false, 16},
    {k1b, "ffn_gate_up", kGatedLinear, k1bGate, 2048, false, 16},
    {k1b, "ffn_down", kLinearAdd, k1bDown4, 8192, false, 8},
    {k1b, "ffn_down q6_K", kLinearAdd, k1bDown6, 8192, false, 8},
    {k1b, "output", kLinear, kLlamaHead, 2048},
    {k3b, "attn_qkv", kMergedLinear, k3bQkv4, 3072, false, 14},
    {k3b, "attn_qkv q6_K v", kMergedLinear, k3bQkv6, 3072, false, 14},
    {k3b, "attn_output", kLinearAdd, k3bOut, 3072, false, 28},
    {k3b, "ffn_gate_up", kGatedLinear, k3bGate, 3072, false, 28},
    {k3b, "ffn_down", kLinearAdd, k3bDown4, 8192, false, 14},
    {k3b, "ffn_down q6_K", kLinearAdd, k3bDown6, 8192, false, 14},
    {k3b, "output", kLinear, kLlamaHead, 3072},
    {k8b, "attn_qkv", kMergedLinear, k8bQkv4, 4096, false, 16},
    {k8b, "attn_qkv q6_K v", kMergedLinear, k8bQkv6, 4096, false, 16},
    {k8b, "attn_output", kLinearAdd, k8bOut, 4096, false, 32},
    {k8b, "ffn_gate_up", kGatedLinear, k8bGate, 4096, false, 32},
    {k8b, "ffn_down", kLinearAdd, k8bDown4, 14336, false, 16},
    {k8b, "ffn_down q6_K", kLinearAdd, k8bDown6, 14336, false, 16},
    {k8b, "output", kLinear, kLlamaHead, 4096},
    {k7b, "attn_qkv", kMergedLinear, k7bQkv4, 3584, true, 14},
    {k7b, "attn_qkv q6_K v", kMergedLinear, k7bQkv6, 3584, true, 14},
    {k7b, "attn_output", kLinearAdd, k7bOut, 3584, false, 28},
    {k7b, "ffn_gate_up", kGatedLinear, k7bGate, 3584, false, 28},
    {k7b, "ffn_down", kLinearAdd, k7bDown4, 18944, false, 14},
    {k7b, "ffn_down q6_K", kLinearAdd, k7bDown6, 18944, false, 14},
    {k7b, "output", kLinear, kQwenHead, 3584},
};

}  // namespace

std::span<const LinearShape> linear_shapes() { return kShapes; }

int64_t weight_bytes(const LinearShape& shape) {
  int64_t bytes = 0;
  for (const LinearPart& part : shape.parts) bytes += *tensor_bytes(part.dtype, Layout::kTile8, part.rows, shape.k);
  return bytes;
}

LinearLaunch::LinearLaunch(const LinearShape& shape, int64_t tokens) {
  const Dim t(Symbol::kT, tokens);
  const auto add = [&](DType dtype, Layout layout, int rank, Dim first, int64_t second) {
    in_.push_back({dtype, layout, rank, {first, Dim(second)}});
    distances_.push_back(rank == 1 ? 4 : layout == Layout::kRows ? row_bytes(dtype, second) : 0);
  };
  const bool gated = shape.kernel == kGatedLinear;
  add(DType::kQ8A, Layout::kRows, 2, t, shape.k);
  int64_t rows = 0;
  for (const LinearPart& part : shape.parts) {
    add(part.dtype, Layout::kTile8, 2, Dim(part.rows), shape.k);
    rows = gated ? part.rows : rows + part.rows;
  }
  if (shape.kernel == kLinearAdd) add(DType::kF32, Layout::kRows, 2, t, rows);
  for (const LinearPart& part : shape.parts) {
    if (shape.bias) add(DType::kF32, Layout::kRows, 1, Dim(part.rows), 1);
  }
  out_.push_back({DType::kF32, Layout::kRows, 2, {t, Dim(rows)}});
  if (gated) attrs_.push_back({"act", std::string_view("silu")});
  if (shape.kernel == kMergedLinear) attrs_.push_back({"parts", std::ssize(shape.parts)});
}

}  // namespace ll::cuda
