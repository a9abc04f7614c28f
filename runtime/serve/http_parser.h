// HTTP/1.1 requests from bytes, strictly after RFC 9112: what two parsers could read differently is an error here, so
// that no proxy in front can be made to see other requests than this one.
//
// Departures from the RFC, all on the strict side: a repeated Content-Length is refused even when the values agree, the
// only transfer coding is `chunked`, chunk extensions and the absolute form of targets are refused, and so is every
// version but 1.0 and 1.1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ll::serve {

struct HttpLimits {
  size_t head_bytes = 16 << 10;   // request line and headers; trailers have to fit into it as well: 431
  size_t headers = 100;           // 431
  size_t target_bytes = 8 << 10;  // 414
  size_t body_bytes = 8 << 20;    // 413
};

struct HttpHeader {
  std::string name;   // lower case
  std::string value;  // without white space at its ends
};

struct HttpRequest {
  std::string method;  // upper case letters, '-' and '_'
  std::string target;  // as sent: '/...' or, for OPTIONS, '*'
  std::string path, query;
  int minor = 1;  // HTTP/1.minor
  std::vector<HttpHeader> headers;
  std::string body;
  bool keep_alive = true;
  bool expect_continue = false;  // the client waits for "100 Continue" before it sends the body

  // The value of a header, null when absent; the first of several. `name` in lower case.
  const std::string* header(std::string_view name) const;
};

// Takes a connection's bytes as they come, in pieces of any size: how they are cut changes nothing.
class RequestParser {
 public:
  explicit RequestParser(const HttpLimits& limits) : limits_(limits) {}

  enum class State : uint8_t {
    kIdle,    // no byte of a request yet
    kHead,    // within request line or headers
    kBody,    // the head is complete and valid, the body is not
    kDone,    // request() is complete
    kFailed,  // status() and reason() say why; no more bytes are taken
  };

  // Takes bytes up to the end of one request; returns how many. Takes none in kDone and kFailed.
  size_t feed(std::string_view bytes);
  State state() const { return state_; }

  HttpRequest& request() { return request_; }
  // Of kFailed: 400, 413, 414, 417, 431 or 501, and a sentence without any of the request's bytes.
  int status() const { return status_; }
  const char* reason() const { return reason_; }
  // Starts over after kDone.
  void next();

 private:
  enum class Part : uint8_t { kRequestLine, kHeaders, kFixed, kChunkSize, kChunkData, kChunkEnd, kTrailers };
  bool fail(int status, const char* reason);
  bool take_line_byte(char c);
  bool line();
  bool request_line(std::string_view line);
  bool target(std::string_view target);
  bool header_line(std::string_view line, bool trailer);
  bool end_of_head();
  bool content_length(const std::string& value);
  bool chunk_size(std::string_view line);
  size_t body(std::string_view bytes);

  HttpLimits limits_;
  State state_ = State::kIdle;
  Part part_ = Part::kRequestLine;
  HttpRequest request_;
  std::string line_;       // of the head, without its CR LF
  bool carriage_ = false;  // line_ is followed by CR
  bool skipped_line_ = false;
  size_t head_bytes_ = 0;
  size_t headers_ = 0;
  uint64_t left_ = 0;  // bytes of the body or chunk to come
  int status_ = 0;
  const char* reason_ = "";
};

// A host as in the Host header: a name, IPv4 or [IPv6] address, with or without ":port". The host without port, in
// lower case; empty when it is malformed.
std::string host_name(std::string_view host);

}  // namespace ll::serve
