// The outer file of a plan: header, section table, sections, footer. Byte layout: docs/plan-format.md.
// Shared by the writer and the reader; knows nothing of what the sections hold.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/plan/checksum.h"

namespace ll {

inline constexpr uint16_t kPlanMajor = 1;  // readers refuse a newer one
inline constexpr uint16_t kPlanMinor = 0;  // readers accept a newer one: it only adds what they may ignore
inline constexpr uint64_t kPlanHeaderBytes = 4096;
inline constexpr uint64_t kPlanFooterBytes = 32;
inline constexpr uint32_t kMaxSections = 64;
inline constexpr uint64_t kWeightChunkBytes = 16u << 20;  // one entry of the weight hashes
inline constexpr uint64_t kTensorAlignment = 64;          // of tensors within the weights section

// Required features: a reader that does not know a set bit refuses the plan.
inline constexpr uint64_t kFeatureSources = 1;  // weights lie in source files (--weights reference)
inline constexpr uint64_t kFeatureGpu = 2;      // has programs and code for GPUs
inline constexpr uint64_t kKnownFeatures = kFeatureSources | kFeatureGpu;

// In file order. Values are written in plans: append only.
enum class SectionType : uint32_t {
  kMetadata = 1,      // FlatBuffer, schemas/plan.fbs
  kTokenizer = 2,     // runtime/text/tokenizer_spec.h
  kTemplate = 3,      // chat template, Jinja text
  kGraph = 4,         // .llir text of the graph, for explain
  kWeights = 5,       // tensors in their final layout, mapped at run time
  kWeightHashes = 6,  // XXH3-128 of each chunk of the weights
  kGpuCode = 7,       // cubins and PTX of GPU targets
};

// What is fixed about a section type.
struct SectionRule {
  SectionType type;
  std::string_view name;
  uint64_t alignment;
  uint64_t max_bytes;
};
const SectionRule* find_section_rule(uint32_t type);  // null for a type that this build does not know
const SectionRule& section_rule(SectionType type);
std::string_view section_name(uint32_t type);  // "metadata"; "unknown"

struct Section {
  uint32_t type = 0;  // SectionType, or one that a newer minor added
  uint32_t alignment = 0;
  uint64_t offset = 0, bytes = 0;
  Hash128 hash;  // of the bytes; for weights: of the weight hashes section
};

struct PlanHeader {
  uint16_t major = kPlanMajor, minor = kPlanMinor;
  uint64_t required = 0, optional = 0;
  uint64_t file_bytes = 0;
  uint64_t checksum = 0;  // filled by decode_header
  std::vector<Section> sections;

  const Section* find(SectionType type) const;
};

// The header with its table and checksum.
std::array<std::byte, kPlanHeaderBytes> encode_header(const PlanHeader& header);
std::array<std::byte, kPlanFooterBytes> encode_footer(std::span<const std::byte, kPlanHeaderBytes> header);

// Checks everything the header can tell: magic, version, features, checksum, length against `file_bytes`, and that the
// sections lie one after another, each known one within its limit, with room for the footer at the end.
// `start` holds the file's first bytes, kPlanHeaderBytes of them unless the file is shorter.
Result<PlanHeader> decode_header(std::span<const std::byte> start, uint64_t file_bytes);
// Compares the file's last kPlanFooterBytes with the header.
Status check_footer(std::span<const std::byte> footer, const PlanHeader& header);

// Where the footer starts: the end of the last section, rounded up to its alignment.
uint64_t footer_offset(std::span<const Section> sections);

}  // namespace ll
