// From the metadata section's bytes to a Plan, or to an error that says what is wrong. Nothing else reads the
// FlatBuffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/base/result.h"
#include "runtime/plan/plan.h"

namespace ll {

// Limits of a plan. Beyond them is an error that names the limit.
inline constexpr uint32_t kMaxPrograms = 64;
inline constexpr uint32_t kMaxLaunches = 1u << 16;  // of one program
inline constexpr uint32_t kMaxPlanTensors = 1u << 18;
inline constexpr uint32_t kMaxKvCaches = 4096;
inline constexpr uint32_t kMaxPlanSources = 4096;
inline constexpr uint32_t kMaxPlanTables = 1u << 21;  // of the FlatBuffer, and no more than it has bytes
inline constexpr uint32_t kMaxLaunchInputs = 64, kMaxLaunchOutputs = 8, kMaxLaunchAttrs = 32;
inline constexpr uint32_t kMaxPlanTokens = 1u << 16;  // of one step
inline constexpr uint32_t kMaxVocabulary = 1u << 24;
inline constexpr uint32_t kMaxContext = 1u << 27;
inline constexpr uint64_t kMaxArenaBytes = uint64_t{1} << 40;
inline constexpr uint64_t kMaxScratchBytes = uint64_t{1} << 32;  // of one thread
inline constexpr uint64_t kMaxKvPoolBytes = uint64_t{1} << 46;
inline constexpr uint32_t kMaxGpuTargets = 16;
inline constexpr uint32_t kMaxGpuKernels = 8192;       // of one target
inline constexpr uint32_t kMaxGpuNodes = 16;           // of one launch
inline constexpr uint32_t kMaxGpuShared = 227u << 10;  // of one block, static and dynamic

// Verifies the FlatBuffer and everything the metadata says, and fills `plan` (all but path, sections, tokenizer,
// template, graph and the tensors' data). `metadata` is 16-byte aligned and outlives the plan, whose names are views
// into it.
//   weights_bytes   length of the weights section; 0 without one
//   has_sources     the header's feature bit kFeatureSources
//   gpu_code        the section of GPU code, which the plan's kernels are views into; outlives the plan
// After it, every launch is safe to run on an arena, KV pool and step inputs of the sizes the plan states: operands lie
// inside their memory, kernels have accepted the types, indices come from step inputs alone, no launch reads arena
// bytes that the program has not written as this very tensor, and outputs overlap inputs only where the kernel works in
// place. What GPU kernels do with their operands cannot be proven: such plans are trusted like programs, but grids,
// blocks, shared memory and workspace are within the limits of any device, and the code objects are well formed and
// hold the functions that are named.
Status validate_plan(std::span<const std::byte> metadata, uint64_t weights_bytes, bool has_sources, Plan& plan,
                     std::span<const std::byte> gpu_code = {});

}  // namespace ll
