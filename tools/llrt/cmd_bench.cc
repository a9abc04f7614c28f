#include <unistd.h>

#include <algorithm>
#include <llrt.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "runtime/base/read_bandwidth.h"
#include "tools/llrt/commands.h"
#include "tools/llrt/interrupt.h"
#include "tools/llrt/open_model.h"
#include "tools/llrt/stopwatch.h"

namespace ll {
namespace {

struct BenchArguments {
  ModelOptions model;
  std::vector<uint32_t> prompts, batches;  // rows; empty: one of what fits, batch 1
  std::vector<uint32_t> both;              // rows of prompt and generation: pairs of their tokens
  std::optional<uint32_t> generate;
  uint32_t depth = 0, repetitions = 5;
  double bandwidth = 0;  // GB/s that shares are of; 0: this machine's memory, for plans that run there
  bool json = false;
};

struct Row {
  std::string name;
  uint64_t bytes = 0;              // one repetition moves
  std::vector<double> seconds;     // of each repetition
  uint64_t tokens = 0;             // of one repetition
  std::vector<double> reads = {};  // bytes a second that memory gave before, between and after them
  double rate(double s) const { return static_cast<double>(tokens) / s; }
};

// Any ids do: the kernels' time does not depend on them.
std::vector<int32_t> some_tokens(size_t count, uint32_t vocab) {
  std::vector<int32_t> ids(count);
  uint32_t state = 1;
  for (int32_t& id : ids) {
    state = state * 1664525 + 1013904223;
    id = static_cast<int32_t>((state >> 8) % vocab);
  }
  return ids;
}

class Bench {
 public:
  // `reader` may be null.
  Bench(const llrt::Model& model, const BenchArguments& options, ReadBandwidth* reader)
      : model_(model), info_(model.info()), options_(options), reader_(reader) {}

  // One session's prompt of `count` tokens, in chunks as `llrt run` cuts them.
  Row prompt(uint32_t count) {
    Row row{name("pp", count, 1), prompt_bytes(count), {}, count};
    llrt::Session session(model_);
    fill(session);
    const std::vector<int32_t> ids = some_tokens(count, info_.vocab_size);
    repeat(row, [&] {
      session.truncate(options_.depth);
      const Stopwatch watch;
      session.prefill(ids);
      row.seconds.push_back(watch.seconds());
    });
    return row;
  }

  // `count` decode steps of `batch` sessions each, after a prompt of `prompt` tokens each, one session after another.
  // 0: no prompt.
  Row generate(uint32_t prompt, uint32_t count, uint32_t batch) {
    Row row{name("tg", count, batch), 0, {}, uint64_t{prompt + count} * batch};
    if (prompt > 0) row.name = fmt::format("pp{}+{}", prompt, row.name);
    std::vector<llrt::Session> sessions;
    for (uint32_t i = 0; i < batch; ++i) {
      sessions.emplace_back(model_);
      fill(sessions.back());
    }
    std::vector<llrt::Session*> pointers;
    for (llrt::Session& s : sessions) pointers.push_back(&s);
    const uint32_t together = std::min(batch, info_.max_batch), begin = options_.depth + prompt;
    for (uint32_t i = 0; i < count; ++i) {
      row.bytes += model_.step_bytes(together, together, begin + i) * ((batch + together - 1) / together);
    }
    row.bytes += batch * prompt_bytes(prompt);
    const std::vector<int32_t> ids = some_tokens(size_t{count} * batch, info_.vocab_size);
    const std::vector<int32_t> prompt_ids = some_tokens(prompt, info_.vocab_size);
    repeat(row, [&] {
      for (llrt::Session& s : sessions) s.truncate(options_.depth);
      double seconds = 0;  // but for those that reads take
      Stopwatch watch;
      for (llrt::Session& s : sessions) {
        if (prompt > 0 && !interrupted()) s.prefill(prompt_ids);
      }
      for (uint32_t i = 0; i < count && !interrupted(); ++i) {
        if (read_is_due()) {
          seconds += watch.seconds();
          read(row);
          watch = Stopwatch();
        }
        llrt::decode(pointers, std::span(ids).subspan(size_t{i} * batch, batch));
      }
      if (!interrupted()) row.seconds.push_back(seconds + watch.seconds());
    });
    return row;
  }

 private:
  std::string name(const char* kind, uint32_t count, uint32_t batch) const {
    std::string text = fmt::format("{}{}", kind, count);
    if (batch > 1) text += fmt::format(" x{}", batch);
    if (options_.depth > 0) text += fmt::format(" @ d{}", options_.depth);
    return text;
  }
  uint64_t prompt_bytes(uint32_t count) const {
    const uint32_t chunk = info_.max_step_tokens;
    uint64_t bytes = 0;
    for (uint32_t done = 0; done < count; done += chunk) {
      bytes += model_.step_bytes(std::min(chunk, count - done), 1, options_.depth + done);
    }
    return bytes;
  }
  void fill(llrt::Session& session) const {
    if (options_.depth > 0) session.prefill(some_tokens(options_.depth, info_.vocab_size));
  }
  // Others use memory too, now more, now less, so its bandwidth is measured again each tenth of a second.
  bool read_is_due() const { return reader_ != nullptr && since_read_.seconds() >= kOften; }
  void read(Row& row) {
    if (reader_ != nullptr) row.reads.push_back(reader_->measure(3));
    since_read_ = Stopwatch();
  }
  // Until caches are warm and clocks have risen, then the repetitions that count.
  template <class F>
  void repeat(Row& row, F body) {
    read(row);
    const Stopwatch warm;
    do {
      body();
    } while (warm.seconds() < kOften && !interrupted());
    row.seconds.clear();
    since_read_ = Stopwatch();  // what a read leaves in the caches is not what a short repetition should begin with
    for (uint32_t i = 0; i < options_.repetitions && !interrupted(); ++i) {
      if (isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r{} {}/{} ", row.name, i + 1, options_.repetitions);
      if (read_is_due()) read(row);
      body();
    }
    read(row);
    if (isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\x1b[K");
    std::sort(row.seconds.begin(), row.seconds.end());
  }

  static constexpr double kOften = 0.1;
  const llrt::Model& model_;
  llrt_model_info info_;
  const BenchArguments& options_;
  ReadBandwidth* reader_;
  Stopwatch since_read_;
};

// Where each thread of the device runs; none: anywhere.
std::vector<CpuSet> cpus_of_threads(const nlohmann::json& device) {
  std::vector<CpuSet> cpus;
  if (!device.contains("numa")) return cpus;
  for (const nlohmann::json& share : device["numa"]["shares"]) {
    cpus.insert(cpus.end(), share["threads"].get<size_t>(), CpuSet(share["cpus"].get<std::vector<int>>()));
  }
  return cpus;
}

// Larger than the last cache by far, and small beside what memory is free.
uint64_t bandwidth_buffer() {
  const auto machine = nlohmann::json::parse(llrt::doctor())["machine"];
  const uint64_t cache = machine["last_level_cache_bytes"], available = machine["available_bytes"];
  constexpr uint64_t kLeast = uint64_t{128} << 20, kMost = uint64_t{1} << 30;
  const uint64_t wanted = std::clamp(8 * cache, kLeast, kMost);
  return available > 0 ? std::min(wanted, available / 4) : wanted;
}

double median(const std::vector<double>& sorted) {
  const size_t n = sorted.size();
  return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

// Of rates at regular times: what a reader of all that time would have had.
double mean(const std::vector<double>& rates) {
  return std::accumulate(rates.begin(), rates.end(), 0.0) / static_cast<double>(rates.size());
}

Status run(const BenchArguments& options) {
  const llrt::Model model = open_model(options.model);
  const llrt_model_info info = model.info();
  if (options.depth >= info.context_length) {
    return usage("depth {} leaves no room in a context of {} (llcc compile --ctx-size)", options.depth,
                 info.context_length);
  }
  if (options.both.size() % 2 != 0) {
    return usage("--pg has {} numbers, expected pairs: tokens of the prompt and generated tokens", options.both.size());
  }
  // Defaults shrink to what a small plan holds; numbers asked for do not.
  const uint32_t room = info.context_length - options.depth;
  const std::vector<uint32_t> prompts = options.prompts.empty() ? std::vector{std::min(512U, room)} : options.prompts;
  const std::vector<uint32_t> batches = options.batches.empty() ? std::vector{1U} : options.batches;
  const uint32_t generate = options.generate.value_or(std::min(128U, room));
  std::unique_ptr<ReadBandwidth> reader;
  const nlohmann::json facts = nlohmann::json::parse(model.json())["device"];
  const std::string device = facts["name"];
  if (options.bandwidth == 0 && device == "cpu") {
    TRY_ASSIGN(reader, ReadBandwidth::open(bandwidth_buffer(), info.threads, cpus_of_threads(facts)));
  }
  Bench bench(model, options, reader.get());
  std::vector<Row> rows;
  for (const uint32_t prompt : prompts) {
    if (prompt > 0 && !interrupted()) rows.push_back(bench.prompt(prompt));
  }
  for (const uint32_t batch : batches) {
    if (generate > 0 && !interrupted()) rows.push_back(bench.generate(0, generate, batch));
  }
  for (size_t i = 0; i < options.both.size(); i += 2) {
    for (const uint32_t batch : batches) {
      if (!interrupted()) rows.push_back(bench.generate(options.both[i], options.both[i + 1], batch));
    }
  }
  std::erase_if(rows, [](const Row& row) { return row.seconds.empty(); });

  std::vector<double> reads;
  for (const Row& row : rows) reads.insert(reads.end(), row.reads.begin(), row.reads.end());
  const double bandwidth = reads.empty() ? 1e9 * options.bandwidth : mean(reads);
  nlohmann::ordered_json json = {{"model", info.name},
                                 {"architecture", info.architecture},
                                 {"device", device},
                                 {"threads", info.threads},
                                 {"isa", info.isa},
                                 {"weight_bytes", info.weight_bytes},
                                 {"read_bandwidth_gb_s", bandwidth / 1e9},
                                 {"rows", nlohmann::ordered_json::array()}};
  if (!options.json) {
    fmt::print("{} {}, {:.1f} MB of weights, {}, {} threads, {}; streaming read {}\n\n", info.architecture, info.name,
               static_cast<double>(info.weight_bytes) / 1e6, device, info.threads, info.isa,
               bandwidth > 0 ? fmt::format("{:.1f} GB/s", bandwidth / 1e9) : "not measured");
    fmt::print("| test | tokens/s | spread | GB/s | of read bandwidth |\n|---|---:|---:|---:|---:|\n");
  }
  for (const Row& row : rows) {
    const double middle = median(row.seconds), rate = row.rate(middle);
    const double fastest = row.rate(row.seconds.front()), slowest = row.rate(row.seconds.back());
    const double moved = static_cast<double>(row.bytes) / middle;
    const double read = row.reads.empty() ? bandwidth : mean(row.reads);
    if (options.json) {
      json["rows"].push_back({{"test", row.name},
                              {"tokens_per_second", rate},
                              {"slowest", slowest},
                              {"fastest", fastest},
                              {"repetitions", row.seconds.size()},
                              {"bytes", row.bytes},
                              {"gb_s", moved / 1e9},
                              {"read_bandwidth_gb_s", read / 1e9},
                              {"share_of_read_bandwidth", read > 0 ? moved / read : 0}});
    } else {
      fmt::print("| {} | {:.2f} | {:.1f} % | {:.2f} | {} |\n", row.name, rate, (fastest - slowest) / rate * 100,
                 moved / 1e9, read > 0 ? fmt::format("{:.0f} %", moved / read * 100) : "");
    }
  }
  if (options.json) fmt::print("{}\n", json.dump(2));
  return {};
}

}  // namespace

Command add_bench(CLI::App& app) {
  auto options = std::make_shared<BenchArguments>();
  BenchArguments& o = *options;
  add_model_options(app, o.model);
  const auto count = [&](const char* flags, auto& target, const char* help) {
    return app.add_option(flags, target, help)->check(CLI::Range(0, 1 << 27))->type_name("N");
  };
  count("-p,--prompt", o.prompts,
        "tokens of the prompt row, 0: no such row (default: 512, or what the context holds); "
        "several, separated by commas, make several rows")
      ->delimiter(',');
  count("-n,--generate", o.generate, "decode steps of the generation row, 0: no such row (default: 128)");
  app.add_option("--pg", o.both,
                 "also a row of both: P tokens of prompt, one session after another, then N decode steps; its rate "
                 "counts both; several pairs make several rows")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 27))
      ->type_name("P,N");
  app.add_option("-b,--batch", o.batches, "sessions that decode together (default: 1); several make several rows")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096))
      ->type_name("N");
  count("-d,--depth", o.depth, "tokens already in each session")->capture_default_str();
  app.add_option("-r,--repetitions", o.repetitions,
                 "runs of each row; the median counts (runs of a tenth of a second before them, or one, warm up)")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--read-bandwidth", o.bandwidth,
                 "what shares of bandwidth are of (default: measured, for plans that run on the CPU)")
      ->check(CLI::Range(0.0, 1e6))
      ->type_name("GB/S");
  app.add_option_function<std::string>(
         "-o,--output", [options](const std::string& format) { options->json = format == "json"; }, "md or json")
      ->check(CLI::IsMember({"md", "json"}))
      ->type_name("FORMAT");
  // A plan, or the subcommand: neither can be required of the parser.
  app.get_option("plan")->required(false);
  CLI::App* serve = app.add_subcommand("serve", "measure a server of OpenAI's API under load");
  const Command load = add_bench_serve(*serve);
  return [options, serve, load]() -> Status {
    if (serve->parsed()) return load();
    if (options->model.plan.empty()) return usage("plan is required; see llrt bench --help");
    return run(*options);
  };
}

}  // namespace ll
