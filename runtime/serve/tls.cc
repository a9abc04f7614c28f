#include "runtime/serve/tls.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>

namespace ll::serve {
namespace {

// Types and values of OpenSSL 3's C interface (ssl.h, tls1.h), which later versions keep.
struct SslMethod;
struct SslCtx;
struct Ssl;
struct Bio;
struct BioMethod;
using PasswordCallback = int (*)(char*, int, int, void*);

constexpr int kPem = 1;
constexpr int kSetMode = 33, kSetSessionCache = 44, kSetLeastVersion = 123;
constexpr long kReleaseBuffers = 0x10, kNoSessions = 0, kTls12 = 0x0303;
constexpr uint64_t kNoCompression = 1 << 17, kNoRenegotiation = 1 << 30;
constexpr int kWantRead = 2, kZeroReturn = 6;

// member, symbol, result, parameters
#define LL_OPENSSL(X)                                                               \
  X(server_method, TLS_server_method, const SslMethod*, ())                         \
  X(ctx_new, SSL_CTX_new, SslCtx*, (const SslMethod*))                              \
  X(ctx_free, SSL_CTX_free, void, (SslCtx*))                                        \
  X(ctx_ctrl, SSL_CTX_ctrl, long, (SslCtx*, int, long, void*))                      \
  X(ctx_options, SSL_CTX_set_options, uint64_t, (SslCtx*, uint64_t))                \
  X(ctx_password, SSL_CTX_set_default_passwd_cb, void, (SslCtx*, PasswordCallback)) \
  X(ctx_chain, SSL_CTX_use_certificate_chain_file, int, (SslCtx*, const char*))     \
  X(ctx_key, SSL_CTX_use_PrivateKey_file, int, (SslCtx*, const char*, int))         \
  X(ctx_check, SSL_CTX_check_private_key, int, (const SslCtx*))                     \
  X(ssl_new, SSL_new, Ssl*, (SslCtx*))                                              \
  X(ssl_free, SSL_free, void, (Ssl*))                                               \
  X(ssl_accept_state, SSL_set_accept_state, void, (Ssl*))                           \
  X(ssl_set_bio, SSL_set_bio, void, (Ssl*, Bio*, Bio*))                             \
  X(ssl_read, SSL_read, int, (Ssl*, void*, int))                                    \
  X(ssl_write, SSL_write, int, (Ssl*, const void*, int))                            \
  X(ssl_shutdown, SSL_shutdown, int, (Ssl*))                                        \
  X(ssl_finished, SSL_is_init_finished, int, (const Ssl*))                          \
  X(ssl_error, SSL_get_error, int, (const Ssl*, int))                               \
  X(bio_mem, BIO_s_mem, const BioMethod*, ())                                       \
  X(bio_new, BIO_new, Bio*, (const BioMethod*))                                     \
  X(bio_read, BIO_read, int, (Bio*, void*, int))                                    \
  X(bio_write, BIO_write, int, (Bio*, const void*, int))                            \
  X(last_error, ERR_peek_last_error, unsigned long, ())                             \
  X(clear_errors, ERR_clear_error, void, ())                                        \
  X(error_text, ERR_error_string_n, void, (unsigned long, char*, size_t))

struct OpenSsl {
#define LL_MEMBER(member, symbol, result, parameters) result(*member) parameters = nullptr;
  LL_OPENSSL(LL_MEMBER)
#undef LL_MEMBER
};

Result<OpenSsl> open_library() {
  // Never closed: it registers things to do at exit. Its own dependency, libcrypto, is searched too.
  void* library = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    return unsupported("TLS needs OpenSSL 3 (package libssl3): {}", reason == nullptr ? "not found" : reason);
  }
  OpenSsl s;
#define LL_FIND(member, symbol, result, parameters)                           \
  s.member = reinterpret_cast<result(*) parameters>(dlsym(library, #symbol)); \
  if (s.member == nullptr) return unsupported("libssl.so.3 has no function " #symbol);
  LL_OPENSSL(LL_FIND)
#undef LL_FIND
  return s;
}

std::string reason_of(const OpenSsl& s) {
  std::array<char, 256> text{};
  s.error_text(s.last_error(), text.data(), text.size());
  s.clear_errors();
  return text.data();
}

Status readable(const std::string& path) {
  if (::access(path.c_str(), R_OK) == 0) return {};
  return error(Code::kNoInput, "cannot open {}: {}", path, std::strerror(errno));
}

}  // namespace

struct TlsContext::State {
  explicit State(const OpenSsl& library) : ssl(library), context(ssl.ctx_new(ssl.server_method())) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { ssl.ctx_free(context); }
  const OpenSsl ssl;
  SslCtx* const context;  // null: it does not start
};

struct TlsSession::State {
  explicit State(std::shared_ptr<const TlsContext> from)
      : context(std::move(from)),
        s(context->state_->ssl),
        ssl(s.ssl_new(context->state_->context)),
        in(s.bio_new(s.bio_mem())),
        out(s.bio_new(s.bio_mem())) {
    s.ssl_set_bio(ssl, in, out);
    s.ssl_accept_state(ssl);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { s.ssl_free(ssl); }
  const std::shared_ptr<const TlsContext> context;
  const OpenSsl& s;
  Ssl* const ssl;
  Bio *const in, *const out;  // ssl's
};

TlsContext::TlsContext(std::unique_ptr<State> state) : state_(std::move(state)) {}
TlsContext::~TlsContext() = default;

Result<std::shared_ptr<const TlsContext>> TlsContext::load(const std::string& certificate, const std::string& key) {
  TRY(readable(certificate));
  TRY(readable(key));
  TRY_ASSIGN(const OpenSsl s, open_library());
  auto state = std::make_unique<State>(s);
  SslCtx* const context = state->context;
  if (context == nullptr) return unsupported("OpenSSL does not start: {}", reason_of(s));
  s.ctx_ctrl(context, kSetLeastVersion, kTls12, nullptr);
  s.ctx_ctrl(context, kSetSessionCache, kNoSessions, nullptr);
  s.ctx_ctrl(context, kSetMode, kReleaseBuffers, nullptr);
  s.ctx_options(context, kNoCompression | kNoRenegotiation);
  // Otherwise a key with a password would be asked for at the terminal.
  s.ctx_password(context, [](char*, int, int, void*) { return 0; });
  if (s.ctx_chain(context, certificate.c_str()) != 1) {
    return bad_data("{} holds no certificate chain in PEM: {}", certificate, reason_of(s));
  }
  if (s.ctx_key(context, key.c_str(), kPem) != 1 || s.ctx_check(context) != 1) {
    return bad_data("{} is no private key in PEM without a password that fits the certificate: {}", key, reason_of(s));
  }
  return std::shared_ptr<const TlsContext>(new TlsContext(std::move(state)));
}

TlsSession::TlsSession(std::unique_ptr<State> state) : state_(std::move(state)) {}
TlsSession::~TlsSession() = default;

std::unique_ptr<TlsSession> TlsSession::create(std::shared_ptr<const TlsContext> context) {
  return std::unique_ptr<TlsSession>(new TlsSession(std::make_unique<State>(std::move(context))));
}

// What OpenSSL has for the network.
void TlsSession::collect() {
  std::array<char, 4096> part;
  for (int n = 0; (n = state_->s.bio_read(state_->out, part.data(), part.size())) > 0;) {
    output_.append(part.data(), static_cast<size_t>(n));
  }
}

bool TlsSession::receive(std::string_view bytes, std::string& plain) {
  const OpenSsl& s = state_->s;
  // Errors of other sessions of this thread would be taken for this one's.
  s.clear_errors();
  while (!bytes.empty()) {
    const int n = s.bio_write(state_->in, bytes.data(), static_cast<int>(std::min<size_t>(bytes.size(), INT_MAX)));
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  std::array<char, 16 << 10> part;
  while (true) {
    const int n = s.ssl_read(state_->ssl, part.data(), part.size());
    if (n > 0) {
      plain.append(part.data(), static_cast<size_t>(n));
      continue;
    }
    const int why = s.ssl_error(state_->ssl, n);
    established_ = s.ssl_finished(state_->ssl) == 1;
    collect();
    at_end_ = at_end_ || why == kZeroReturn;
    return why == kWantRead || why == kZeroReturn;
  }
}

bool TlsSession::send(std::string_view plain) {
  const OpenSsl& s = state_->s;
  s.clear_errors();
  while (!plain.empty()) {
    const int n = s.ssl_write(state_->ssl, plain.data(), static_cast<int>(std::min<size_t>(plain.size(), INT_MAX)));
    if (n <= 0) return false;
    plain.remove_prefix(static_cast<size_t>(n));
  }
  collect();
  return true;
}

void TlsSession::finish() {
  if (finished_ || !established_) return;
  finished_ = true;
  state_->s.clear_errors();
  state_->s.ssl_shutdown(state_->ssl);
  collect();
}

void TlsSession::sent(size_t bytes) {
  sent_ += bytes;
  if (sent_ < output_.size()) return;
  output_.clear();
  sent_ = 0;
}

}  // namespace ll::serve
