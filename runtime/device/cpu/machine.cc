#include "runtime/device/cpu/machine.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>

#include "runtime/base/cpu_affinity.h"

namespace ll {
namespace {

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

// Ascending, each once.
std::vector<int> sorted(std::vector<int> numbers) {
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

// `cores`: the core of each allowed CPU.
std::vector<NumaNode> read_nodes(const std::string& root, const std::map<int, std::string>& cores) {
  const std::string folder = root + "/sys/devices/system/node/";
  const std::vector<int> online = sorted(parse_cpu_list(read_text(folder + "online")));
  if (online.size() < 2) return {};
  const std::string memories = field(read_text(root + "/proc/self/status"), "Mems_allowed_list");
  const std::vector<int> allowed = parse_cpu_list(memories);
  std::vector<NumaNode> nodes;
  std::vector<size_t> kept;  // of `online`
  std::set<int> seen;        // CPUs: each is of the first node that lists it
  for (size_t i = 0; i < online.size(); ++i) {
    const int id = online[i];
    const std::string own = folder + "node" + std::to_string(id) + "/";
    NumaNode node{.id = id};
    std::set<std::string> node_cores;
    for (const int cpu : sorted(parse_cpu_list(read_text(own + "cpulist")))) {
      const auto core = cores.find(cpu);
      if (core == cores.end() || !seen.insert(cpu).second) continue;
      node.cpus.push_back(cpu);
      node_cores.insert(core->second);
    }
    node.cores = static_cast<int>(node_cores.size());
    if (memories.empty() || std::find(allowed.begin(), allowed.end(), id) != allowed.end()) {
      const std::string total = field(read_text(own + "meminfo"), "Node " + std::to_string(id) + " MemTotal");
      node.memory_bytes = number(total).value_or(0) << 10;
    }
    if (node.cpus.empty() && node.memory_bytes == 0) continue;
    nodes.push_back(std::move(node));
    kept.push_back(i);
  }
  if (nodes.size() < 2) return {};
  for (NumaNode& node : nodes) {
    // To every node that is online, in their order.
    std::vector<int> all;
    std::istringstream text(read_text(folder + "node" + std::to_string(node.id) + "/distance"));
    for (int distance; text >> distance;) all.push_back(distance);
    if (all.size() != online.size()) continue;
    for (const size_t i : kept) node.distances.push_back(all[i]);
  }
  return nodes;
}

int threads_of(int cores, int cpus, double quota) {
  // One core's line buffers do not keep memory busy: its second hardware thread reads as much again (docs/performance/
  // cpu.md). Two cores and more do, and siblings then only share their caches and vector units.
  int threads = cores == 1 ? cpus : cores;
  if (quota > 0) threads = std::min(threads, static_cast<int>(quota));
  return std::max(threads, 1);
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
  const std::vector<int> online = parse_cpu_list(read_text(cpu_root + "/online"));
  std::vector<int> allowed = CpuSet::of_this_thread().cpus();
  if (!root.empty()) allowed = parse_cpu_list(field(read_text(root + "/proc/self/status"), "Cpus_allowed_list"));
  if (allowed.empty()) allowed = online;
  machine.allowed_cpus = std::max(1, static_cast<int>(allowed.size()));
  machine.cpus = std::max(machine.allowed_cpus, static_cast<int>(online.size()));
  // CPUs of one core list the same siblings. A CPU without a list is a core of its own.
  std::map<int, std::string> core_of;
  std::set<std::string> cores;
  for (const int cpu : allowed) {
    const std::string folder = cpu_root + "/cpu" + std::to_string(cpu);
    const std::string siblings = read_text(folder + "/topology/thread_siblings_list");
    const std::string core = siblings.empty() ? std::to_string(cpu) : std::string(trim(siblings));
    cores.insert(core);
    core_of.emplace(cpu, core);
  }
  machine.nodes = read_nodes(root, core_of);
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
  return threads_of(machine.allowed_cores, machine.allowed_cpus, machine.cgroup_cpus);
}

int default_threads(const Machine& machine, const NumaNode& node) {
  return threads_of(node.cores, static_cast<int>(node.cpus.size()), machine.cgroup_cpus);
}

}  // namespace ll
