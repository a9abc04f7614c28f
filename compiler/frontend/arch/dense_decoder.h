// The decoder that Llama, Mistral and Qwen2 share: pre-norm blocks of attention with rope and a gated feed-forward.
#pragma once

#include "compiler/frontend/arch/arch.h"

namespace ll {

std::span<const TensorRow> dense_decoder_tensors();

// Every variation is in the spec: biases and the output matrix are used when the tensors are there, windows are per
// layer.
Result<ir::Graph> build_dense_decoder(const ModelSpec& spec, DType kv);

}  // namespace ll
