#include <unistd.h>

#include <cstdlib>

#include "runtime/base/atomic_file.h"
#include "runtime/base/mapped_file.h"
#include "runtime/load/load.h"
#include "tools/llrt/commands.h"
#include "tools/llrt/interrupt.h"

namespace ll {
namespace {

struct BenchServeArguments {
  load::LoadOptions load;
  std::string text_file, chart, key_file;
  bool json = false;
};

Result<std::string> read_file(const std::string& path) {
  TRY_ASSIGN(const MappedFile file, MappedFile::open(path));
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

Status write_file(const std::string& path, const std::string& text) {
  TRY_ASSIGN(AtomicFile file, AtomicFile::create(path));
  TRY(file.write(std::as_bytes(std::span(text))));
  return file.commit();
}

Status run(const BenchServeArguments& options) {
  load::LoadOptions load = options.load;
  if (const char* key = std::getenv("LLRT_API_KEY"); key != nullptr) load.api_key = key;
  if (!options.key_file.empty()) {
    TRY_ASSIGN(const std::string text, read_file(options.key_file));
    load.api_key = text.substr(0, text.find_first_of("\r\n"));
    if (load.api_key.empty()) return usage("{} holds no API key in its first line", options.key_file);
  }
  if (!options.text_file.empty()) {
    TRY_ASSIGN(load.words, read_file(options.text_file));
    if (load.words.empty()) return usage("{} is empty, expected words for prompts", options.text_file);
  }
  const bool svg = options.chart.ends_with(".svg");
  if (!options.chart.empty() && !svg && !options.chart.ends_with(".html")) {
    return usage("the chart's name is {}, expected one that ends in .html or .svg", options.chart);
  }
  const bool live = isatty(STDERR_FILENO) != 0;
  if (live) load.progress = [](const std::string& line) { fmt::print(stderr, "\r\x1b[K{}", line); };
  load.interrupted = interrupted;
  auto result = load::run_load(load);
  if (live) fmt::print(stderr, "\r\x1b[K");
  if (!result) return std::move(result).error();

  if (options.json) {
    fmt::print("{}", load::json_report(load, *result));
  } else {
    fmt::print("{}\n{}", result->model, load::text_report(load, *result));
  }
  for (const load::LevelResult& level : result->levels) {
    for (const auto& [kind, count] : level.errors) fmt::print(stderr, "{} requests failed: {}\n", count, kind);
    if (!level.first_error.empty()) fmt::print(stderr, "the first: {}\n", level.first_error);
    if (level.client_load > 0.8) {
      fmt::print(stderr, "this program took {:.0f} % of a hardware thread: the figures may be its own\n",
                 100 * level.client_load);
    }
  }
  if (!options.chart.empty()) {
    TRY(write_file(options.chart, svg ? load::svg_report(*result) : load::html_report(load, *result)));
  }
  return {};
}

}  // namespace

Command add_bench_serve(CLI::App& app) {
  auto options = std::make_shared<BenchServeArguments>();
  load::LoadOptions& o = options->load;
  app.add_option("url", o.url, "address of the server, such as http://127.0.0.1:8080")->required()->type_name("URL");
  auto* streams = app.add_option("-c,--streams", o.streams,
                                 "requests under way at once; several, separated by commas, make several levels");
  streams->delimiter(',')->type_name("N,..")->default_str("16");
  app.add_option("--rate", o.rates, "requests a second that arrive at random (Poisson), however slow the server is")
      ->delimiter(',')
      ->excludes(streams)
      ->type_name("R,..");
  app.add_option("-n,--requests", o.requests, "of each level (default: 4 a stream, or 10 s of the rate; 16 at least)")
      ->check(CLI::Range(1, 1 << 24))
      ->type_name("N");
  app.add_option("--warmup", o.warmup, "requests before, which count for nothing")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("-p,--prompt-words", o.prompt_words, "words of a prompt: N, uniform:A,B or lognormal:MEDIAN,SIGMA")
      ->capture_default_str()
      ->type_name("LENGTH");
  app.add_option("-o,--output-tokens", o.output_tokens, "tokens of an answer, in the same ways")
      ->capture_default_str()
      ->type_name("LENGTH");
  app.add_option("--shared-prefix", o.shared_prefix, "share of each prompt that all begin with")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->type_name("SHARE");
  app.add_option("--text", options->text_file, "file whose words prompts are made of (default: made-up words)")
      ->type_name("FILE");
  app.add_flag("--chat", o.chat, "ask /v1/chat/completions instead of /v1/completions");
  app.add_option("--model", o.model, "the model's name (default: the first of /v1/models)")->type_name("NAME");
  app.add_option("--temp", o.temperature, "temperature")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str()
      ->type_name("T");
  app.add_option("--extra", o.extra, "merged into each request; null takes out, as in {\"ignore_eos\": null}")
      ->type_name("JSON");
  app.add_option("--seed", o.seed, "the same seed asks the same")->capture_default_str()->type_name("S");
  app.add_option("--timeout", o.timeout, "seconds until a request is given up")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str()
      ->type_name("SECONDS");
  const auto limit = [&](const char* flag, double& value, const char* help) {
    app.add_option(flag, value, help)->check(CLI::Range(0.0, 1e9))->type_name("MS");
  };
  limit("--slo-first", o.slo_first_token, "an answer is good if its first token comes within so many ms,");
  limit("--slo-token", o.slo_per_token, "its tokens take so many ms on average,");
  limit("--slo-total", o.slo_end_to_end, "and it ends within so many ms");
  app.add_option("--api-key-file", options->key_file, "file with the API key; also: environment variable LLRT_API_KEY")
      ->type_name("FILE");
  app.add_flag("--json", options->json, "print everything as JSON instead of a table");
  app.add_option("--chart", options->chart, "write a picture of the distributions: .html or .svg")->type_name("FILE");
  return [options] { return run(*options); };
}

}  // namespace ll
