#include "runtime/plan/weights.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <system_error>
#include <thread>

#include "kernels/quant/formats.h"
#include "runtime/base/checked.h"
#include "runtime/base/escape.h"
#include "runtime/base/mapped_file.h"
#include "runtime/plan/checksum.h"
#include "runtime/plan/container.h"
#include "runtime/plan/repack.h"

namespace ll {
namespace {

constexpr uint64_t kHashPiece = 16u << 20;

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<MappedFile> open_source(const PlanSource& source, const std::string& folder) {
  const std::string path = fmt::format("{}/{}", folder, source.name);
  auto file = MappedFile::open(path);
  if (!file) {
    return std::move(file).error().in("the plan's weights lie in another file (--weights reference)");
  }
  const auto bytes = file->bytes();
  if (bytes.size() != source.size) {
    return bad_data("{} has {} bytes, the plan was made from one of {}", quote(path), bytes.size(), source.size);
  }
  Hash128Stream hash;
  for (uint64_t done = 0; done < bytes.size(); done += kHashPiece) {
    hash.add(bytes.subspan(done, std::min<uint64_t>(kHashPiece, bytes.size() - done)));
  }
  const Hash128 found = hash.finish(), expected{source.hash_low, source.hash_high};
  if (found != expected) {
    return bad_data("{} has checksum {}, the plan was made from one of {}", quote(path), found.hex(), expected.hex());
  }
  return file;
}

// Some rows of one tensor: what a thread repacks at a time.
struct Piece {
  const PlanTensor* tensor;
  const std::byte* source;
  int64_t rows;
  std::byte* out;
};

void add_pieces(const PlanTensor& t, const std::byte* source, std::byte* out, std::vector<Piece>& pieces) {
  constexpr int64_t kPieceBytes = 1 << 20;
  const int64_t grain = repack_grain(t.type), source_row = row_bytes(t.source_dtype, t.type.last().value);
  const int64_t step = std::max<int64_t>(1, kPieceBytes / (grain * source_row)) * grain;
  const int64_t rows = weight_rows(t.type);
  for (int64_t r = 0; r < rows; r += step) {
    pieces.push_back({&t, source + r * source_row, std::min(step, rows - r), out + repacked_bytes(t.type, r)});
  }
}

}  // namespace

void Weights::Free::operator()(std::byte* p) const { std::free(p); }

Result<Weights> Weights::load(const ValidatedPlan& plan, const std::string& folder, int threads) {
  Weights weights;
  std::vector<MappedFile> files;
  for (const PlanSource& s : plan->sources) {
    TRY_ASSIGN(MappedFile file, open_source(s, folder.empty() ? folder_of(plan->path) : folder));
    files.push_back(std::move(file));
  }
  std::vector<uint64_t> offsets;
  uint64_t total = 0;
  const std::vector<bool> used = plan->tensors_in_use();
  for (const PlanTensor& t : plan->tensors) {
    offsets.push_back(total);
    if (t.source < 0 || !used[offsets.size() - 1]) continue;
    const auto end = checked_add(total, t.bytes);
    const auto next = end ? checked_align_up(*end, kTensorAlignment) : std::nullopt;
    if (!next) return bad_data("the weights are larger than an address space");
    total = *next;
  }
  if (total > 0) {
    weights.memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kTensorAlignment, total)));
    if (weights.memory_ == nullptr) return error(Code::kOutOfMemory, "cannot allocate {} bytes for the weights", total);
  }
  std::vector<Piece> pieces;
  for (size_t i = 0; i < plan->tensors.size(); ++i) {
    const PlanTensor& t = plan->tensors[i];
    weights.data_.push_back(t.source < 0 ? t.data : used[i] ? weights.memory_.get() + offsets[i] : nullptr);
    if (t.source < 0 || !used[i]) continue;
    const auto file = files[static_cast<size_t>(t.source)].bytes();
    add_pieces(t, file.data() + t.source_offset, weights.memory_.get() + offsets[i], pieces);
  }
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < pieces.size(); i = next++) {
      const Piece& p = pieces[i];
      repack_rows(p.tensor->type, p.tensor->source_dtype, p.source, p.rows, p.out);
    }
  };
  std::vector<std::thread> team;
  try {
    for (int i = 1; i < threads && static_cast<size_t>(i) < pieces.size(); ++i) team.emplace_back(work);
  } catch (const std::system_error&) {
    // The machine gives no more threads: those that started, and this one, do the work.
  }
  work();
  for (std::thread& t : team) t.join();
  return weights;
}

}  // namespace ll
