// Mistral 7B and its relatives: Llama with a sliding window. Their GGUF files say they are llama's.
#include "compiler/frontend/arch/dense_decoder.h"

namespace ll {

constinit const Family kMistral = {
    .name = "mistral",
    .gguf_name = "",
    .hf_model_type = "mistral",
    .hf_architecture = "MistralForCausalLM",
    .gguf_rope_style = RopeSpec::Style::kInterleaved,
    .tensors = dense_decoder_tensors,
    .qkv_bias = Bias::kNone,
    .output_bias = Bias::kNone,
    .mlp_bias = Bias::kNone,
    .hf_kv_heads = 8,
    .hf_sliding_window = 4096,
    .hf_windows_by_layer = false,
    .build = build_dense_decoder,
};

}  // namespace ll
