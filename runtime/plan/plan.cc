#include "runtime/plan/plan.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/kv_layout.h"
#include "kernels/quant/formats.h"
#include "runtime/base/escape.h"
#include "runtime/base/mapped_file.h"
#include "runtime/plan/container.h"
#include "runtime/plan/validate.h"

namespace ll {
namespace {

// Owns a descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Status read_at(int fd, uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t n = pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return error(Code::kIo, "cannot read {} bytes at {}: {}", out.size(), offset, strerror(errno));
    if (n == 0) return bad_data("truncated while it was read, at {}", offset);
    offset += static_cast<uint64_t>(n);
    out = out.subspan(static_cast<size_t>(n));
  }
  return {};
}

// A read-only private mapping of a whole file.
class Mapping {
 public:
  Mapping() = default;
  ~Mapping() {
    if (data_ != nullptr) munmap(data_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  Status map(int fd, size_t size) {
    void* data = map_whole(fd, size);
    if (data == nullptr) return error(Code::kIo, "cannot map {} bytes: {}", size, strerror(errno));
    data_ = data;
    size_ = size;
    return {};
  }
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

std::string_view as_text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

struct ValidatedPlan::Storage {
  Plan plan;
  // Private copies: what was verified is what is used, whatever happens to the file.
  std::vector<std::byte> metadata, tokenizer, chat_template, graph, gpu_code;
  Mapping file;
  Descriptor descriptor;
};

ValidatedPlan::ValidatedPlan(std::unique_ptr<Storage> storage) : storage_(std::move(storage)) {}
ValidatedPlan::ValidatedPlan(ValidatedPlan&&) noexcept = default;
ValidatedPlan& ValidatedPlan::operator=(ValidatedPlan&&) noexcept = default;
ValidatedPlan::~ValidatedPlan() = default;
const Plan& ValidatedPlan::operator*() const { return storage_->plan; }

int64_t dense_row_bytes(const TensorType& type) {
  if (type.rank == 4) return kv_row_bytes(type.dtype, type.last().value);
  const Format* format = find_format(type.dtype);
  return type.rank == 1 ? format->block_bytes / format->block_elements : row_bytes(type.dtype, type.last().value);
}

bool Plan::has(Backend b) const { return b == backend ? !programs.empty() : !other_programs.empty(); }

std::vector<bool> Plan::tensors_in_use() const {
  std::vector<bool> used(tensors.size(), false);
  for (const Program& p : programs) {
    for (const Launch& l : p.launches) {
      for (const Operand& o : l.inputs) {
        if (o.space == Space::kWeight || o.space == Space::kConstant) used[o.index] = true;
      }
    }
  }
  return used;
}

void ValidatedPlan::select(Backend backend) {
  Plan& plan = storage_->plan;
  if (plan.backend == backend) return;
  assert(plan.has(backend));
  plan.backend = backend;
  std::swap(plan.programs, plan.other_programs);
  plan.arena_bytes = plan.scratch_bytes = plan.max_rows = 0;
  for (const Program& p : plan.programs) {
    plan.arena_bytes = std::max(plan.arena_bytes, p.arena_bytes);
    plan.scratch_bytes = std::max(plan.scratch_bytes, p.scratch_bytes);
    plan.max_rows = std::max(plan.max_rows, p.max_rows);
  }
}

const Program* Plan::program_for(uint32_t tokens, uint32_t sequences, uint32_t rows) const {
  for (const Program& p : programs) {
    if (tokens <= p.max_tokens && sequences <= p.max_sequences && rows <= p.max_rows) return &p;
  }
  return nullptr;
}

class PlanOpener {
 public:
  PlanOpener(Descriptor fd, uint64_t file_bytes)
      : descriptor_(std::move(fd)), fd_(descriptor_.get()), file_bytes_(file_bytes) {}

  Result<ValidatedPlan> open(const std::string& path, const OpenOptions& options) {
    auto storage = std::make_unique<ValidatedPlan::Storage>();
    storage_ = storage.get();
    storage_->plan.path = path;
    TRY(read_header());
    TRY(read_padding());
    TRY(copy(SectionType::kMetadata, storage_->metadata));
    TRY(copy(SectionType::kTokenizer, storage_->tokenizer));
    TRY(copy(SectionType::kTemplate, storage_->chat_template));
    TRY(copy(SectionType::kGraph, storage_->graph));
    TRY(copy(SectionType::kGpuCode, storage_->gpu_code));
    TRY(copy(SectionType::kWeightHashes, hashes_));
    TRY(check_hashes());
    Plan& plan = storage_->plan;
    const Section* weights = header_.find(SectionType::kWeights);
    TRY(validate_plan(storage_->metadata, weights != nullptr ? weights->bytes : 0,
                      (header_.required & kFeatureSources) != 0, plan, storage_->gpu_code));
    if (plan.gpu_targets.empty() == ((header_.required & kFeatureGpu) != 0)) {
      return bad_data("{} GPU targets, but the header's feature bit for them is {}", plan.gpu_targets.size(),
                      plan.gpu_targets.empty() ? "set" : "not set");
    }
    if (weights != nullptr) {
      TRY(storage_->file.map(fd_, file_bytes_));
      const auto bytes = storage_->file.bytes().subspan(weights->offset, weights->bytes);
      if (options.verify_weights) TRY(verify_weights(bytes));
      for (PlanTensor& t : plan.tensors) {
        if (t.source < 0) t.data = bytes.data() + t.source_offset;
      }
      plan.weights_offset = weights->offset;
    }
    if (options.verify_weights) TRY(verify_unknown_sections());
    plan.gpu_code = storage_->gpu_code;
    plan.tokenizer = storage_->tokenizer;
    plan.chat_template = as_text(storage_->chat_template);
    plan.graph = as_text(storage_->graph);
    for (const Section& s : header_.sections) {
      plan.sections.push_back({section_name(s.type), s.offset, s.bytes, s.hash.low, s.hash.high});
    }
    storage_->descriptor = std::move(descriptor_);
    plan.file = storage_->descriptor.get();
    return ValidatedPlan(std::move(storage));
  }

 private:
  Status read_header() {
    std::vector<std::byte> start(std::min(file_bytes_, kPlanHeaderBytes));
    TRY(read_at(fd_, 0, start));
    TRY_ASSIGN(header_, decode_header(start, file_bytes_));
    std::vector<std::byte> footer(kPlanFooterBytes);
    TRY(read_at(fd_, file_bytes_ - kPlanFooterBytes, footer));
    TRY(check_footer(footer, header_));
    if (header_.find(SectionType::kMetadata) == nullptr) return bad_data("the plan has no metadata section");
    return {};
  }

  // Bytes between sections are zero, so that every byte of the file is accounted for.
  Status read_padding() {
    uint64_t end = kPlanHeaderBytes;
    const auto check = [&](uint64_t next) -> Status {
      std::vector<std::byte> padding(next - end);
      TRY(read_at(fd_, end, padding));
      for (const std::byte b : padding) {
        if (b != std::byte{0}) return bad_data("padding between {} and {} holds a byte that is not zero", end, next);
      }
      return {};
    };
    for (const Section& s : header_.sections) {
      TRY(check(s.offset));
      end = s.offset + s.bytes;
    }
    return check(file_bytes_ - kPlanFooterBytes);
  }

  // Copies a section and compares its checksum; leaves `out` empty when the plan has none.
  Status copy(SectionType type, std::vector<std::byte>& out) {
    const Section* s = header_.find(type);
    if (s == nullptr) return {};
    out.resize(s->bytes);
    const std::string where = fmt::format("section {}", section_name(s->type));
    if (Status status = read_at(fd_, s->offset, out); !status) return std::move(status).error().in(where);
    return check_hash(hash128(out), s->hash, where);
  }

  static Status check_hash(const Hash128& found, const Hash128& expected, std::string_view where) {
    if (found == expected) return {};
    return bad_data("{} is damaged: checksum {}, expected {}", where, found.hex(), expected.hex());
  }

  Status check_hashes() const {
    const Section* weights = header_.find(SectionType::kWeights);
    const Section* list = header_.find(SectionType::kWeightHashes);
    if ((weights == nullptr) != (list == nullptr)) return bad_data("weights and weight hashes: one section is missing");
    if (weights == nullptr) return {};
    const uint64_t chunks = (weights->bytes + kWeightChunkBytes - 1) / kWeightChunkBytes;
    if (list->bytes != chunks * sizeof(Hash128)) {
      return bad_data("section weight hashes has {} bytes, expected {} for {} chunks", list->bytes,
                      chunks * sizeof(Hash128), chunks);
    }
    return check_hash(list->hash, weights->hash, "section table: entry of the weights");
  }

  Status verify_weights(std::span<const std::byte> weights) const {
    for (uint64_t i = 0; i * kWeightChunkBytes < weights.size(); ++i) {
      const uint64_t begin = i * kWeightChunkBytes;
      const uint64_t size = std::min<uint64_t>(kWeightChunkBytes, weights.size() - begin);
      Hash128 expected;
      std::memcpy(&expected, hashes_.data() + i * sizeof(Hash128), sizeof expected);
      TRY(check_hash(hash128(weights.subspan(begin, size)), expected, fmt::format("section weights, chunk {}", i)));
    }
    // Bytes between tensors are zero too.
    uint64_t end = 0;
    for (const PlanTensor& t : storage_->plan.tensors) {
      if (t.source >= 0) continue;
      for (; end < t.source_offset; ++end) {
        if (weights[end] != std::byte{0}) return bad_data("section weights: padding at {} is not zero", end);
      }
      end = t.source_offset + t.source_bytes;
    }
    return {};
  }

  // A newer minor version may add sections; we do not know what they hold, but we can tell damage.
  Status verify_unknown_sections() const {
    std::vector<std::byte> piece;
    for (const Section& s : header_.sections) {
      if (find_section_rule(s.type) != nullptr) continue;
      Hash128Stream hash;
      for (uint64_t done = 0; done < s.bytes; done += piece.size()) {
        piece.resize(std::min<uint64_t>(kWeightChunkBytes, s.bytes - done));
        TRY(read_at(fd_, s.offset + done, piece));
        hash.add(piece);
      }
      TRY(check_hash(hash.finish(), s.hash, fmt::format("section of unknown type {}", s.type)));
    }
    return {};
  }

  Descriptor descriptor_;
  const int fd_;
  const uint64_t file_bytes_;
  PlanHeader header_;
  std::vector<std::byte> hashes_;
  ValidatedPlan::Storage* storage_ = nullptr;
};

Result<ValidatedPlan> open_plan(const std::string& path, const OpenOptions& options) {
  // O_NONBLOCK: opening a FIFO by mistake must fail, not wait for a writer.
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return error(Code::kNoInput, "cannot open {}: {}", quote(path), strerror(errno));
  struct stat info {};
  if (fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return error(Code::kNoInput, "{} is not a regular file", quote(path));
  }
  auto plan = PlanOpener(std::move(fd), static_cast<uint64_t>(info.st_size)).open(path, options);
  if (!plan) return std::move(plan).error().in(path);
  return plan;
}

}  // namespace ll
