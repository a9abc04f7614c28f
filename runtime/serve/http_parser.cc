#include "runtime/serve/http_parser.h"

#include <algorithm>

namespace ll::serve {
namespace {

constexpr size_t kMaxMethod = 32;
// A line of a chunked body: a size in hex. Nine digits are 64 GiB, beyond any limit on bodies.
constexpr size_t kMaxChunkDigits = 9;

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alpha(char c) { return is_upper(c) || (c >= 'a' && c <= 'z'); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_token_char(char c) {
  return is_alpha(c) || is_digit(c) ||
         (c != 0 && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos);
}
char lower(char c) { return is_upper(c) ? static_cast<char>(c + 32) : c; }

std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

// Whether `value`, a list separated by commas, holds `item`.
bool lists(std::string_view value, std::string_view item) {
  while (true) {
    const size_t comma = value.find(',');
    if (lowered(trimmed(value.substr(0, comma))) == item) return true;
    if (comma == std::string_view::npos) return false;
    value.remove_prefix(comma + 1);
  }
}

bool known_method(std::string_view method) {
  constexpr std::string_view kMethods[] = {"GET",     "HEAD",  "POST",  "PUT",    "DELETE",
                                           "OPTIONS", "PATCH", "TRACE", "CONNECT"};
  return std::find(std::begin(kMethods), std::end(kMethods), method) != std::end(kMethods);
}

}  // namespace

const std::string* HttpRequest::header(std::string_view name) const {
  for (const HttpHeader& h : headers) {
    if (h.name == name) return &h.value;
  }
  return nullptr;
}

std::string host_name(std::string_view host) {
  std::string_view name = host, port;
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    if (end == std::string_view::npos) return {};
    name = host.substr(0, end + 1);
    port = host.substr(end + 1);
    const std::string_view address = host.substr(1, end - 1);
    if (address.find(':') == std::string_view::npos) return {};
    const auto part_of_address = [](char c) { return is_hex(c) || c == ':' || c == '.'; };
    if (!std::all_of(address.begin(), address.end(), part_of_address)) return {};
  } else {
    const size_t colon = host.find(':');
    name = host.substr(0, colon);
    if (colon != std::string_view::npos) port = host.substr(colon);
    const auto part_of_name = [](char c) { return is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_'; };
    if (name.empty() || !std::all_of(name.begin(), name.end(), part_of_name)) return {};
  }
  if (!port.empty()) {
    const std::string_view digits = port.substr(1);
    if (port[0] != ':' || digits.size() > 5 || !std::all_of(digits.begin(), digits.end(), is_digit)) return {};
  }
  return lowered(name);
}

bool RequestParser::fail(int status, const char* reason) {
  state_ = State::kFailed;
  status_ = status;
  reason_ = reason;
  return false;
}

void RequestParser::next() {
  const HttpLimits limits = limits_;
  *this = RequestParser(limits);
}

size_t RequestParser::feed(std::string_view bytes) {
  size_t taken = 0;
  while (taken < bytes.size() && state_ != State::kDone && state_ != State::kFailed) {
    if (part_ == Part::kFixed || part_ == Part::kChunkData) {
      taken += body(bytes.substr(taken));
      continue;
    }
    if (state_ == State::kIdle) state_ = State::kHead;
    if (!take_line_byte(bytes[taken++])) break;
  }
  return taken;
}

// Collects a line. What may never be in one is refused at once, before the line is complete.
bool RequestParser::take_line_byte(char c) {
  if (++head_bytes_ > limits_.head_bytes) {
    if (part_ == Part::kRequestLine) return fail(414, "the request line is too long");
    return fail(431, "the request's headers are too large");
  }
  if (carriage_) {
    if (c != '\n') return fail(400, "a CR without LF");
    carriage_ = false;
    const bool good = line();
    line_.clear();
    return good;
  }
  if (c == '\r') {
    carriage_ = true;
    return true;
  }
  if (c == '\n') return fail(400, "a line that ends in LF without CR");
  if ((static_cast<uint8_t>(c) < 0x20 && c != '\t') || c == 0x7F) return fail(400, "a control character in the head");
  if (part_ == Part::kRequestLine) {
    // The first byte tells other protocols (TLS, HTTP/2, plain noise) from a method.
    const bool in_method = line_.find(' ') == std::string::npos;
    if (c == '\t' || (in_method && c != ' ' && !is_upper(c) && c != '-' && c != '_')) {
      return fail(400, "the request line does not begin with a method");
    }
    if (in_method && line_.size() > kMaxMethod) return fail(400, "the method is too long");
    if (line_.size() > limits_.target_bytes + kMaxMethod + 16) return fail(414, "the target is too long");
  }
  if (part_ == Part::kChunkSize && (!is_hex(c) || line_.size() >= kMaxChunkDigits)) {
    return fail(400, "a chunk size is not a number in hex");
  }
  line_ += c;
  return true;
}

bool RequestParser::line() {
  switch (part_) {
    case Part::kRequestLine:
      // One empty line before a request is common behind a body of an earlier one (RFC 9112, 2.2).
      if (line_.empty() && !skipped_line_) return skipped_line_ = true;
      if (!request_line(line_)) return false;
      part_ = Part::kHeaders;
      return true;
    case Part::kHeaders:
      return line_.empty() ? end_of_head() : header_line(line_, false);
    case Part::kChunkSize:
      return chunk_size(line_);
    case Part::kChunkEnd:
      if (!line_.empty()) return fail(400, "a chunk is longer than its size");
      part_ = Part::kChunkSize;
      return true;
    case Part::kTrailers:
      if (!line_.empty()) return header_line(line_, true);
      state_ = State::kDone;
      return true;
    case Part::kFixed:
    case Part::kChunkData:
      break;
  }
  return fail(400, "unexpected bytes");
}

bool RequestParser::request_line(std::string_view line) {
  const size_t first = line.find(' '), last = line.rfind(' ');
  if (first == std::string_view::npos || first == last || first == 0) {
    return fail(400, "the request line is not a method, a target and a version");
  }
  const std::string_view version = line.substr(last + 1), where = line.substr(first + 1, last - first - 1);
  request_.method = line.substr(0, first);
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return fail(400, "the version is neither 1.1 nor 1.0");
  request_.minor = version.back() - '0';
  request_.keep_alive = request_.minor == 1;
  if (!target(where)) return false;
  if (!known_method(request_.method)) return fail(501, "the method is not known");
  return true;
}

bool RequestParser::target(std::string_view target) {
  if (target.size() > limits_.target_bytes) return fail(414, "the target is too long");
  const bool asterisk = target == "*" && request_.method == "OPTIONS";
  if (!asterisk && !target.starts_with('/')) return fail(400, "the target does not begin with '/'");
  for (size_t i = 0; i < target.size(); ++i) {
    const char c = target[i];
    const bool visible = c > 0x20 && c < 0x7F;
    if (!visible || std::string_view("#\"<>\\^`{|}").find(c) != std::string_view::npos) {
      return fail(400, "the target holds a character that has to be percent-encoded");
    }
    if (c != '%') continue;
    if (i + 2 >= target.size() || !is_hex(target[i + 1]) || !is_hex(target[i + 2])) {
      return fail(400, "the target holds a '%' without two hex digits");
    }
  }
  request_.target = target;
  const size_t question = target.find('?');
  request_.path = target.substr(0, question);
  if (question != std::string_view::npos) request_.query = target.substr(question + 1);
  return true;
}

bool RequestParser::header_line(std::string_view line, bool trailer) {
  if (line[0] == ' ' || line[0] == '\t') return fail(400, "a header that goes on in a second line");
  if (++headers_ > limits_.headers) return fail(431, "too many headers");
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return fail(400, "a header without ':'");
  const std::string_view name = line.substr(0, colon);
  if (name.empty() || !std::all_of(name.begin(), name.end(), is_token_char)) {
    return fail(400, "a header name with a character that is not allowed there");
  }
  HttpHeader header{lowered(name), std::string(trimmed(line.substr(colon + 1)))};
  if (trailer) {
    // Nothing reads trailers; those that would have changed how the request is read are refused all the same.
    if (header.name == "content-length" || header.name == "transfer-encoding" || header.name == "host") {
      return fail(400, "a trailer that has to be a header");
    }
    return true;
  }
  request_.headers.push_back(std::move(header));
  return true;
}

bool RequestParser::end_of_head() {
  const std::string* length = nullptr;
  const std::string* coding = nullptr;
  size_t hosts = 0;
  for (const HttpHeader& h : request_.headers) {
    if (h.name == "content-length") {
      if (length != nullptr) return fail(400, "more than one Content-Length");
      length = &h.value;
    } else if (h.name == "transfer-encoding") {
      if (coding != nullptr) return fail(400, "more than one Transfer-Encoding");
      coding = &h.value;
    } else if (h.name == "host") {
      if (++hosts > 1) return fail(400, "more than one Host");
      if (host_name(h.value).empty()) return fail(400, "the Host is malformed");
    } else if (h.name == "connection") {
      if (lists(h.value, "close")) request_.keep_alive = false;
      if (request_.minor == 0 && lists(h.value, "keep-alive")) request_.keep_alive = true;
    } else if (h.name == "expect") {
      if (lowered(h.value) != "100-continue") return fail(417, "an expectation other than 100-continue");
      request_.expect_continue = request_.minor == 1;
    }
  }
  if (hosts == 0 && request_.minor == 1) return fail(400, "no Host");
  if (coding != nullptr) {
    if (length != nullptr) return fail(400, "both Content-Length and Transfer-Encoding");
    if (request_.minor == 0) return fail(400, "a Transfer-Encoding in version 1.0");
    if (lowered(*coding) != "chunked") return fail(400, "a Transfer-Encoding other than chunked");
    part_ = Part::kChunkSize;
    state_ = State::kBody;
    return true;
  }
  if (length != nullptr && !content_length(*length)) return false;
  if (left_ == 0) {
    state_ = State::kDone;
    return true;
  }
  part_ = Part::kFixed;
  state_ = State::kBody;
  return true;
}

bool RequestParser::content_length(const std::string& value) {
  if (value.empty() || value.size() > 18 || !std::all_of(value.begin(), value.end(), is_digit)) {
    return fail(400, "the Content-Length is not a number");
  }
  for (const char c : value) left_ = left_ * 10 + static_cast<uint64_t>(c - '0');
  if (left_ > limits_.body_bytes) return fail(413, "the body is too large");
  return true;
}

bool RequestParser::chunk_size(std::string_view line) {
  if (line.empty()) return fail(400, "a chunk without a size");
  left_ = 0;
  for (const char c : line) {
    left_ = left_ * 16 + static_cast<uint64_t>(is_digit(c) ? c - '0' : lower(c) - 'a' + 10);
  }
  // Chunk lines do not count against the head's limit: the body's own limit and deadline bound them.
  head_bytes_ -= std::min(head_bytes_, line.size() + 2);
  if (left_ == 0) {
    part_ = Part::kTrailers;
    return true;
  }
  if (left_ > limits_.body_bytes - request_.body.size()) return fail(413, "the body is too large");
  part_ = Part::kChunkData;
  return true;
}

size_t RequestParser::body(std::string_view bytes) {
  const size_t count = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
  request_.body.append(bytes.substr(0, count));
  left_ -= count;
  if (left_ > 0) return count;
  if (part_ == Part::kFixed) {
    state_ = State::kDone;
  } else {
    part_ = Part::kChunkEnd;
    head_bytes_ -= std::min<size_t>(head_bytes_, 2);  // the CR LF that follows
  }
  return count;
}

}  // namespace ll::serve
