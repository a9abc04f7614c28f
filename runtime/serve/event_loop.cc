#include "runtime/serve/event_loop.h"

// TSan knows no fences; the locks of Asio's queues order what they would.
#ifdef __SANITIZE_THREAD__
#define BOOST_ASIO_DISABLE_FENCED_BLOCK
#endif

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>
#include <map>

namespace ll::serve {
namespace {

namespace asio = boost::asio;
using Descriptor = asio::posix::stream_descriptor;
using boost::system::error_code;

constexpr Milliseconds kHousekeeping{250};
// After an answer to a request that was not read to its end: how long and how much of the rest is discarded.
constexpr Milliseconds kLinger{2000};
constexpr size_t kLingerBytes = 16 << 20;
// Of the kernel, for each connection: what is beyond waits in our own buffer, where it is counted.
constexpr int kSendBuffer = 64 << 10;
// Of an answer that are encrypted ahead of the kernel: one record of TLS.
constexpr size_t kTlsAhead = 16 << 10;

struct Listener {
  Descriptor fd;
  std::string address;
  bool tcp = true;
};

struct Socket {
  Socket(asio::io_context& io, int descriptor, const ConnectionLimits& limits, HttpHandler& handler,
         ConnectionTotals& totals, std::function<void()> on_output)
      : fd(io, descriptor), http(limits, handler, totals, std::move(on_output)) {}
  // Everything is with the kernel.
  bool all_sent() const { return http.output().empty() && (tls == nullptr || tls->output().empty()); }

  Descriptor fd;
  HttpConnection http;
  std::unique_ptr<TlsSession> tls;  // null: HTTP goes over the socket as it is
  uint64_t id = 0;
  bool reading = false, writing = false, dirty = false, at_end = false, lingering = false;
  size_t discarded = 0;
  Time accepted, linger_until;
};

Error system_error(Code code, std::string_view what) { return error(code, "{}: {}", what, std::strerror(errno)); }

std::string address_text(const sockaddr* address, socklen_t size, bool tls) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (getnameinfo(address, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "?";
  const bool six = address->sa_family == AF_INET6;
  return fmt::format("{}://{}{}{}:{}", tls ? "https" : "http", six ? "[" : "", host, six ? "]" : "", port);
}

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    sockaddr_in four{};
    std::memcpy(&four, address, sizeof four);
    return (ntohl(four.sin_addr.s_addr) >> 24) == 127;
  }
  sockaddr_in6 six{};
  std::memcpy(&six, address, sizeof six);
  return IN6_IS_ADDR_LOOPBACK(&six.sin6_addr);
}

// The limit on open files, raised to what this process may have.
size_t most_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  if (limit.rlim_cur < limit.rlim_max) {
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
  }
  return static_cast<size_t>(limit.rlim_cur);
}

}  // namespace

struct EventLoop::State {
  State(const ConnectionLimits& limits_, HttpHandler& handler_, std::shared_ptr<const TlsContext> tls_)
      : limits(limits_), handler(handler_), tls(std::move(tls_)), signals(io) {}

  const ConnectionLimits limits;
  HttpHandler& handler;
  const std::shared_ptr<const TlsContext> tls;
  ConnectionTotals totals;  // before `io`: connections that its queue still holds refer to it
  asio::io_context io{1};
  asio::signal_set signals;
  std::vector<std::unique_ptr<Listener>> listeners;
  std::vector<std::string> addresses;
  std::vector<std::unique_ptr<asio::steady_timer>> timers;
  bool loopback = true;
  std::string unlink_path;
  size_t most_connections = 0;
  std::map<uint64_t, std::shared_ptr<Socket>> sockets;
  std::vector<std::shared_ptr<Socket>> dirty;
  bool flush_posted = false, draining = false, accepting_stopped = false;
  int spare_fd = -1;  // given up for a moment to refuse a connection when no descriptor is left
  int signal_count = 0;
  uint64_t accepted = 0;
  std::string buffer = std::string(64 << 10, '\0'), plain;

  ~State() {
    sockets.clear();
    if (spare_fd >= 0) ::close(spare_fd);
    if (!unlink_path.empty()) ::unlink(unlink_path.c_str());
  }

  void wake() { totals.now = std::chrono::steady_clock::now(); }

  Status listen_tcp(const ListenOptions& options);
  Status listen_unix(const std::string& path);
  void add_listener(int fd, std::string address, bool tcp) {
    listeners.push_back(std::make_unique<Listener>(Listener{Descriptor(io, fd), address, tcp}));
    addresses.push_back(std::move(address));
  }

  void accept(Listener& listener);
  void accept_ready(Listener& listener);
  void add(int fd, bool tcp);
  void drop(const std::shared_ptr<Socket>& s);
  void want_read(const std::shared_ptr<Socket>& s);
  void read_ready(const std::shared_ptr<Socket>& s);
  void flush(const std::shared_ptr<Socket>& s);
  void mark_dirty(uint64_t id);
  void flush_dirty();
  void housekeep();
  void repeat(asio::steady_timer& timer, Milliseconds period, std::function<bool()> task);
  void wait_signal(const std::function<void(int)>& on_signal);
};

Status EventLoop::State::listen_tcp(const ListenOptions& options) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string host = options.host.starts_with('[') && options.host.ends_with(']')
                               ? options.host.substr(1, options.host.size() - 2)
                               : options.host;
  const int failed = getaddrinfo(host.c_str(), std::to_string(options.port).c_str(), &hints, &found);
  if (failed != 0) return usage("no address for host '{}': {}", host, gai_strerror(failed));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  uint16_t port = options.port;
  std::optional<Error> last;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    sockaddr_storage address{};
    std::memcpy(&address, a->ai_addr, a->ai_addrlen);
    // Of port 0, all addresses of one host take the port that the first one was given.
    if (a->ai_family == AF_INET) reinterpret_cast<sockaddr_in*>(&address)->sin_port = htons(port);
    if (a->ai_family == AF_INET6) reinterpret_cast<sockaddr_in6*>(&address)->sin6_port = htons(port);
    const int fd = ::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
      last = system_error(Code::kCannotCreate, "cannot make a socket");
      continue;
    }
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    socklen_t size = a->ai_addrlen;
    const auto* wanted = reinterpret_cast<const sockaddr*>(&address);
    if (::bind(fd, wanted, size) != 0 || ::listen(fd, 4096) != 0) {
      last = system_error(Code::kCannotCreate,
                          fmt::format("cannot listen at {}", address_text(wanted, size, tls != nullptr)));
      ::close(fd);
      continue;
    }
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    if (port == 0) {
      port = ntohs(a->ai_family == AF_INET ? reinterpret_cast<sockaddr_in*>(&address)->sin_port
                                           : reinterpret_cast<sockaddr_in6*>(&address)->sin6_port);
    }
    loopback = loopback && is_loopback(reinterpret_cast<const sockaddr*>(&address));
    add_listener(fd, address_text(reinterpret_cast<const sockaddr*>(&address), size, tls != nullptr), true);
  }
  if (listeners.empty()) return last ? *last : usage("no address for host '{}'", host);
  return {};
}

Status EventLoop::State::listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return usage("the socket's path has {} bytes, expected fewer than {}", path.size(), sizeof address.sun_path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto* wanted = reinterpret_cast<const sockaddr*>(&address);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return system_error(Code::kCannotCreate, "cannot make a socket");
  // A socket that a killed server left behind may be replaced; one that somebody listens at may not.
  struct stat there {};
  if (::lstat(path.c_str(), &there) == 0 && S_ISSOCK(there.st_mode)) {
    if (::connect(fd, wanted, sizeof address) == 0 || errno == EAGAIN) {
      ::close(fd);
      return error(Code::kCannotCreate, "cannot listen at {}: a server is listening there", path);
    }
    ::unlink(path.c_str());
  }
  const mode_t mask = ::umask(0077);
  const bool bound = ::bind(fd, wanted, sizeof address) == 0 && ::listen(fd, 4096) == 0;
  ::umask(mask);
  if (!bound) {
    const Error failed = system_error(Code::kCannotCreate, fmt::format("cannot listen at {}", path));
    ::close(fd);
    return failed;
  }
  unlink_path = path;
  add_listener(fd, "unix:" + path, false);
  return {};
}

void EventLoop::State::accept(Listener& listener) {
  if (draining || accepting_stopped) return;
  listener.fd.async_wait(Descriptor::wait_read, [this, &listener](error_code failed) {
    if (failed || draining) return;
    wake();
    accept_ready(listener);
  });
}

void EventLoop::State::accept_ready(Listener& listener) {
  for (int i = 0; i < 64; ++i) {
    if (sockets.size() >= most_connections) {
      accepting_stopped = true;  // until a connection closes
      return;
    }
    const int fd = ::accept4(listener.fd.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      add(fd, listener.tcp);
      continue;
    }
    if (errno == EMFILE || errno == ENFILE) {
      // Without a descriptor the connection cannot be taken off the queue, and the loop would spin on it.
      if (spare_fd >= 0) ::close(spare_fd);
      const int refused = ::accept4(listener.fd.native_handle(), nullptr, nullptr, SOCK_CLOEXEC);
      if (refused >= 0) ::close(refused);
      spare_fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    break;
  }
  accept(listener);
}

void EventLoop::State::add(int fd, bool tcp) {
  const int on = 1;
  if (tcp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof kSendBuffer);
  const uint64_t id = ++accepted;
  auto s = std::make_shared<Socket>(io, fd, limits, handler, totals, [this, id] { mark_dirty(id); });
  s->id = id;
  s->accepted = totals.now;
  if (tls != nullptr) s->tls = TlsSession::create(tls);
  sockets.emplace(id, s);
  want_read(s);
}

void EventLoop::State::drop(const std::shared_ptr<Socket>& s) {
  if (sockets.erase(s->id) == 0) return;
  s->http.peer_closed();
  error_code ignored;
  s->fd.close(ignored);
  if (accepting_stopped) {
    accepting_stopped = false;
    for (const auto& listener : listeners) accept(*listener);
  }
}

void EventLoop::State::want_read(const std::shared_ptr<Socket>& s) {
  if (s->reading || s->at_end || !s->fd.is_open() || (!s->lingering && !s->http.wants_input())) return;
  s->reading = true;
  s->fd.async_wait(Descriptor::wait_read, [this, s](error_code failed) {
    s->reading = false;
    if (failed || !s->fd.is_open()) return;
    wake();
    read_ready(s);
  });
}

void EventLoop::State::read_ready(const std::shared_ptr<Socket>& s) {
  const ssize_t n = ::recv(s->fd.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return want_read(s);
  if (n < 0) return drop(s);
  if (s->lingering) {
    s->discarded += static_cast<size_t>(n);
    if (n == 0 || s->discarded > kLingerBytes) return drop(s);
    return want_read(s);
  }
  if (n == 0) {
    s->at_end = true;
    s->http.peer_closed();
  } else if (s->tls == nullptr) {
    s->http.receive(std::string_view(buffer.data(), static_cast<size_t>(n)));
  } else {
    plain.clear();
    const bool whole = s->tls->receive(std::string_view(buffer.data(), static_cast<size_t>(n)), plain);
    if (whole && !plain.empty()) s->http.receive(plain);
    if (!whole || s->tls->at_end()) s->http.peer_closed();
  }
  flush(s);
  want_read(s);
}

void EventLoop::State::mark_dirty(uint64_t id) {
  const auto found = sockets.find(id);
  if (found == sockets.end() || found->second->dirty) return;
  found->second->dirty = true;
  dirty.push_back(found->second);
  if (flush_posted) return;
  flush_posted = true;
  asio::post(io, [this] { flush_dirty(); });
}

void EventLoop::State::flush_dirty() {
  flush_posted = false;
  wake();
  std::vector<std::shared_ptr<Socket>> now;
  now.swap(dirty);
  for (const auto& s : now) {
    s->dirty = false;
    if (!s->fd.is_open()) continue;
    flush(s);
    want_read(s);
  }
}

// Sends what the kernel takes, waits to send the rest, and closes what is finished.
void EventLoop::State::flush(const std::shared_ptr<Socket>& s) {
  if (s->writing || s->lingering) return;
  while (true) {
    if (s->tls != nullptr && s->tls->output().empty()) {
      const size_t part = std::min(s->http.output().size(), kTlsAhead);
      if (part > 0 && !s->tls->send(s->http.output().substr(0, part))) return drop(s);
      if (part > 0) s->http.sent(part);
      if (s->http.finished()) s->tls->finish();
    }
    const std::string_view out = s->tls != nullptr ? s->tls->output() : s->http.output();
    if (out.empty()) break;
    const ssize_t n = ::send(s->fd.native_handle(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0 && s->tls != nullptr) s->tls->sent(static_cast<size_t>(n));
    if (n > 0 && s->tls == nullptr) s->http.sent(static_cast<size_t>(n));
    if (n > 0) continue;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return drop(s);
    s->writing = true;
    s->fd.async_wait(Descriptor::wait_write, [this, s](error_code failed) {
      s->writing = false;
      if (failed || !s->fd.is_open()) return;
      wake();
      flush(s);
      want_read(s);
    });
    return;
  }
  if (!s->http.finished()) return;
  if (s->at_end) return drop(s);
  ::shutdown(s->fd.native_handle(), SHUT_WR);
  if (!s->http.lingers()) return drop(s);
  s->lingering = true;
  s->linger_until = totals.now + kLinger;
  want_read(s);
}

void EventLoop::State::housekeep() {
  std::vector<std::shared_ptr<Socket>> due;
  for (const auto& [id, s] : sockets) {
    auto deadline = s->http.deadline();
    if (s->tls != nullptr && !s->tls->established()) deadline = s->accepted + limits.head;
    if (s->lingering ? s->linger_until <= totals.now : (deadline && *deadline <= totals.now)) due.push_back(s);
    if (s->reading || s->at_end || s->lingering) continue;
    // Enough has come in from this client that nothing is read: whether it is still there has to be asked for.
    pollfd state{s->fd.native_handle(), POLLRDHUP, 0};
    if (::poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) due.push_back(s);
  }
  for (const auto& s : due) {
    const bool expired = s->lingering || !s->reading || s->http.expire();
    if (expired) {
      drop(s);
    } else {
      flush(s);
      want_read(s);
    }
  }
}

void EventLoop::State::repeat(asio::steady_timer& timer, Milliseconds period, std::function<bool()> task) {
  timer.expires_after(period);
  timer.async_wait([this, &timer, period, task = std::move(task)](error_code failed) mutable {
    if (failed) return;
    wake();
    if (task()) repeat(timer, period, std::move(task));
  });
}

void EventLoop::State::wait_signal(const std::function<void(int)>& on_signal) {
  signals.async_wait([this, &on_signal](error_code failed, int) {
    if (failed) return;
    wake();
    on_signal(++signal_count);
    wait_signal(on_signal);
  });
}

EventLoop::EventLoop(std::unique_ptr<State> state) : state_(std::move(state)) {}
EventLoop::~EventLoop() = default;

Result<std::unique_ptr<EventLoop>> EventLoop::create(const ListenOptions& listen, const ConnectionLimits& limits,
                                                     HttpHandler& handler) {
  auto state = std::make_unique<State>(limits, handler, listen.tls);
  State& s = *state;
  s.wake();
  if (listen.unix_socket.empty()) {
    TRY(s.listen_tcp(listen));
  } else {
    TRY(s.listen_unix(listen.unix_socket));
  }
  // Some descriptors are the plan's, the log's and Asio's own.
  const size_t files = most_files();
  s.most_connections = std::min(listen.connections, files > 64 ? files - 32 : files / 2);
  s.spare_fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(state)));
}

const std::vector<std::string>& EventLoop::addresses() const { return state_->addresses; }
bool EventLoop::loopback() const { return state_->loopback; }

void EventLoop::run(const std::function<void(int)>& on_signal) {
  State& s = *state_;
  s.wake();
  error_code ignored;
  s.signals.add(SIGINT, ignored);
  s.signals.add(SIGTERM, ignored);
  s.wait_signal(on_signal);
  for (const auto& listener : s.listeners) s.accept(*listener);
  every(kHousekeeping, [&s] {
    s.housekeep();
    return true;
  });
  s.io.run();
}

void EventLoop::post(std::function<void()> task) {
  asio::post(state_->io, [s = state_.get(), task = std::move(task)] {
    s->wake();
    task();
  });
}

void EventLoop::every(Milliseconds period, std::function<bool()> task) {
  state_->timers.push_back(std::make_unique<asio::steady_timer>(state_->io));
  state_->repeat(*state_->timers.back(), period, std::move(task));
}

void EventLoop::drain() {
  State& s = *state_;
  s.draining = true;
  error_code ignored;
  for (const auto& listener : s.listeners) listener->fd.close(ignored);
  std::vector<std::shared_ptr<Socket>> all;
  for (const auto& [id, socket] : s.sockets) all.push_back(socket);
  for (const auto& socket : all) {
    socket->http.drain();
    s.flush(socket);
  }
}

bool EventLoop::quiet() const {
  for (const auto& [id, s] : state_->sockets) {
    if (s->http.answering() || !s->all_sent()) return false;
  }
  return true;
}

void EventLoop::stop() { state_->io.stop(); }

LoopStats EventLoop::stats() const {
  LoopStats stats{state_->sockets.size(), static_cast<size_t>(state_->accepted), 0};
  for (const auto& [id, s] : state_->sockets) stats.answering += s->http.answering() ? 1 : 0;
  return stats;
}

}  // namespace ll::serve
