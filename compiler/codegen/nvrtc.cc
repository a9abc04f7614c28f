#include "compiler/codegen/nvrtc.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <glob.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>

#include "compiler/codegen/cuda_sources.h"
#include "kernels/cuda/prologue.h"
#include "runtime/base/escape.h"

namespace ll {

// Signatures and numbers as nvrtc.h has them. Results are enums, 0 for success.
struct Nvrtc::Functions {
  void* library = nullptr;
  int (*version)(int*, int*) = nullptr;
  int (*create)(void**, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  int (*destroy)(void**) = nullptr;
  int (*compile)(void*, int, const char* const*) = nullptr;
  int (*cubin_size)(void*, size_t*) = nullptr;
  int (*cubin)(void*, char*) = nullptr;
  int (*ptx_size)(void*, size_t*) = nullptr;
  int (*ptx)(void*, char*) = nullptr;
  int (*log_size)(void*, size_t*) = nullptr;
  int (*log)(void*, char*) = nullptr;
  const char* (*error_text)(int) = nullptr;
};

// As nvJitLink.h has them. The library exports the names with its version behind them; some versions the plain ones
// too.
struct Nvrtc::Linker {
  void* library = nullptr;
  std::string path;
  unsigned major = 0, minor = 0;
  int (*create)(void**, uint32_t, const char**) = nullptr;
  int (*destroy)(void**) = nullptr;
  int (*add)(void*, int, const void*, size_t, const char*) = nullptr;
  int (*complete)(void*) = nullptr;
  int (*cubin_size)(void*, size_t*) = nullptr;
  int (*cubin)(void*, void*) = nullptr;
  int (*log_size)(void*, size_t*) = nullptr;
  int (*log)(void*, char*) = nullptr;
};

namespace {

constexpr int kLinkInputPtx = 2;  // NVJITLINK_INPUT_PTX

template <class F>
bool find_symbol(void* library, const std::string& name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name.c_str()));
  return function != nullptr;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Files that match, newest names last in a folder: sorted descending, so that the highest version comes first.
void add_matches(const std::string& pattern, std::vector<std::string>& list) {
  glob_t found{};
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    for (size_t i = found.gl_pathc; i-- > 0;) list.emplace_back(found.gl_pathv[i]);
  }
  globfree(&found);
}

std::string python_prefix() {
  std::string path = variable("PATH");
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string python = path.substr(begin, end - begin) + "/python3";
    if (access(python.c_str(), X_OK) == 0) return path.substr(begin, end - begin) + "/..";
    begin = end + 1;
  }
  return "";
}

// Folders nvidia/ of Python environments: the active one, the one of the first python3, the user's, the system's.
std::vector<std::string> python_packages() {
  std::vector<std::string> folders;
  for (const std::string& prefix : {variable("VIRTUAL_ENV"), variable("CONDA_PREFIX"), python_prefix(),
                                    variable("HOME") + "/.local", std::string("/usr/local"), std::string("/usr")}) {
    if (prefix.empty()) continue;
    for (const char* packages : {"site-packages", "dist-packages"}) {
      add_matches(fmt::format("{}/lib/python3*/{}/nvidia", prefix, packages), folders);
    }
  }
  return folders;
}

std::vector<std::string> toolkits() {
  std::vector<std::string> folders;
  for (const std::string& f : {variable("CUDA_HOME"), variable("CUDA_PATH"), std::string("/usr/local/cuda")}) {
    if (!f.empty()) folders.push_back(f);
  }
  return folders;
}

// Where a library of the toolkit may lie, best first. `package` is its folder in a Python environment of toolkit 12;
// those of toolkit 13 share one.
std::vector<std::string> candidates(const std::string& package, const std::string& library, bool prefer_12) {
  std::vector<std::string> python_12, python_any, list;
  for (const std::string& folder : python_packages()) {
    add_matches(fmt::format("{}/{}/lib/{}.so.12", folder, package, library), python_12);
    add_matches(fmt::format("{}/*/lib/{}.so.[0-9]*", folder, library), python_any);
  }
  if (prefer_12) list = python_12;
  for (const std::string& toolkit : toolkits()) {
    for (const char* lib : {"lib64", "lib"}) add_matches(fmt::format("{}/{}/{}.so", toolkit, lib, library), list);
  }
  list.insert(list.end(), python_any.begin(), python_any.end());
  for (const char* version : {".12", ".13", ""}) list.push_back(fmt::format("{}.so{}", library, version));
  return list;
}

Error not_loaded(const std::string& path) {
  const char* reason = dlerror();
  return unsupported("cannot load {}: {}", quote(path), reason == nullptr ? "no reason given" : reason);
}

std::string read_log(void* program, int (*size)(void*, size_t*), int (*read)(void*, char*)) {
  size_t bytes = 0;
  if (size(program, &bytes) != 0 || bytes == 0) return "";
  std::string log(bytes, '\0');
  if (read(program, log.data()) != 0) return "";
  while (!log.empty() && (log.back() == '\0' || log.back() == '\n')) log.pop_back();
  return log;
}

}  // namespace

Result<std::shared_ptr<Nvrtc>> Nvrtc::open(const std::string& given, int sm) {
  std::shared_ptr<Nvrtc> n(new Nvrtc());
  n->functions_ = std::make_unique<Functions>();
  Functions& f = *n->functions_;
  const std::string path = given.empty() ? variable("LLCC_NVRTC") : given;
  std::vector<std::string> list = path.empty() ? candidates("cuda_nvrtc", "libnvrtc", sm < 80) : std::vector{path};
  for (const std::string& candidate : list) {
    f.library = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (f.library == nullptr) continue;
    n->path_ = candidate;
    break;
  }
  if (f.library == nullptr) {
    if (!path.empty()) return not_loaded(path);
    return unsupported(
        "no NVRTC found, which compiles for GPU targets: name a libnvrtc.so with --nvrtc or LLCC_NVRTC, or install one "
        "(pip install nvidia-cuda-nvrtc-cu12). Looked for {}",
        fmt::join(list, ", "));
  }
  const bool complete =
      find_symbol(f.library, "nvrtcVersion", f.version) && find_symbol(f.library, "nvrtcCreateProgram", f.create) &&
      find_symbol(f.library, "nvrtcDestroyProgram", f.destroy) &&
      find_symbol(f.library, "nvrtcCompileProgram", f.compile) &&
      find_symbol(f.library, "nvrtcGetCUBINSize", f.cubin_size) && find_symbol(f.library, "nvrtcGetCUBIN", f.cubin) &&
      find_symbol(f.library, "nvrtcGetPTXSize", f.ptx_size) && find_symbol(f.library, "nvrtcGetPTX", f.ptx) &&
      find_symbol(f.library, "nvrtcGetProgramLogSize", f.log_size) &&
      find_symbol(f.library, "nvrtcGetProgramLog", f.log) &&
      find_symbol(f.library, "nvrtcGetErrorString", f.error_text);
  if (!complete || f.version(&n->major_, &n->minor_) != 0) {
    return unsupported("{} is no NVRTC of version 11.1 or newer", quote(n->path_));
  }
  // The linker must read the PTX that this NVRTC writes: it is of the same major version or newer.
  auto linker = std::make_unique<Linker>();
  for (const std::string& candidate : candidates("nvjitlink", "libnvJitLink", n->major_ == 12)) {
    void* library = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) continue;
    int (*version)(unsigned*, unsigned*) = nullptr;
    if (find_symbol(library, "nvJitLinkVersion", version) && version(&linker->major, &linker->minor) == 0 &&
        static_cast<int>(linker->major) >= n->major_) {
      const std::string tail = fmt::format("_{}_{}", linker->major, linker->minor);
      const auto find = [&](const std::string& name, auto& function) {
        return find_symbol(library, "__nvJitLink" + name + tail, function) ||
               find_symbol(library, "nvJitLink" + name, function);
      };
      if (find("Create", linker->create) && find("Destroy", linker->destroy) && find("AddData", linker->add) &&
          find("Complete", linker->complete) && find("GetLinkedCubinSize", linker->cubin_size) &&
          find("GetLinkedCubin", linker->cubin) && find("GetErrorLogSize", linker->log_size) &&
          find("GetErrorLog", linker->log)) {
        linker->library = library;
        linker->path = candidate;
        n->linker_ = std::move(linker);
        break;
      }
    }
    dlclose(library);
  }
  return n;
}

// The libraries stay loaded: NVRTC keeps threads and tables that do not survive dlclose.
Nvrtc::~Nvrtc() = default;

std::string Nvrtc::fingerprint(const cuda::Target& target) const {
  std::string text = fmt::format("nvrtc {}.{}", major_, minor_);
  if (target.isa < target.sm && linker_ != nullptr) {
    text += fmt::format(" nvjitlink {}.{}", linker_->major, linker_->minor);
  }
  return text;
}

Result<GpuCode> Nvrtc::compile(const std::string& source, const std::string& name, const cuda::Target& target,
                               bool want_ptx) const {
  const Functions& f = *functions_;
  std::vector<const char*> names, texts;
  for (const CudaSource& s : cuda_sources()) {
    names.push_back(s.name.data());
    texts.push_back(s.text.data());
  }
  void* program = nullptr;
  if (const int r = f.create(&program, source.c_str(), (name + ".cu").c_str(), static_cast<int>(names.size()),
                             texts.data(), names.data());
      r != 0) {
    return error(Code::kInternal, "kernel {}: nvrtcCreateProgram: {}", name, f.error_text(r));
  }
  const std::unique_ptr<void, std::function<void(void*)>> owner(program, [&](void* p) { f.destroy(&p); });
  const bool assembled = target.isa < target.sm;
  std::vector<std::string> options = cuda::device_options();
  options.push_back(
      "--device-as-default-execution-space");  // NVRTC asks it for generic lambdas within device functions
  options.push_back(fmt::format("--gpu-architecture={}_{}", assembled ? "compute" : "sm", target.isa));
  std::vector<const char*> arguments;
  for (const std::string& o : options) arguments.push_back(o.c_str());
  if (const int r = f.compile(program, static_cast<int>(arguments.size()), arguments.data()); r != 0) {
    return error(Code::kInternal, "kernel {} for {}: {}: {}", name, target.name, f.error_text(r),
                 read_log(program, f.log_size, f.log));
  }
  const auto get = [&](int (*size)(void*, size_t*), int (*read)(void*, char*), std::string& out) -> Status {
    size_t bytes = 0;
    int r = size(program, &bytes);
    out.resize(bytes);
    if (r == 0 && bytes > 0) r = read(program, out.data());
    if (r != 0 || bytes == 0) return error(Code::kInternal, "kernel {}: no code: {}", name, f.error_text(r));
    return {};
  };
  GpuCode code;
  if (want_ptx || assembled) TRY(get(f.ptx_size, f.ptx, code.ptx));
  if (assembled) {
    TRY_ASSIGN(code.cubin, assemble(code.ptx, name, target));
  } else {
    TRY(get(f.cubin_size, f.cubin, code.cubin));
  }
  if (!want_ptx) code.ptx.clear();
  return code;
}

Result<std::string> Nvrtc::assemble(const std::string& ptx, const std::string& name, const cuda::Target& target) const {
  if (linker_ == nullptr) {
    return unsupported(
        "--isa sm_{} for {} needs nvJitLink of version {} or newer, and none was found (pip install "
        "nvidia-nvjitlink-cu12)",
        target.isa, target.name, major_);
  }
  const Linker& l = *linker_;
  const std::string architecture = fmt::format("-arch=sm_{}", target.sm);
  const char* options[] = {architecture.c_str()};
  void* handle = nullptr;
  if (const int r = l.create(&handle, 1, options); r != 0) {
    return error(Code::kInternal, "kernel {}: nvJitLinkCreate: error {}", name, r);
  }
  const std::unique_ptr<void, std::function<void(void*)>> owner(handle, [&](void* p) { l.destroy(&p); });
  int r = l.add(handle, kLinkInputPtx, ptx.data(), ptx.size(), name.c_str());
  if (r == 0) r = l.complete(handle);
  size_t bytes = 0;
  if (r == 0) r = l.cubin_size(handle, &bytes);
  std::string cubin(bytes, '\0');
  if (r == 0) r = l.cubin(handle, cubin.data());
  if (r != 0) {
    return error(Code::kInternal, "kernel {} for {}: nvJitLink: error {}: {}", name, target.name, r,
                 read_log(handle, l.log_size, l.log));
  }
  return cubin;
}

}  // namespace ll
