#include "compiler/plan/writer.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "compiler/plan/metadata.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/layouts.h"
#include "runtime/base/atomic_file.h"
#include "runtime/base/checked.h"
#include "runtime/plan/checksum.h"
#include "runtime/plan/container.h"
#include "runtime/plan/repack.h"
#include "runtime/plan/validate.h"

namespace ll {
namespace {

constexpr uint64_t kPieceBytes = 4u << 20;
constexpr size_t kPiecesInFlight = 6;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// Some rows of one tensor: a thread repacks them, then the writer appends them.
struct Piece {
  size_t tensor;
  int64_t first, rows;
};

// Repacks pieces on several threads and hands them over in order. Holds at most kPiecesInFlight of them.
class Repacker {
 public:
  Repacker(const PlanDraft& draft, const std::vector<Piece>& pieces, int threads) : draft_(draft), pieces_(pieces) {
    try {
      for (int i = 0; i < threads; ++i) team_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // The machine gives no more threads; take() repacks itself when there is none.
    }
  }
  ~Repacker() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : team_) t.join();
  }
  Repacker(const Repacker&) = delete;
  Repacker& operator=(const Repacker&) = delete;

  // Piece `index`, asked for in order; valid until the next call.
  std::span<const std::byte> take(size_t index) {
    std::vector<std::byte>& slot = slots_[index % kPiecesInFlight].bytes;
    if (team_.empty()) {
      repack(index, slot);
      return slot;
    }
    std::unique_lock lock(mutex_);
    taken_ = index;  // frees the piece before this one
    changed_.notify_all();
    changed_.wait(lock, [&] { return slots_[index % kPiecesInFlight].ready == index + 1; });
    return slot;
  }

 private:
  struct Slot {
    std::vector<std::byte> bytes;
    size_t ready = 0;  // 1 + the piece it holds
  };

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stop_ || next_ == pieces_.size() || next_ < taken_ + kPiecesInFlight; });
      if (stop_ || next_ == pieces_.size()) return;
      const size_t index = next_++;
      Slot& slot = slots_[index % kPiecesInFlight];
      lock.unlock();
      repack(index, slot.bytes);
      lock.lock();
      slot.ready = index + 1;
      changed_.notify_all();
    }
  }

  void repack(size_t index, std::vector<std::byte>& out) const {
    const Piece& p = pieces_[index];
    const TensorType& type = draft_.plan.tensors[p.tensor].type;
    const TensorData& data = draft_.data[p.tensor];
    const auto source_row = static_cast<size_t>(row_bytes(data.dtype, type.last().value));
    const size_t begin = static_cast<size_t>(p.first) * source_row;
    out.resize(static_cast<size_t>(repacked_bytes(type, p.rows)));
    repack_rows(type, data.dtype, data.bytes.data() + begin, p.rows, out.data());
    if (data.mapping != nullptr) {
      data.mapping->release(data.offset + begin, static_cast<size_t>(p.rows) * source_row);
    }
  }

  const PlanDraft& draft_;
  const std::vector<Piece>& pieces_;
  std::array<Slot, kPiecesInFlight> slots_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t next_ = 0, taken_ = 0;
  bool stop_ = false;
  std::vector<std::thread> team_;
};

std::vector<Piece> pieces_of(const Plan& plan) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlanTensor& t = plan.tensors[i];
    if (t.source >= 0) continue;
    const int64_t rows = weight_rows(t.type), grain = repack_grain(t.type);
    const auto panel = static_cast<uint64_t>(repacked_bytes(t.type, grain));
    const int64_t step = static_cast<int64_t>(std::max<uint64_t>(1, kPieceBytes / panel)) * grain;
    for (int64_t r = 0; r < rows; r += step) pieces.push_back({i, r, std::min(step, rows - r)});
  }
  return pieces;
}

class Writer {
 public:
  Writer(PlanDraft& draft, const WriteOptions& options) : draft_(draft), options_(options) {}

  Status run(const std::string& path) {
    TRY(lay_out());
    const std::vector<std::byte> metadata = encode_metadata(draft_.plan);
    TRY(check_as_reader(metadata));
    TRY_ASSIGN(AtomicFile file, AtomicFile::create(path));
    file_ = &file;
    TRY(file.write(std::vector<std::byte>(kPlanHeaderBytes)));
    TRY(section(SectionType::kMetadata, metadata));
    TRY(section(SectionType::kTokenizer, bytes_of(draft_.tokenizer)));
    TRY(section(SectionType::kTemplate, bytes_of(draft_.chat_template)));
    TRY(section(SectionType::kGraph, bytes_of(draft_.graph)));
    if (weights_bytes_ > 0) TRY(weights());
    TRY(section(SectionType::kGpuCode, bytes_of(draft_.gpu_code)));
    return finish();
  }

 private:
  Status lay_out() {
    draft_.plan.sources.clear();
    if (!options_.embed) TRY(hash_sources());
    TRY_ASSIGN(weights_bytes_, lay_out_tensors(draft_, options_.embed));
    return {};
  }

  Status hash_sources() {
    uint64_t total = 0, done = 0;
    for (const DraftSource& s : draft_.sources) total += s.bytes.size();
    for (const DraftSource& s : draft_.sources) {
      Hash128Stream hash;
      for (uint64_t at = 0; at < s.bytes.size(); at += kWeightChunkBytes) {
        const auto piece = s.bytes.subspan(at, std::min<uint64_t>(kWeightChunkBytes, s.bytes.size() - at));
        hash.add(piece);
        if (s.mapping != nullptr) s.mapping->release(at, piece.size());
        done += piece.size();
        if (options_.progress) options_.progress(done, total);
      }
      const Hash128 h = hash.finish();
      draft_.plan.sources.push_back({draft_.intern(s.name), s.bytes.size(), h.low, h.high});
    }
    return {};
  }

  // Nothing is written that a reader would refuse.
  Status check_as_reader(std::span<const std::byte> metadata) const {
    const SectionRule& rule = section_rule(SectionType::kMetadata);
    if (metadata.size() > rule.max_bytes) {
      return unsupported("the plan's metadata has {} bytes, more than the limit of {}", metadata.size(),
                         rule.max_bytes);
    }
    Plan copy;
    if (Status s =
            validate_plan(metadata, weights_bytes_, !draft_.plan.sources.empty(), copy, bytes_of(draft_.gpu_code));
        !s) {
      return error(Code::kInternal, "the plan made does not pass validation: {}", s.error().message);
    }
    return {};
  }

  void begin(SectionType type) {
    const SectionRule& rule = section_rule(type);
    header_.sections.push_back(
        {static_cast<uint32_t>(type), static_cast<uint32_t>(rule.alignment), file_->size(), 0, {}});
  }

  Status section(SectionType type, std::span<const std::byte> bytes) {
    if (bytes.empty()) return {};
    const SectionRule& rule = section_rule(type);
    if (bytes.size() > rule.max_bytes) {
      return unsupported("section {} would have {} bytes, more than the limit of {}", rule.name, bytes.size(),
                         rule.max_bytes);
    }
    TRY(file_->pad_to(rule.alignment));
    begin(type);
    TRY(file_->write(bytes));
    header_.sections.back().bytes = bytes.size();
    header_.sections.back().hash = hash128(bytes);
    return {};
  }

  // Appends to the weights section and hashes it chunk by chunk.
  Status append(std::span<const std::byte> bytes) {
    TRY(file_->write(bytes));
    while (!bytes.empty()) {
      const size_t n = std::min<uint64_t>(bytes.size(), kWeightChunkBytes - in_chunk_);
      chunk_->add(bytes.first(n));
      bytes = bytes.subspan(n);
      in_chunk_ += n;
      if (in_chunk_ == kWeightChunkBytes) end_chunk();
    }
    return {};
  }
  void end_chunk() {
    hashes_.push_back(chunk_->finish());
    chunk_.emplace();
    in_chunk_ = 0;
  }

  Status weights() {
    TRY(file_->pad_to(section_rule(SectionType::kWeights).alignment));
    begin(SectionType::kWeights);
    const size_t index = header_.sections.size() - 1;
    const uint64_t start = file_->size();
    chunk_.emplace();
    const std::vector<Piece> pieces = pieces_of(draft_.plan);
    Repacker repacker(draft_, pieces, std::max(1, options_.threads));
    static constexpr std::byte kZeros[kTensorAlignment] = {};
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (pieces[i].first == 0) {
        const uint64_t gap = draft_.plan.tensors[pieces[i].tensor].source_offset - (file_->size() - start);
        TRY(append(std::span(kZeros).first(gap)));
      }
      TRY(append(repacker.take(i)));
      if (options_.progress) options_.progress(file_->size() - start, weights_bytes_);
    }
    if (in_chunk_ > 0) end_chunk();
    header_.sections[index].bytes = file_->size() - start;
    TRY(section(SectionType::kWeightHashes, std::as_bytes(std::span(hashes_))));
    header_.sections[index].hash = header_.sections.back().hash;
    return {};
  }

  Status finish() {
    TRY(file_->pad_to(kTensorAlignment));
    header_.required = draft_.plan.sources.empty() ? 0 : kFeatureSources;
    if (!draft_.plan.gpu_targets.empty()) header_.required |= kFeatureGpu;
    header_.file_bytes = file_->size() + kPlanFooterBytes;
    const auto header = encode_header(header_);
    TRY(file_->write(encode_footer(header)));
    TRY(file_->write_at(0, header));
    return file_->commit();
  }

  PlanDraft& draft_;
  const WriteOptions& options_;
  AtomicFile* file_ = nullptr;
  PlanHeader header_;
  uint64_t weights_bytes_ = 0;
  std::vector<Hash128> hashes_;
  std::optional<Hash128Stream> chunk_;
  uint64_t in_chunk_ = 0;
};

}  // namespace

Result<uint64_t> lay_out_tensors(PlanDraft& draft, bool embed) {
  uint64_t end = 0;
  for (size_t i = 0; i < draft.plan.tensors.size(); ++i) {
    PlanTensor& t = draft.plan.tensors[i];
    const TensorData& d = draft.data[i];
    t.bytes = static_cast<uint64_t>(repacked_bytes(t.type, weight_rows(t.type)));
    if (!embed && d.source >= 0) {
      t.source = d.source;
      t.source_dtype = d.dtype;
      t.source_offset = d.offset;
      t.source_bytes = d.bytes.size();
      continue;
    }
    const auto start = checked_align_up(end, kTensorAlignment);
    const auto next = start ? checked_add(*start, t.bytes) : std::nullopt;
    if (!next) return bad_data("the weights are larger than a plan can hold");
    t.source = -1;
    t.source_offset = *start;
    t.source_bytes = t.bytes;
    end = *next;
  }
  return end;
}

Status write_plan(PlanDraft& draft, const std::string& path, const WriteOptions& options) {
  return Writer(draft, options).run(path);
}

}  // namespace ll
