// Writes a plan file: docs/plan-format.md.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "compiler/plan/draft.h"
#include "runtime/base/result.h"

namespace ll {

struct WriteOptions {
  bool embed = true;  // false: weights stay in their files, the plan names those by size and hash
  int threads = 2;    // that repack weights; the bytes written do not depend on it
  // Called from the calling thread with bytes done and in all, of weights written or hashed.
  std::function<void(uint64_t done, uint64_t total)> progress = {};
};

// Fills in where the draft's tensors lie: in the weights section, whose bytes it returns, or with `embed` false in
// their files. kBadData when the section would be larger than an address space.
Result<uint64_t> lay_out_tensors(PlanDraft& draft, bool embed);

// Lays the tensors out, names the source files (PlanSource), checks the metadata as a reader will (a failure
// there is kInternal), and writes the file whole or not at all. Beyond the mapped source files it needs the metadata
// and some buffers of a few MiB, whatever the weights' size; source pages leave memory once they are written.
Status write_plan(PlanDraft& draft, const std::string& path, const WriteOptions& options = {});

}  // namespace ll
