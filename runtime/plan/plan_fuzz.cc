// Hostile plans. The first byte chooses the entry:
//   'M'  bytes 4..7 length of the weights section, byte 1 the sources feature; from 8: metadata, straight into
//        validate_plan
//   'G'  the same, bytes 8..11 length of the section of GPU code; from 12: that section, then metadata
//   'S'  a plan file whose checksums are made right first, so that what lies behind them is reached
//   else a plan file as it is
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/plan/container.h"
#include "runtime/plan/describe.h"
#include "runtime/plan/gpu_memory.h"
#include "runtime/plan/validate.h"

namespace {

void fuzz_metadata(const uint8_t* data, size_t size) {
  const size_t start = data[0] == 'G' ? 12 : 8;
  if (size < start) return;
  uint32_t weights_bytes = 0, code_bytes = 0;
  std::memcpy(&weights_bytes, data + 4, 4);
  if (data[0] == 'G') std::memcpy(&code_bytes, data + 8, 4);
  const auto bytes = std::as_bytes(std::span(data + start, size - start));
  const auto code_end = bytes.begin() + static_cast<ptrdiff_t>(std::min<size_t>(code_bytes, bytes.size()));
  const std::vector<std::byte> code(bytes.begin(), code_end);
  const std::vector<std::byte> metadata(code_end, bytes.end());  // aligned, as a reader's copy is
  ll::Plan plan;
  if (const ll::Status s = ll::validate_plan(metadata, weights_bytes, (data[1] & 1) != 0, plan, code); !s) return;
  if (plan.programs.empty() || ll::describe_plan_json(plan).empty()) std::abort();
  if (plan.backend != ll::Backend::kGpu) std::swap(plan.programs, plan.other_programs);
  for (const ll::GpuTarget& t : plan.gpu_targets) {
    const ll::GpuMemory memory(plan, t);
    if (memory.total < memory.weight_bytes || memory.runs.size() > plan.tensors.size()) std::abort();
  }
}

uint64_t number(const std::vector<std::byte>& bytes, size_t at) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// Rewrites section hashes, header checksum, lengths and footer. The numbers of the section table stay as they are.
void reseal(std::vector<std::byte>& bytes) {
  const size_t size = bytes.size();
  if (size < ll::kPlanHeaderBytes + ll::kPlanFooterBytes) return;
  ll::PlanHeader header;
  header.required = number(bytes, 24);
  header.optional = number(bytes, 32);
  header.file_bytes = size;
  const uint64_t count = std::min<uint64_t>(number(bytes, 48) & 0xffffffff, ll::kMaxSections);
  for (uint64_t i = 0; i < count; ++i) {
    const size_t at = 1024 + 48 * i;
    ll::Section s;
    std::memcpy(&s.type, bytes.data() + at, 4);
    std::memcpy(&s.alignment, bytes.data() + at + 4, 4);
    s.offset = number(bytes, at + 8);
    s.bytes = number(bytes, at + 16);
    if (s.offset <= size && s.bytes <= size - s.offset)
      s.hash = ll::hash128(std::span(bytes).subspan(s.offset, s.bytes));
    header.sections.push_back(s);
  }
  for (ll::Section& s : header.sections) {
    if (s.type == static_cast<uint32_t>(ll::SectionType::kWeights)) s.hash = header.sections.back().hash;
  }
  const auto sealed = ll::encode_header(header);
  std::copy(sealed.begin(), sealed.end(), bytes.begin());
  const auto footer = ll::encode_footer(sealed);
  std::copy(footer.begin(), footer.end(), bytes.end() - ll::kPlanFooterBytes);
}

void fuzz_file(const std::vector<std::byte>& bytes) {
  static const int fd = memfd_create("plan", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes.size())) != 0) std::abort();
  if (pwrite(fd, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) std::abort();
  const auto plan = ll::open_plan(path, {.verify_weights = true});
  if (plan && ll::describe_plan(**plan).empty()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  if (data[0] == 'M' || data[0] == 'G') {
    fuzz_metadata(data, size);
    return 0;
  }
  const auto input = std::as_bytes(std::span(data, size));
  std::vector<std::byte> bytes(input.begin(), input.end());
  if (data[0] == 'S') {
    bytes.erase(bytes.begin());
    reseal(bytes);
  }
  fuzz_file(bytes);
  return 0;
}
