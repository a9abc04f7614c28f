// TLS of a connection without its socket: bytes of the network on one side, bytes of HTTP on the other. OpenSSL 3 is
// opened when a certificate is given, so that nothing else needs it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace ll::serve {

class TlsSession;

// A certificate with its key. TLS 1.2 and 1.3; no sessions are kept.
class TlsContext {
 public:
  // Both PEM: the certificate first, then those that signed it; the key without a password.
  //   kUnsupported  this machine has no libssl.so.3
  //   kNoInput      a file cannot be read
  //   kBadData      a file holds something else, or the key is another certificate's
  static Result<std::shared_ptr<const TlsContext>> load(const std::string& certificate, const std::string& key);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

 private:
  friend class TlsSession;
  struct State;
  explicit TlsContext(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The server's end of one connection.
class TlsSession {
 public:
  static std::unique_ptr<TlsSession> create(std::shared_ptr<const TlsContext> context);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Takes what came from the network and appends what it says to `plain`. False: this is no TLS, or was tampered with;
  // what output() holds says so, and the connection is to be closed.
  bool receive(std::string_view bytes, std::string& plain);
  // Encrypts; only once something was received.
  bool send(std::string_view plain);
  // Says that nothing more will be sent.
  void finish();

  // For the network.
  std::string_view output() const { return std::string_view(output_).substr(sent_); }
  void sent(size_t bytes);

  bool established() const { return established_; }
  // The other side has said that it will send nothing more.
  bool at_end() const { return at_end_; }

 private:
  struct State;
  explicit TlsSession(std::unique_ptr<State> state);
  void collect();

  std::unique_ptr<State> state_;
  std::string output_;
  size_t sent_ = 0;  // bytes at the front of output_
  bool established_ = false, at_end_ = false, finished_ = false;
};

}  // namespace ll::serve
