// How a token is chosen from a row of logits: parameters, what a device needs for one row, what it gives back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/base/result.h"

namespace ll {

struct TokenBias {
  int32_t token = 0;
  float bias = 0;  // added to the logit; -infinity bans the token
};

// Applied in this order, each a no-op at its default unless said otherwise. "Earlier tokens" are prompt and answer.
//   1. logit_bias; tokens that RowSampling bans.
//   2. Penalties over the last penalty_window earlier tokens (include/llrt.h). Repetition: Keskar et al., "CTRL", 2019;
//      presence and frequency: OpenAI's API reference.
//   3. DRY ("Don't Repeat Yourself", p-e-w, oobabooga/text-generation-webui#5677): a token that would continue a
//      repetition of length n >= dry_allowed_length loses dry_multiplier * dry_base ^ (n - dry_allowed_length).
//   4. temperature 0: the largest logit, of equals the lowest id; nothing below applies. Else logits / temperature.
//   5. Mirostat, if 1 or 2, instead of 6 (Basu et al., "Mirostat", ICLR 2021; 2 is its variant without the estimate of
//      Zipf's exponent).
//   6. top_k most likely; typical_p (Meister et al., "Locally Typical Sampling", TACL 2023); the fewest most likely
//      tokens that hold top_p (Holtzman et al., ICLR 2020); at least min_p of the most likely's probability (Nguyen et
//      al., ICLR 2025); XTC ("Exclude Top Choices", p-e-w, oobabooga/text-generation-webui#6335).
//   7. A draw from what is left.
struct SampleParams {
  float temperature = 0;         // 0 .. 100
  int32_t top_k = 40;            // 0: all
  float top_p = 0.95F;           // 0 .. 1, 1: all
  float min_p = 0.05F;           // 0 .. 1, 0: all
  float repetition_penalty = 1;  // 0.01 .. 100
  float presence_penalty = 0;    // -100 .. 100
  float frequency_penalty = 0;   // -100 .. 100
  int32_t penalty_window = 64;   // tokens; -1: all
  uint64_t seed = 0;
  float typical_p = 1;       // 0 .. 1, 1: all
  float dry_multiplier = 0;  // 0 .. 100; 0: off
  float dry_base = 1.75F;    // 1 .. 8
  int32_t dry_allowed_length = 2;
  int32_t dry_window = -1;  // earlier tokens looked at; -1: all. Never more than kMostDryTokens
  // Tokens that repetitions do not reach across, ascending; null: none.
  std::shared_ptr<const std::vector<int32_t>> dry_breakers = nullptr;
  float xtc_probability = 0;               // 0 .. 1; 0: off
  float xtc_threshold = 0.1F;              // 0 .. 1; above 0.5 nothing is ever excluded
  int32_t mirostat = 0;                    // 0: off, 1, 2
  float mirostat_tau = 5;                  // 0 .. 100, bits of surprise aimed at
  float mirostat_eta = 0.1F;               // 0 .. 1, learning rate
  std::vector<TokenBias> logit_bias = {};  // at most kMostBiases
};

inline constexpr size_t kMostBiases = 1024;
inline constexpr size_t kMostDryTokens = 4096;
inline constexpr uint32_t kMostTopLogprobs = 20;

// kUsage names the parameter that is out of range. `vocab_size` bounds logit_bias.
Status check_params(const SampleParams& params, uint32_t vocab_size = UINT32_MAX);

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;  // natural logarithm of softmax(logits), before anything of SampleParams
};

// What sampling carries from one token of a sequence to the next.
struct SamplingState {
  float mirostat_mu = -1;  // < 0: not begun
};

// What to do with one row of logits. What it refers to outlives the call. The result depends on this and the logits
// alone, so not on batch mates.
struct RowSampling {
  const SampleParams* params = nullptr;  // checked
  std::span<const int32_t> history;      // the earlier tokens
  std::span<const int32_t> banned;       // not to be chosen, such as end tokens before min_tokens; [0, vocab)
  SamplingState* state = nullptr;        // null: a fresh one
  uint64_t draw = 0;                     // number of the draw: tokens of the answer so far
  uint32_t stream = 0;                   // of the request's sequences; draws of different streams are independent
  bool logprob = false;                  // SampledToken::logprob is wanted
  uint32_t top_logprobs = 0;             // SampledToken::top, at most kMostTopLogprobs
  int32_t given = -1;                    // >= 0: choose this token (prompts' logprobs)
};

struct SampledToken {
  int32_t token = -1;             // -1: the row failed
  float logprob = 0;              // of the token, when wanted
  std::vector<TokenLogprob> top;  // the most likely first, of equals the lower id; when wanted
  Error error;                    // of a row that failed: kBadData for a logit that is NaN or +infinity, or when no
                                  // token is left to choose from
};

}  // namespace ll
