#include "kernels/cuda/emulator/emulator.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "kernels/cuda/emulator/block_scheduler.h"
#include "kernels/cuda/emulator/fiber.h"
#include "kernels/cuda/prologue.h"

extern char** environ;

namespace ll::cuda {

class Module {
 public:
  Module(void* library, EntryPoint start) : library_(library), entry_(start) {}
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  ~Module() { dlclose(library_); }
  EntryPoint entry() const { return entry_; }

 private:
  void* library_;
  EntryPoint entry_;
};

namespace {

// -fsanitize=bounds needs no run-time library when it traps; the traps become messages. Contraction is off as on the
// device (prologue.h).
constexpr const char* kOptions[] = {"-std=c++20",
                                    "-O1",
                                    "-fPIC",
                                    "-shared",
                                    "-fvisibility=hidden",
                                    "-fno-gnu-unique",
                                    "-fno-exceptions",
                                    "-fno-rtti",
                                    "-fno-strict-aliasing",
                                    "-ffp-contract=off",
                                    "-fsanitize=bounds",
                                    "-fsanitize-undefined-trap-on-error",
                                    "-Wno-attributes",
                                    "-Wno-unknown-pragmas"};

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return error(Code::kNoInput, "cannot open {}", path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<std::string> options() {
  std::vector<std::string> all(std::begin(kOptions), std::end(kOptions));
#if defined(__x86_64__)
  // Without it fma() is a call.
  if (__builtin_cpu_supports("fma")) all.push_back("-mfma");
#endif
  return all;
}

// Starts `arguments`; standard error goes to `log`. -1 when it cannot be started.
pid_t spawn(const std::vector<std::string>& arguments, const std::string& log) {
  std::vector<char*> argv;
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  pid_t pid = -1;
  const int failed = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return failed != 0 ? -1 : pid;
}

bool succeeded(pid_t pid) {
  int status = 0;
  return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

uint64_t hash(std::string_view text, uint64_t seed) { return XXH3_64bits_withSeed(text.data(), text.size(), seed); }

}  // namespace

Emulator::Emulator(Emulator&&) noexcept = default;
Emulator::~Emulator() = default;

Result<Emulator> Emulator::open(const std::string& sources, const std::string& cache) {
  if (!kHasFibers) return unsupported("the emulator's fibers are written for Linux on x86-64");
#if defined(__SANITIZE_THREAD__)
  return unsupported("the thread sanitizer does not follow fibers");
#endif
  Emulator emulator;
  const char* compiler = std::getenv("LLCUDA_HOST_CXX");
  emulator.compiler_ = compiler != nullptr && *compiler != '\0' ? compiler : "c++";
  emulator.sources_ = sources;
  emulator.cache_ = cache;
  if (!succeeded(spawn({emulator.compiler_, "--version"}, "/dev/null"))) {
    return unsupported("cannot start the C++ compiler '{}'", emulator.compiler_);
  }
  // Any source may include any other; there are few and they are small.
  std::vector<std::string> files;
  std::error_code failed;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(sources, failed)) {
    const std::string extension = entry.path().extension();
    if (extension == ".cuh" || extension == ".h") files.push_back(entry.path());
  }
  if (failed) return error(Code::kNoInput, "cannot read {}: {}", sources, failed.message());
  std::sort(files.begin(), files.end());
  uint64_t sum = hash(emulator.compiler_, 0);
  for (const std::string& option : options()) sum = hash(option, sum);
  for (const std::string& file : files) {
    TRY_ASSIGN(const std::string text, read_file(file));
    sum = hash(text, sum);
  }
  emulator.sources_hash_ = sum;
  return emulator;
}

std::string Emulator::object_path(const Instance& instance) const {
  return fmt::format("{}/{}_{:016x}.so", cache_, kernel_name(instance), hash(prologue(instance), sources_hash_));
}

Status Emulator::prepare(std::span<const Instance> instances) {
  struct Job {
    std::string object, temporary;
    pid_t pid;
  };
  std::vector<Job> running;
  const auto finish = [&]() -> Status {
    const Job job = running.front();
    running.erase(running.begin());
    const std::string log = job.temporary + ".log", source = job.temporary + ".cc";
    const bool good = succeeded(job.pid);
    const Result<std::string> words = read_file(log);
    std::error_code ignored;
    std::filesystem::remove(log, ignored);
    if (!good) return bad_data("{}: {}", source, words ? *words : "the compiler left no message");
    std::filesystem::remove(source, ignored);
    std::error_code failed;
    std::filesystem::rename(job.temporary, job.object, failed);
    if (failed) return error(Code::kCannotCreate, "cannot create {}: {}", job.object, failed.message());
    return {};
  };
  Status status;
  for (const Instance& instance : instances) {
    const std::string object = object_path(instance);
    const bool queued = std::any_of(running.begin(), running.end(), [&](const Job& j) { return j.object == object; });
    if (queued || std::filesystem::exists(object)) continue;
    const std::string temporary = fmt::format("{}.{}", object, getpid());
    std::ofstream(temporary + ".cc") << prologue(instance);
    std::vector<std::string> arguments = {compiler_};
    for (const std::string& option : options()) arguments.push_back(option);
    for (const std::string& a : {std::string("-I") + sources_, std::string("-o"), temporary, temporary + ".cc"})
      arguments.push_back(a);
    running.push_back({object, temporary, spawn(arguments, temporary + ".log")});
    if (running.size() == 2) {
      if (const Status s = finish(); !s && status) status = s;
    }
  }
  while (!running.empty()) {
    if (const Status s = finish(); !s && status) status = s;
  }
  return status;
}

Result<const Module*> Emulator::load(const Instance& instance) {
  const std::string name = kernel_name(instance);
  const auto found = modules_.find(name);
  if (found != modules_.end()) return found->second.get();
  TRY(prepare({&instance, 1}));
  const std::string path = object_path(instance);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return error(Code::kIo, "cannot load {}: {}", path, dlerror());
  auto* entry = reinterpret_cast<EntryPoint>(dlsym(library, name.c_str()));
  auto* runtime = static_cast<const emulated::Runtime**>(dlsym(library, "ll_emulator"));
  if (entry == nullptr || runtime == nullptr) {
    dlclose(library);
    return error(Code::kInternal, "{} lacks {} or ll_emulator", path, name);
  }
  *runtime = emulator_runtime();
  return modules_.emplace(name, std::make_unique<Module>(library, entry)).first->second.get();
}

Status Emulator::launch(const KernelLaunch& launch, const Args& args, uint64_t seed) {
  TRY_ASSIGN(const Module* const module, load(launch.instance));
  const Status status = run_blocks(launch, module->entry(), args, seed);
  if (!status) return Error(status.error()).in(launch.instance.function);
  return {};
}

}  // namespace ll::cuda
