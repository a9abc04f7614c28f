// Qwen2 and Qwen2.5: biases on q, k and v; a sliding window in the upper layers, where it is switched on.
#include "compiler/frontend/arch/dense_decoder.h"

namespace ll {

constinit const Family kQwen2 = {
    .name = "qwen2",
    .gguf_name = "qwen2",
    .hf_model_type = "qwen2",
    .hf_architecture = "Qwen2ForCausalLM",
    .gguf_rope_style = RopeSpec::Style::kHalf,
    .tensors = dense_decoder_tensors,
    .qkv_bias = Bias::kAlways,
    .output_bias = Bias::kNone,
    .mlp_bias = Bias::kNone,
    .hf_kv_heads = 32,
    .hf_sliding_window = 4096,
    .hf_windows_by_layer = true,
    .build = build_dense_decoder,
};

}  // namespace ll
