// Llama 1 to 3.3 and their many relatives: biases, tied output, explicit head_dim and rope scaling are all optional.
#include "compiler/frontend/arch/dense_decoder.h"

namespace ll {

constinit const Family kLlama = {
    .name = "llama",
    .gguf_name = "llama",
    .hf_model_type = "llama",
    .hf_architecture = "LlamaForCausalLM",
    .gguf_rope_style = RopeSpec::Style::kInterleaved,  // its converter permutes q and k
    .tensors = dense_decoder_tensors,
    .qkv_bias = Bias::kFlag,
    .output_bias = Bias::kFlag,
    .mlp_bias = Bias::kFlag,
    .hf_kv_heads = 0,
    .hf_sliding_window = 0,
    .hf_windows_by_layer = false,
    .build = build_dense_decoder,
};

}  // namespace ll
