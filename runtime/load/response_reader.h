// An HTTP/1.1 response and the server-sent events in its body, read as the bytes come. Servers are not trusted: sizes
// have limits.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace ll::load {

class ResponseReader {
 public:
  using Body = std::function<Status(std::string_view)>;

  // Hands what belongs to the body to `body`. kBadData for what is no response; errors of `body` are passed on.
  Status feed(std::string_view bytes, const Body& body);
  // The connection has ended: kBadData unless the response is complete.
  Status closed();
  bool complete() const { return state_ == State::kDone; }
  int status() const { return status_; }  // 0 before the head is complete

 private:
  enum class State { kHead, kBody, kUntilClose, kSize, kChunk, kChunkEnd, kTrailer, kDone };
  Status read_head();
  Status line_of(std::string_view& bytes, bool& whole);

  State state_ = State::kHead;
  int status_ = 0;
  uint64_t left_ = 0;  // of body or chunk
  std::string line_;
};

// Splits server-sent events: lines that end with LF, CRLF or CR, comments and fields other than data skipped, several
// data lines of an event joined.
class EventReader {
 public:
  using Data = std::function<Status(std::string_view)>;
  Status feed(std::string_view bytes, const Data& data);

 private:
  Status line(const Data& data);

  std::string line_, data_;
  bool has_data_ = false, after_cr_ = false;
};

// What an event of a streamed completion says.
struct Chunk {
  bool done = false;      // [DONE]
  bool text = false;      // holds a piece of the answer (also one without visible characters)
  bool finished = false;  // holds a finish_reason
  bool has_usage = false;
  uint64_t prompt_tokens = 0, output_tokens = 0;
  std::string error;  // the server's message
};
// kBadData for what is not JSON.
Result<Chunk> read_chunk(std::string_view data);

// The message of an error's body, or the beginning of what it is instead.
std::string error_message(std::string_view body);

}  // namespace ll::load
