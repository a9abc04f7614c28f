#include "compiler/codegen/cubin_cache.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "runtime/base/atomic_file.h"

namespace ll {
namespace {

namespace fs = std::filesystem;

// A file: this header, the cubin, the PTX.
struct Header {
  char magic[8];
  Hash128 key, contents;  // contents: of the bytes behind the header
  uint64_t cubin_bytes, ptx_bytes;
};
constexpr char kMagic[8] = {'L', 'L', 'C', 'U', 'B', 'I', 'N', '1'};
constexpr uint64_t kMostBytes = 64u << 20;

std::string default_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return fmt::format("{}/llcuda/cubins", cache);
  const char* home = std::getenv("HOME");
  return home != nullptr && home[0] == '/' ? fmt::format("{}/.cache/llcuda/cubins", home) : "";
}

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

}  // namespace

CubinCache::CubinCache(const std::string& folder)
    : folder_(folder == "off"  ? ""
              : folder.empty() ? default_folder()
                               : folder) {
  if (folder_.empty()) return;
  std::error_code failed;
  fs::create_directories(folder_, failed);
  if (failed) folder_.clear();
}

std::string CubinCache::path(const Hash128& key) const { return fmt::format("{}/{}", folder_, key.hex()); }

std::optional<GpuCode> CubinCache::find(const Hash128& key, bool want_ptx) const {
  if (folder_.empty()) return std::nullopt;
  std::ifstream file(path(key), std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  Header h;
  if (!file || text.size() < sizeof h || text.size() > kMostBytes) return std::nullopt;
  std::memcpy(&h, text.data(), sizeof h);
  const std::string contents = text.substr(sizeof h);
  const bool whole = std::memcmp(h.magic, kMagic, sizeof kMagic) == 0 && h.key == key &&
                     h.cubin_bytes <= contents.size() && h.ptx_bytes == contents.size() - h.cubin_bytes &&
                     h.cubin_bytes > 0 && h.contents == hash128(bytes_of(contents));
  if (!whole || (want_ptx && h.ptx_bytes == 0)) return std::nullopt;
  GpuCode code{contents.substr(0, h.cubin_bytes), contents.substr(h.cubin_bytes)};
  if (!want_ptx) code.ptx.clear();
  return code;
}

void CubinCache::store(const Hash128& key, const GpuCode& code) const {
  if (folder_.empty()) return;
  auto file = AtomicFile::create(path(key));
  if (!file) return;
  const std::string contents = code.cubin + code.ptx;
  Header h{{}, key, hash128(bytes_of(contents)), code.cubin.size(), code.ptx.size()};
  std::memcpy(h.magic, kMagic, sizeof kMagic);
  if (!file->write(std::as_bytes(std::span(&h, 1))) || !file->write(bytes_of(contents))) return;
  (void)file->commit();
}

void CubinCache::trim(uint64_t bytes) const {
  if (folder_.empty()) return;
  struct File {
    fs::file_time_type written;
    uint64_t bytes;
    fs::path path;
  };
  std::vector<File> files;
  uint64_t total = 0;
  std::error_code failed;
  for (fs::directory_iterator i(folder_, failed), end; !failed && i != end; i.increment(failed)) {
    std::error_code gone;
    const File f{i->last_write_time(gone), i->file_size(gone), i->path()};
    if (gone) continue;
    total += f.bytes;
    files.push_back(f);
  }
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.written < b.written; });
  for (const File& f : files) {
    if (total <= bytes) break;
    if (fs::remove(f.path, failed)) total -= f.bytes;
  }
}

}  // namespace ll
