// Code objects that earlier compiles made, by what they were made from. Files of their own below
// $XDG_CACHE_HOME/llcuda/cubins (else ~/.cache); safe to delete at any time, also while compiles run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "compiler/codegen/nvrtc.h"
#include "runtime/plan/checksum.h"

namespace ll {

inline constexpr uint64_t kCubinCacheBytes = uint64_t{512} << 20;

class CubinCache {
 public:
  // Empty folder: the default one; "off": no cache. A folder that cannot be made means no cache, not an error.
  explicit CubinCache(const std::string& folder);

  // What was stored under `key`. Nothing for a file that is missing, damaged or another key's.
  std::optional<GpuCode> find(const Hash128& key, bool want_ptx) const;
  // Failures are ignored: the next compile does the work again.
  void store(const Hash128& key, const GpuCode& code) const;
  // Deletes the files least recently written until at most `bytes` are left.
  void trim(uint64_t bytes = kCubinCacheBytes) const;

  const std::string& folder() const { return folder_; }  // empty: no cache

 private:
  std::string path(const Hash128& key) const;
  std::string folder_;
};

}  // namespace ll
