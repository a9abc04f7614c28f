#include "runtime/device/cpu/machine.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <memory>
#include <optional>
#include <set>
#include <string_view>

namespace ll {
namespace {

constexpr int kMaxCpus = 8192;
constexpr size_t kMaxFile = 16384;  // of /proc/cpuinfo only the beginning is wanted

// The first kMaxFile bytes of a file of /proc or /sys, "" when it cannot be read.
std::string read_text(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (!file) return "";
  std::array<char, kMaxFile> text;
  return {text.data(), std::fread(text.data(), 1, text.size(), file.get())};
}

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\n");
  if (begin == std::string_view::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

std::optional<uint64_t> number(std::string_view text) {
  text = trim(text);
  uint64_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

// Calls fn(line) for each line until it returns true.
template <class F>
void for_lines(std::string_view text, F fn) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (fn(text.substr(0, end))) return;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// What follows "key<spaces>:" in the first line that begins so.
std::string field(std::string_view text, std::string_view key) {
  std::string value;
  for_lines(text, [&](std::string_view line) {
    if (!line.starts_with(key)) return false;
    const std::string_view rest = trim(line.substr(key.size()));
    if (!rest.starts_with(':')) return false;
    value = trim(rest.substr(1));
    return true;
  });
  return value;
}

std::vector<int> affinity() {
  std::vector<int> cpus;
  cpu_set_t* set = CPU_ALLOC(kMaxCpus);
  if (set == nullptr) return cpus;
  const size_t bytes = CPU_ALLOC_SIZE(kMaxCpus);
  CPU_ZERO_S(bytes, set);
  if (sched_getaffinity(0, bytes, set) == 0) {
    for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
      if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes, set)) cpus.push_back(cpu);
    }
  }
  CPU_FREE(set);
  return cpus;
}

// "32K" -> 32768.
uint64_t cache_bytes(const std::string& text) {
  const uint64_t value = number(text).value_or(0);
  const std::string_view unit = trim(text);
  if (unit.ends_with('K')) return value << 10;
  if (unit.ends_with('M')) return value << 20;
  return value;
}

void read_caches(const std::string& cpu_folder, Machine& machine) {
  for (int index = 0; index < 8; ++index) {
    const std::string folder = cpu_folder + "/cache/index" + std::to_string(index) + "/";
    machine.l3_bytes = std::max(machine.l3_bytes, cache_bytes(read_text(folder + "size")));
  }
}

// "max 100000", "150000 100000" -> CPUs, 0 for no limit.
double quota_v2(const std::string& text) {
  const size_t space = text.find(' ');
  const auto quota = number(text);
  const auto period = space == std::string::npos ? std::nullopt : number(text.substr(space));
  if (!quota || !period || *period == 0) return 0;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

void tighten(double& limit, double found) {
  if (found > 0 && (limit == 0 || found < limit)) limit = found;
}
void tighten(uint64_t& limit, std::optional<uint64_t> found) {
  constexpr uint64_t kNoLimit = uint64_t{1} << 60;  // version 1 writes "no limit" as a huge number
  if (found && *found > 0 && *found < kNoLimit && (limit == 0 || *found < limit)) limit = *found;
}

// The group's own folder and every one above it: the tightest limit counts. In a container the group's path may not be
// visible; the mount point's own files then hold the container's limits.
template <class F>
void for_ancestors(const std::string& mount, std::string path, F fn) {
  while (path.size() > 1) {
    fn(mount + path);
    path.resize(path.rfind('/'));
  }
  fn(mount);
}

void read_cgroups(const std::string& root, Machine& machine) {
  const std::string mount = root + "/sys/fs/cgroup";
  for_lines(read_text(root + "/proc/self/cgroup"), [&](std::string_view line) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string_view::npos) return false;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    std::string path(trim(line.substr(second + 1)));
    if (!path.starts_with('/') || path.find("..") != std::string::npos) path = "/";
    const auto controls = [&](std::string_view name) {
      return ("," + std::string(controllers) + ",").find("," + std::string(name) + ",") != std::string::npos;
    };
    if (controllers.empty()) {
      for_ancestors(mount, path, [&](const std::string& folder) {
        tighten(machine.cgroup_cpus, quota_v2(read_text(folder + "/cpu.max")));
        tighten(machine.cgroup_memory_bytes, number(read_text(folder + "/memory.max")));
      });
    } else if (controls("cpu")) {
      for_ancestors(mount + "/cpu", path, [&](const std::string& folder) {
        const auto quota = number(read_text(folder + "/cpu.cfs_quota_us"));  // -1: none, and no number
        const auto period = number(read_text(folder + "/cpu.cfs_period_us"));
        if (quota && period && *period > 0) {
          tighten(machine.cgroup_cpus, static_cast<double>(*quota) / static_cast<double>(*period));
        }
      });
    } else if (controls("memory")) {
      for_ancestors(mount + "/memory", path, [&](const std::string& folder) {
        tighten(machine.cgroup_memory_bytes, number(read_text(folder + "/memory.limit_in_bytes")));
      });
    }
    return false;
  });
}

}  // namespace

std::vector<int> parse_cpu_list(const std::string& text) {
  std::vector<int> cpus;
  std::string_view rest = trim(text);
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view part = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    const size_t dash = part.find('-');
    const auto first = number(part);
    const auto last = dash == std::string_view::npos ? first : number(part.substr(dash + 1));
    if (!first || !last || *last >= kMaxCpus) continue;
    for (uint64_t cpu = *first; cpu <= *last; ++cpu) cpus.push_back(static_cast<int>(cpu));
  }
  return cpus;
}

Machine read_machine(const std::string& root) {
  Machine machine;
  machine.cpu = field(read_text(root + "/proc/cpuinfo"), "model name");
  const std::string cpu_root = root + "/sys/devices/system/cpu";
  std::vector<int> allowed = affinity();
  const std::vector<int> online = parse_cpu_list(read_text(cpu_root + "/online"));
  if (!root.empty()) allowed = online;
  machine.allowed_cpus = std::max(1, static_cast<int>(allowed.size()));
  machine.cpus = std::max(machine.allowed_cpus, static_cast<int>(online.size()));
  // CPUs of one core list the same siblings. A CPU without a list is a core of its own.
  std::set<std::string> cores;
  for (const int cpu : allowed) {
    const std::string folder = cpu_root + "/cpu" + std::to_string(cpu);
    const std::string siblings = read_text(folder + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? std::to_string(cpu) : std::string(trim(siblings)));
  }
  machine.allowed_cores = std::max(1, static_cast<int>(cores.size()));
  read_caches(cpu_root + "/cpu" + std::to_string(allowed.empty() ? 0 : allowed.front()), machine);
  read_cgroups(root, machine);
  const std::string memory = read_text(root + "/proc/meminfo");
  machine.memory_bytes = number(field(memory, "MemTotal")).value_or(0) << 10;
  machine.available_bytes = number(field(memory, "MemAvailable")).value_or(0) << 10;
  const std::string huge = read_text(root + "/sys/kernel/mm/transparent_hugepage/enabled");
  const size_t open = huge.find('['), close = huge.find(']');
  if (open != std::string::npos && close != std::string::npos && close > open) {
    machine.transparent_huge_pages = huge.substr(open + 1, close - open - 1);
  }
  return machine;
}

int default_threads(const Machine& machine) {
  // One core's line buffers do not keep memory busy: its second hardware thread reads as much again (docs/performance/
  // cpu.md). Two cores and more do, and siblings then only share their caches and vector units.
  int threads = machine.allowed_cores == 1 ? machine.allowed_cpus : machine.allowed_cores;
  if (machine.cgroup_cpus > 0) threads = std::min(threads, static_cast<int>(machine.cgroup_cpus));
  return std::max(threads, 1);
}

}  // namespace ll
