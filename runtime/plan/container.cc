#include "runtime/plan/container.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/base/byte_reader.h"
#include "runtime/base/checked.h"
#include "runtime/base/file_magic.h"

namespace ll {
namespace {

static_assert(std::endian::native == std::endian::little, "plans are read and written in the machine's byte order");

// As in PNG: the high bit catches 7-bit transfers, CR-LF and LF text conversions, 0x1A the DOS end of file.
constexpr std::array<unsigned char, 16> kMagic = {0x89, 'L', 'L', 'C', 'P', '\r', '\n', 0x1a,
                                                  '\n', 0,   0,   0,   0,   0,    0,    0};
constexpr std::array<unsigned char, 16> kEndMagic = {'L',  'L',  'C',  'P',  '-', 'E', 'N', 'D',
                                                     '\r', '\n', 0x1a, '\n', 0,   0,   0,   0};
constexpr size_t kChecksumOffset = 56, kTableOffset = 1024, kEntryBytes = 48;
static_assert(kTableOffset + kMaxSections * kEntryBytes == kPlanHeaderBytes);
constexpr uint64_t kFooterAlignment = 64;

constexpr uint64_t kMiB = 1u << 20;
constexpr SectionRule kRules[] = {
    {SectionType::kMetadata, "metadata", 64, 64 * kMiB},
    {SectionType::kTokenizer, "tokenizer", 64, 256 * kMiB},
    {SectionType::kTemplate, "template", 64, 1 * kMiB},
    {SectionType::kGraph, "graph", 64, 64 * kMiB},
    {SectionType::kWeights, "weights", 4096, uint64_t{1} << 46},
    {SectionType::kWeightHashes, "weight hashes", 64, 64 * kMiB},
    {SectionType::kGpuCode, "gpu code", 64, 256 * kMiB},
};

template <class T>
void put(std::span<std::byte> out, size_t offset, T value) {
  std::memcpy(out.data() + offset, &value, sizeof value);
}

bool has_magic(std::span<const std::byte> bytes, std::span<const unsigned char> magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

uint64_t checksum_of(std::span<const std::byte> header) {
  std::array<std::byte, kPlanHeaderBytes> copy;
  std::memcpy(copy.data(), header.data(), copy.size());
  put(copy, kChecksumOffset, uint64_t{0});
  return hash64(copy);
}

Status check_zero(std::span<const std::byte> bytes, size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    if (bytes[i] != std::byte{0}) {
      return bad_data("byte {} is {:#x}, expected zero padding", i, std::to_integer<unsigned>(bytes[i]));
    }
  }
  return {};
}

Error no_magic(std::span<const std::byte> start) {
  static constexpr unsigned char kName[] = {0x89, 'L', 'L', 'C', 'P'};
  if (has_magic(start, kName)) return bad_data("the magic bytes of the plan are damaged; was it copied in text mode?");
  if (const std::string_view kind = recognize(start); !kind.empty()) {
    return bad_data("not a plan: the file is {}", kind);
  }
  return bad_data("not a plan: it does not start with the magic bytes of a .llcp file");
}

Result<Section> decode_section(ByteReader& reader) {
  Section s;
  TRY_ASSIGN(s.type, reader.read<uint32_t>());
  TRY_ASSIGN(s.alignment, reader.read<uint32_t>());
  TRY_ASSIGN(s.offset, reader.read<uint64_t>());
  TRY_ASSIGN(s.bytes, reader.read<uint64_t>());
  TRY_ASSIGN(const uint64_t reserved, reader.read<uint64_t>());
  TRY_ASSIGN(s.hash.low, reader.read<uint64_t>());
  TRY_ASSIGN(s.hash.high, reader.read<uint64_t>());
  if (reserved != 0) return bad_data("reserved field is {:#x}, expected 0", reserved);
  return s;
}

// `end`: where the previous section stopped; moved to the end of this one.
Status check_section(const Section& s, uint32_t previous_type, uint64_t file_bytes, uint64_t& end) {
  if (s.type <= previous_type)
    return bad_data("type {} follows type {}, expected ascending types", s.type, previous_type);
  if (!std::has_single_bit(s.alignment) || s.alignment < 64 || s.alignment > 4096) {
    return bad_data("alignment {}, expected a power of two from 64 to 4096", s.alignment);
  }
  if (const SectionRule* rule = find_section_rule(s.type)) {
    if (s.alignment != rule->alignment) return bad_data("alignment {}, expected {}", s.alignment, rule->alignment);
    if (s.bytes > rule->max_bytes) return bad_data("{} bytes, more than the limit of {}", s.bytes, rule->max_bytes);
  }
  if (s.bytes == 0) return bad_data("is empty, expected at least one byte");
  const auto expected = checked_align_up(end, s.alignment);
  if (!expected || s.offset != *expected) {
    return bad_data("starts at {}, expected {} (after the section before it)", s.offset, expected.value_or(end));
  }
  if (!fits(s.offset, s.bytes, file_bytes)) {
    return bad_data("{} bytes at {} reach beyond the end of the file ({} bytes)", s.bytes, s.offset, file_bytes);
  }
  end = s.offset + s.bytes;
  return {};
}

Status check_version(const PlanHeader& h) {
  if (h.major == 0) return bad_data("format version 0.{}, expected {}.x", h.minor, kPlanMajor);
  if (h.major > kPlanMajor) {
    return unsupported("format version {}.{} is newer than this build reads ({}.x)", h.major, h.minor, kPlanMajor);
  }
  return {};
}

}  // namespace

const SectionRule* find_section_rule(uint32_t type) {
  for (const SectionRule& rule : kRules) {
    if (static_cast<uint32_t>(rule.type) == type) return &rule;
  }
  return nullptr;
}

const SectionRule& section_rule(SectionType type) { return *find_section_rule(static_cast<uint32_t>(type)); }

std::string_view section_name(uint32_t type) {
  const SectionRule* rule = find_section_rule(type);
  return rule != nullptr ? rule->name : "unknown";
}

const Section* PlanHeader::find(SectionType type) const {
  for (const Section& s : sections) {
    if (s.type == static_cast<uint32_t>(type)) return &s;
  }
  return nullptr;
}

uint64_t footer_offset(std::span<const Section> sections) {
  const uint64_t end = sections.empty() ? kPlanHeaderBytes : sections.back().offset + sections.back().bytes;
  return (end + kFooterAlignment - 1) / kFooterAlignment * kFooterAlignment;
}

std::array<std::byte, kPlanHeaderBytes> encode_header(const PlanHeader& h) {
  std::array<std::byte, kPlanHeaderBytes> out{};
  put(out, 0, kMagic);
  put(out, 16, h.major);
  put(out, 18, h.minor);
  put(out, 20, static_cast<uint32_t>(kPlanHeaderBytes));
  put(out, 24, h.required);
  put(out, 32, h.optional);
  put(out, 40, h.file_bytes);
  put(out, 48, static_cast<uint32_t>(h.sections.size()));
  size_t at = kTableOffset;
  for (const Section& s : h.sections) {
    put(out, at, s.type);
    put(out, at + 4, s.alignment);
    put(out, at + 8, s.offset);
    put(out, at + 16, s.bytes);
    put(out, at + 32, s.hash.low);
    put(out, at + 40, s.hash.high);
    at += kEntryBytes;
  }
  put(out, kChecksumOffset, checksum_of(out));
  return out;
}

std::array<std::byte, kPlanFooterBytes> encode_footer(std::span<const std::byte, kPlanHeaderBytes> header) {
  std::array<std::byte, kPlanFooterBytes> out{};
  std::memcpy(out.data(), header.data() + 40, 8);
  std::memcpy(out.data() + 8, header.data() + kChecksumOffset, 8);
  put(out, 16, kEndMagic);
  return out;
}

Result<PlanHeader> decode_header(std::span<const std::byte> start, uint64_t file_bytes) {
  if (!has_magic(start, kMagic)) return no_magic(start);
  if (start.size() < kPlanHeaderBytes) {
    return bad_data("truncated: the file has {} bytes, a plan's header alone {}", start.size(), kPlanHeaderBytes);
  }
  const auto bytes = start.first(kPlanHeaderBytes);
  ByteReader reader(bytes);
  TRY(reader.seek(kMagic.size()));
  PlanHeader h;
  TRY_ASSIGN(h.major, reader.read<uint16_t>());
  TRY_ASSIGN(h.minor, reader.read<uint16_t>());
  TRY_ASSIGN(const uint32_t header_bytes, reader.read<uint32_t>());
  TRY_ASSIGN(h.required, reader.read<uint64_t>());
  TRY_ASSIGN(h.optional, reader.read<uint64_t>());
  TRY_ASSIGN(h.file_bytes, reader.read<uint64_t>());
  TRY_ASSIGN(const uint32_t count, reader.read<uint32_t>());
  TRY_ASSIGN(const uint32_t reserved, reader.read<uint32_t>());
  TRY_ASSIGN(h.checksum, reader.read<uint64_t>());
  // Before the checksum: another major version may place it elsewhere.
  TRY(check_version(h));
  if (const uint64_t found = checksum_of(bytes); found != h.checksum) {
    return bad_data("the header is damaged: checksum {:016x}, expected {:016x}", found, h.checksum);
  }
  if (const uint64_t unknown = h.required & ~kKnownFeatures; unknown != 0) {
    return unsupported("the plan requires features {:#x} that this build does not know", unknown);
  }
  if (header_bytes != kPlanHeaderBytes)
    return bad_data("header of {} bytes, expected {}", header_bytes, kPlanHeaderBytes);
  if (reserved != 0) return bad_data("reserved header field is {:#x}, expected 0", reserved);
  if (h.file_bytes != file_bytes) {
    return bad_data("{}: the file has {} bytes, its header says {}",
                    file_bytes < h.file_bytes ? "truncated" : "bytes were appended", file_bytes, h.file_bytes);
  }
  if (count > kMaxSections) return bad_data("{} sections, more than the limit of {}", count, kMaxSections);
  TRY(check_zero(bytes, kChecksumOffset + 8, kTableOffset));
  TRY(check_zero(bytes, kTableOffset + count * kEntryBytes, kPlanHeaderBytes));
  TRY(reader.seek(kTableOffset));
  uint64_t end = kPlanHeaderBytes;
  uint32_t previous = 0;
  for (uint32_t i = 0; i < count; ++i) {
    auto section = decode_section(reader);
    if (!section) return std::move(section).error().in(fmt::format("section {}", i));
    if (Status s = check_section(*section, previous, file_bytes, end); !s) {
      return std::move(s).error().in(fmt::format("section {} ({})", i, section_name(section->type)));
    }
    previous = section->type;
    h.sections.push_back(*section);
  }
  const uint64_t footer = footer_offset(h.sections);
  if (!fits(footer, kPlanFooterBytes, file_bytes) || footer + kPlanFooterBytes != file_bytes) {
    return bad_data("sections end at {} and the file at {}, expected a footer of {} bytes from {}", end, file_bytes,
                    kPlanFooterBytes, footer);
  }
  return h;
}

Status check_footer(std::span<const std::byte> footer, const PlanHeader& header) {
  ByteReader reader(footer);
  TRY_ASSIGN(const uint64_t file_bytes, reader.read<uint64_t>());
  TRY_ASSIGN(const uint64_t checksum, reader.read<uint64_t>());
  if (!has_magic(footer.subspan(reader.position()), kEndMagic)) return bad_data("footer: magic bytes are missing");
  if (file_bytes != header.file_bytes || checksum != header.checksum) {
    return bad_data("footer: length {} and checksum {:016x}, expected {} and {:016x} as in the header", file_bytes,
                    checksum, header.file_bytes, header.checksum);
  }
  return {};
}

}  // namespace ll
