#include <unistd.h>

#include <cmath>
#include <llrt.hpp>
#include <nlohmann/json.hpp>

#include "runtime/base/mapped_file.h"
#include "tools/llrt/commands.h"
#include "tools/llrt/interrupt.h"
#include "tools/llrt/open_model.h"

namespace ll {
namespace {

struct PerplexityArguments {
  ModelOptions model;
  std::string file;
  uint32_t window = 512;
  bool json = false;
};

// -log of the probability of `token`.
double surprise(std::span<const float> logits, int32_t token) {
  double largest = -INFINITY, sum = 0;
  for (const float l : logits) largest = std::max(largest, static_cast<double>(l));
  for (const float l : logits) sum += std::exp(static_cast<double>(l) - largest);
  return std::log(sum) + largest - static_cast<double>(logits[static_cast<size_t>(token)]);
}

// The text is cut into windows of W tokens, what is left over at the end is dropped. BOS, where the model uses one,
// replaces each window's first token. Tokens at W/2 + 1 .. W - 1 are scored, so each has at least W/2 + 1 before it.
Status run(const PerplexityArguments& options) {
  const llrt::Model model = open_model(options.model);
  const llrt_model_info info = model.info();
  if (options.window > info.context_length) {
    return usage("windows of {} tokens, the plan was compiled for {} (llcc compile --ctx-size)", options.window,
                 info.context_length);
  }
  std::vector<int32_t> tokens;
  {
    TRY_ASSIGN(const MappedFile file, MappedFile::open(options.file));
    const auto bytes = file.bytes();
    tokens = model.tokenize({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, 0);
  }
  const size_t window = options.window, windows = tokens.size() / window, first = window / 2;
  if (windows == 0)
    return usage("{} has {} tokens, expected at least one window of {}", options.file, tokens.size(), window);
  const bool progress = isatty(STDERR_FILENO) != 0;
  const bool bos = info.add_bos != 0 && info.bos_token >= 0;
  llrt::Session session(model);
  constexpr size_t kPiece = 64;
  std::vector<float> logits;
  double sum = 0, squares = 0;
  size_t scored = 0, done = 0;
  for (; done < windows && !interrupted(); ++done) {
    const std::span<int32_t> text = std::span(tokens).subspan(done * window, window);
    if (bos) text[0] = info.bos_token;
    session.reset();
    session.prefill(text.first(first));
    for (size_t at = first; at + 1 < window;) {
      const size_t count = std::min(kPiece, window - 1 - at);
      logits.resize(count * info.vocab_size);
      session.prefill_logits(text.subspan(at, count), logits);
      for (size_t i = 0; i < count; ++i, ++at, ++scored) {
        const double s = surprise(std::span(logits).subspan(i * info.vocab_size, info.vocab_size), text[at + 1]);
        sum += s;
        squares += s * s;
      }
    }
    const double mean = sum / static_cast<double>(scored);
    if (!std::isfinite(mean)) return bad_data("window {} has logits that are not finite numbers", done + 1);
    if (progress) fmt::print(stderr, "\r{}/{} windows, perplexity {:.4f} ", done + 1, windows, std::exp(mean));
  }
  if (progress) fmt::print(stderr, "\n");
  if (scored == 0) return {};
  const double n = static_cast<double>(scored), mean = sum / n, perplexity = std::exp(mean);
  // Standard error of the mean, carried through exp.
  const double deviation = n > 1 ? std::sqrt(std::max(0.0, squares / n - mean * mean) / (n - 1)) * perplexity : 0;
  if (options.json) {
    const nlohmann::ordered_json json = {{"perplexity", perplexity},
                                         {"standard_error", deviation},
                                         {"window", window},
                                         {"windows", done},
                                         {"tokens", scored}};
    fmt::print("{}\n", json.dump());
  } else {
    fmt::print("perplexity {:.4f} +- {:.4f} over {} tokens in {} windows of {}\n", perplexity, deviation, scored, done,
               window);
  }
  return {};
}

}  // namespace

Command add_perplexity(CLI::App& app) {
  auto options = std::make_shared<PerplexityArguments>();
  add_model_options(app, options->model);
  app.add_option("-f,--file", options->file, "text to predict")->required()->type_name("TEXT");
  app.add_option("--window", options->window, "tokens a window; those of its second half are scored")
      ->check(CLI::Range(4, 1 << 20))
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--json", options->json, "print the result as JSON");
  return [options] { return run(*options); };
}

}  // namespace ll
