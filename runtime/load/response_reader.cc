#include "runtime/load/response_reader.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "runtime/base/escape.h"

namespace ll::load {
namespace {

constexpr size_t kMostHead = 64 << 10, kMostLine = 256, kMostEvent = 8 << 20, kMostMessage = 300;

bool equal_names(std::string_view a, std::string_view lower) {
  return a.size() == lower.size() && std::equal(a.begin(), a.end(), lower.begin(), [](char x, char y) {
           return (x >= 'A' && x <= 'Z' ? static_cast<char>(x + 32) : x) == y;
         });
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") + 1 - begin);
}

template <class T>
bool parse(std::string_view text, T& value, int base = 10) {
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return failed == std::errc() && end == text.data() + text.size();
}

// A member of an object, or null.
const nlohmann::json* member(const nlohmann::json* object, const char* name) {
  if (object == nullptr || !object->is_object()) return nullptr;
  const auto found = object->find(name);
  return found == object->end() ? nullptr : &*found;
}

bool is_text(const nlohmann::json* value) { return value != nullptr && value->is_string(); }
bool has_text(const nlohmann::json* value) { return is_text(value) && !value->get_ref<const std::string&>().empty(); }

uint64_t count_of(const nlohmann::json* value) {
  return value != nullptr && value->is_number_unsigned() ? value->get<uint64_t>() : 0;
}

}  // namespace

// Collects a line of at most kMostLine bytes from the front of `bytes`.
Status ResponseReader::line_of(std::string_view& bytes, bool& whole) {
  const size_t end = bytes.find('\n');
  whole = end != std::string_view::npos;
  line_.append(bytes.substr(0, whole ? end : bytes.size()));
  bytes.remove_prefix(whole ? end + 1 : bytes.size());
  if (line_.size() > kMostLine) return bad_data("a line of a chunked body is longer than {} bytes", kMostLine);
  return {};
}

Status ResponseReader::read_head() {
  std::string_view head = line_;
  const size_t first = head.find('\n');
  const std::string_view start = trimmed(head.substr(0, first));
  if (!start.starts_with("HTTP/1.") || start.size() < 12 || !parse(start.substr(9, 3), status_)) {
    return bad_data("the answer begins with {}, expected an HTTP/1.1 status", quote(start));
  }
  bool chunked = false, has_length = false;
  while (head.find('\n') != std::string_view::npos) {
    head.remove_prefix(head.find('\n') + 1);
    const std::string_view line = head.substr(0, head.find('\n'));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view name = line.substr(0, colon), value = trimmed(line.substr(colon + 1));
    if (equal_names(name, "transfer-encoding")) chunked = equal_names(value, "chunked");
    if (equal_names(name, "content-length")) {
      has_length = true;
      if (!parse(value, left_)) return bad_data("Content-Length is {}, expected a number", quote(value));
    }
  }
  line_.clear();
  if (status_ >= 100 && status_ < 200) {
    status_ = 0;  // an interim answer: the real one follows
  } else if (chunked) {
    state_ = State::kSize;
  } else if (has_length) {
    state_ = left_ == 0 ? State::kDone : State::kBody;
  } else {
    state_ = State::kUntilClose;
  }
  return {};
}

Status ResponseReader::feed(std::string_view bytes, const Body& body) {
  while (!bytes.empty()) {
    bool whole = false;
    switch (state_) {
      case State::kHead: {
        const size_t end = bytes.find('\n');
        line_.append(bytes.substr(0, end == std::string_view::npos ? bytes.size() : end + 1));
        bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 1);
        if (line_.size() > kMostHead) return bad_data("the head of the answer is larger than {} bytes", kMostHead);
        if (line_ == "\r\n" || line_ == "\n") line_.clear();
        if (line_.ends_with("\r\n\r\n") || line_.ends_with("\n\n")) TRY(read_head());
        break;
      }
      case State::kUntilClose:
        return body(bytes);
      case State::kBody:
      case State::kChunk: {
        const std::string_view part = bytes.substr(0, std::min<uint64_t>(left_, bytes.size()));
        left_ -= part.size();
        bytes.remove_prefix(part.size());
        TRY(body(part));
        if (left_ == 0) state_ = state_ == State::kBody ? State::kDone : State::kChunkEnd;
        break;
      }
      case State::kSize: {
        TRY(line_of(bytes, whole));
        if (!whole) break;
        const std::string_view size = trimmed(std::string_view(line_).substr(0, line_.find(';')));
        if (!parse(size, left_, 16)) return bad_data("a chunk has the size {}, expected digits", quote(size));
        line_.clear();
        state_ = left_ == 0 ? State::kTrailer : State::kChunk;
        break;
      }
      case State::kChunkEnd:
        TRY(line_of(bytes, whole));
        if (!whole) break;
        if (!trimmed(line_).empty()) return bad_data("a chunk is longer than its size");
        line_.clear();
        state_ = State::kSize;
        break;
      case State::kTrailer:
        TRY(line_of(bytes, whole));
        if (!whole) break;
        if (trimmed(line_).empty()) state_ = State::kDone;
        line_.clear();
        break;
      case State::kDone:
        return {};
    }
  }
  return {};
}

Status ResponseReader::closed() {
  if (state_ == State::kUntilClose) state_ = State::kDone;
  if (state_ != State::kDone) return bad_data("the connection was closed before the answer was complete");
  return {};
}

Status EventReader::feed(std::string_view bytes, const Data& data) {
  while (!bytes.empty()) {
    if (after_cr_ && bytes[0] == '\n') bytes.remove_prefix(1);
    after_cr_ = false;
    const size_t end = bytes.find_first_of("\r\n");
    line_.append(bytes.substr(0, std::min(end, bytes.size())));
    if (line_.size() + data_.size() > kMostEvent) return bad_data("an event is larger than {} bytes", kMostEvent);
    if (end == std::string_view::npos) return {};
    after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    TRY(line(data));
    line_.clear();
  }
  return {};
}

Status EventReader::line(const Data& data) {
  if (line_.empty()) {
    if (!has_data_) return {};
    has_data_ = false;
    const std::string event = std::move(data_);
    data_.clear();
    return data(event);
  }
  if (!line_.starts_with("data:")) return {};
  if (has_data_) data_ += '\n';
  has_data_ = true;
  data_.append(line_, line_.size() > 5 && line_[5] == ' ' ? 6 : 5);
  return {};
}

Result<Chunk> read_chunk(std::string_view data) {
  Chunk chunk;
  if (data == "[DONE]") {
    chunk.done = true;
    return chunk;
  }
  const nlohmann::json json = nlohmann::json::parse(data, nullptr, false);
  if (json.is_discarded() || !json.is_object()) {
    return bad_data("an event holds {}, expected a JSON object", quote(data));
  }
  if (const nlohmann::json* failed = member(&json, "error"); failed != nullptr && !failed->is_null()) {
    const nlohmann::json* message = is_text(failed) ? failed : member(failed, "message");
    chunk.error = escaped(is_text(message) ? message->get<std::string>() : failed->dump(), kMostMessage);
    if (chunk.error.empty()) chunk.error = "no message";
  }
  if (const nlohmann::json* counts = member(&json, "usage"); counts != nullptr && counts->is_object()) {
    chunk.has_usage = true;
    chunk.prompt_tokens = count_of(member(counts, "prompt_tokens"));
    chunk.output_tokens = count_of(member(counts, "completion_tokens"));
  }
  const nlohmann::json* choices = member(&json, "choices");
  if (choices == nullptr || !choices->is_array() || choices->empty()) return chunk;
  const nlohmann::json* choice = &(*choices)[0];
  chunk.finished = is_text(member(choice, "finish_reason"));
  if (const nlohmann::json* delta = member(choice, "delta"); delta != nullptr) {
    const nlohmann::json* content = member(delta, "content");
    const nlohmann::json* calls = member(delta, "tool_calls");
    // The first part of many servers says who speaks and nothing else.
    const bool introduces = member(delta, "role") != nullptr && !has_text(content);
    chunk.text = has_text(content) || has_text(member(delta, "reasoning_content")) ||
                 has_text(member(delta, "reasoning")) || (calls != nullptr && calls->is_array() && !calls->empty()) ||
                 (is_text(content) && !introduces && !chunk.finished);
  } else {
    const nlohmann::json* text = member(choice, "text");
    chunk.text = has_text(text) || (is_text(text) && !chunk.finished);
  }
  return chunk;
}

std::string error_message(std::string_view body) {
  const nlohmann::json json = nlohmann::json::parse(body, nullptr, false);
  const nlohmann::json* failed = member(json.is_discarded() ? nullptr : &json, "error");
  const nlohmann::json* message = member(failed, "message");
  if (!is_text(message)) message = is_text(failed) ? failed : member(json.is_discarded() ? nullptr : &json, "detail");
  const std::string text = is_text(message) ? message->get<std::string>() : std::string(body);
  return escaped(text, kMostMessage);
}

}  // namespace ll::load
