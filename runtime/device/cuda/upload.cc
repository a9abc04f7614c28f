#include "runtime/device/cuda/upload.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

namespace ll {
namespace {

using cuda::CuHandle;
using cuda::Driver;

constexpr unsigned kPortable = 1;       // CU_MEMHOSTALLOC_PORTABLE
constexpr unsigned kNonBlocking = 1;    // CU_STREAM_NON_BLOCKING
constexpr unsigned kDisableTiming = 2;  // CU_EVENT_DISABLE_TIMING

// One thread's stream and buffers.
class Lane {
 public:
  explicit Lane(const Driver& driver) : d_(driver) {}
  ~Lane() {
    if (stream_ != nullptr) d_.stream_wait(stream_);
    for (Buffer& b : buffers_) {
      if (b.copied != nullptr) d_.event_destroy(b.copied);
      if (b.data != nullptr) d_.host_free(b.data);
    }
    if (stream_ != nullptr) d_.stream_destroy(stream_);
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  Status open(CuHandle context, size_t bytes) {
    TRY(d_.check(d_.context_set(context), "cuCtxSetCurrent"));
    TRY(d_.check(d_.stream_create(&stream_, kNonBlocking), "cuStreamCreate"));
    for (Buffer& b : buffers_) {
      TRY(d_.check(d_.host_allocate(&b.data, bytes, kPortable), "cuMemHostAlloc for reading weights"));
      TRY(d_.check(d_.event_create(&b.copied, kDisableTiming), "cuEventCreate"));
    }
    return {};
  }

  Status copy(const UploadPiece& piece, int file) {
    Buffer& b = buffers_[next_];
    next_ = 1 - next_;
    if (b.busy) TRY(d_.check(d_.event_wait(b.copied), "cuEventSynchronize"));
    if (piece.memory != nullptr) {
      std::memcpy(b.data, piece.memory, piece.bytes);
    } else {
      TRY(read(piece, file, static_cast<std::byte*>(b.data)));
    }
    TRY(d_.check(d_.copy_to_device(piece.to, b.data, piece.bytes, stream_), "cuMemcpyHtoDAsync of weights"));
    TRY(d_.check(d_.event_record(b.copied, stream_), "cuEventRecord"));
    b.busy = true;
    return {};
  }

  Status finish() { return d_.check(d_.stream_wait(stream_), "cuStreamSynchronize after weights"); }

 private:
  struct Buffer {
    void* data = nullptr;
    CuHandle copied = nullptr;
    bool busy = false;
  };

  static Status read(const UploadPiece& piece, int file, std::byte* out) {
    for (size_t done = 0; done < piece.bytes;) {
      const ssize_t n = pread(file, out + done, piece.bytes - done, static_cast<off_t>(piece.file_offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return error(Code::kIo, "cannot read weights at {}: {}", piece.file_offset + done, strerror(errno));
      if (n == 0) return bad_data("the plan was truncated while weights were read, at {}", piece.file_offset + done);
      done += static_cast<size_t>(n);
    }
    return {};
  }

  const Driver& d_;
  CuHandle stream_ = nullptr;
  Buffer buffers_[2];
  int next_ = 0;
};

}  // namespace

void cut(const UploadPiece& whole, std::vector<UploadPiece>& pieces) {
  for (size_t at = 0; at < whole.bytes; at += kUploadPiece) {
    UploadPiece p = whole;
    p.bytes = std::min(kUploadPiece, whole.bytes - at);
    p.file_offset += at;
    p.to += at;
    if (p.memory != nullptr) p.memory += at;
    pieces.push_back(p);
  }
}

Status upload(const Driver& driver, CuHandle context, int file, std::span<const UploadPiece> pieces, int threads) {
  size_t largest = 0;
  for (const UploadPiece& p : pieces) largest = std::max(largest, p.bytes);
  if (largest == 0) return {};
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  Status status;
  const auto work = [&] {
    Lane lane(driver);
    Status s = lane.open(context, largest);
    for (size_t i = next++; s && i < pieces.size(); i = next++) s = lane.copy(pieces[i], file);
    if (s) s = lane.finish();
    if (s) return;
    next = pieces.size();
    const std::lock_guard lock(mutex);
    if (status) status = std::move(s);
  };
  std::vector<std::thread> team;
  const size_t count = std::min<size_t>(static_cast<size_t>(std::max(1, threads)), pieces.size());
  try {
    for (size_t i = 1; i < count; ++i) team.emplace_back(work);
  } catch (const std::system_error&) {
    // The machine gives no more threads: those that started, and this one, do the work.
  }
  work();
  for (std::thread& t : team) t.join();
  return status;
}

}  // namespace ll
