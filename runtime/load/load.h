// Load on an OpenAI-compatible server, and what its clients see of it. The only header of this folder that others
// include.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace ll::load {

struct LoadOptions {
  std::string url;    // "http://127.0.0.1:8080", with or without "/v1"
  std::string model;  // empty: the first that /v1/models lists
  std::string api_key;
  bool chat = false;  // /v1/chat/completions instead of /v1/completions

  // One level of load after another: streams that each send a request when the last is answered (closed loop), or,
  // where `rates` is not empty, requests a second that arrive as a Poisson process whatever the server does (open
  // loop).
  std::vector<uint32_t> streams = {16};
  std::vector<double> rates;
  uint32_t requests = 0;  // of a level; 0: four for each stream, or ten seconds' worth of the rate, 16 at least
  uint32_t warmup = 1;    // requests before the first level that count for nothing

  // Lengths: "128", "uniform:64,256" (both included), or "lognormal:128,0.5": median and sigma of the logarithm.
  std::string prompt_words = "200", output_tokens = "128";
  double shared_prefix = 0;  // share of each prompt, from its beginning, that is the same in all
  std::string words;         // text whose words prompts are made of; empty: "word0" to "word4999"
  double temperature = 0;
  std::string extra;  // JSON object merged into each request (RFC 7396): null takes a member out
  uint64_t seed = 1;
  double timeout = 600;  // seconds until a request is given up

  // Limits that a good answer keeps, in milliseconds; 0: none.
  double slo_first_token = 0, slo_per_token = 0, slo_end_to_end = 0;

  std::function<void(const std::string& line)> progress;  // a few times a second; may be empty
  std::function<bool()> interrupted;                      // looked at often; may be empty
};

// Of values in milliseconds. Percentiles are interpolated linearly between the two nearest ranks.
struct Summary {
  size_t count = 0;
  double mean = 0, p50 = 0, p95 = 0, p99 = 0, max = 0;
};

// What one level gave. Times are those of requests that were answered completely.
struct LevelResult {
  uint32_t streams = 0;  // closed loop
  double rate = 0;       // open loop; requests a second asked for
  double seconds = 0;    // from the first request to the end of the last
  uint32_t sent = 0, answered = 0, most_open = 0;
  std::vector<std::pair<std::string, uint32_t>> errors;  // kind and count, by name
  std::string first_error;                               // in the server's words where there are some
  uint64_t prompt_tokens = 0, output_tokens = 0;  // the server's count; where it does not count, 0 and chunks of text
  uint64_t chunks = 0;                            // of text that arrived
  bool counted_by_server = false;
  // From sending a request, connecting included, to its first text; between texts; from the first to the last text,
  // divided by the tokens but one; to its end.
  Summary first_token, between, per_token, end_to_end;
  std::vector<double> first_token_curve, between_curve, end_to_end_curve;  // quantiles 0, 1/100 .. 1
  uint32_t good = 0;                                                       // answered within every limit
  uint64_t good_tokens = 0;
  double client_load = 0;  // share of one hardware thread that this program took: near 1, it measures itself
};

struct LoadResult {
  std::string model;
  bool interrupted = false;
  std::vector<LevelResult> levels;
};

//   kUsage        options that cannot be met
//   kNoInput      the server cannot be reached, or refuses the first request
Result<LoadResult> run_load(const LoadOptions& options);

// Everything that was asked for and came out, but for the API key.
std::string json_report(const LoadOptions& options, const LoadResult& result);
// A Markdown table, one row a level.
std::string text_report(const LoadOptions& options, const LoadResult& result);
// Distributions and rates as one picture that needs nothing else; as a page with the table below it, or the picture
// alone.
std::string html_report(const LoadOptions& options, const LoadResult& result);
std::string svg_report(const LoadResult& result);

}  // namespace ll::load
