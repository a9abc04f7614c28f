// What is asked of the server: addresses, prompts, requests as bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/load/distribution.h"
#include "runtime/load/load.h"

namespace ll::load {

struct Url {
  std::string host, port;  // host without brackets
  std::string authority;   // as the Host header says it
  std::string path;        // before "/v1/..."; "" or "/prefix"
  // kUsage for what is no http:// address. "https" is kUsage too, with what to do instead.
  static Result<Url> parse(std::string_view text);
};

// Makes requests. The same options give the same requests.
class Workload {
 public:
  // kUsage for options that cannot be met.
  static Result<Workload> create(const LoadOptions& options, Url url, std::string model);

  // The bytes of request `index` of level `level`; every one has another prompt.
  std::string request(uint32_t level, uint32_t index);
  // Its prompt alone.
  std::string prompt(uint32_t level, uint32_t index);
  // Seconds from the level's beginning at which `count` requests arrive at `rate` a second.
  std::vector<double> arrivals(uint32_t level, double rate, uint32_t count) const;

 private:
  Workload(const LoadOptions& options, Url url) : options_(options), url_(std::move(url)) {}
  uint32_t words(Random& random, std::string& text);
  const std::string& word(Random& random) const { return words_[random.below(words_.size())]; }

  const LoadOptions& options_;
  Url url_;
  std::string model_, extra_;
  std::vector<std::string> words_, shared_;
  Length prompt_words_, output_tokens_;
  Random shared_random_{0};
};

// GET `path` below the address.
std::string get_request(const Url& url, std::string_view path, const std::string& api_key);

}  // namespace ll::load
