#include "runtime/load/client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>

namespace ll::load {
namespace {

constexpr size_t kMostErrorBody = 64 << 10, kMostBody = 16 << 20;

std::string reason(const char* what) { return fmt::format("{}: {}", what, std::strerror(errno)); }

}  // namespace

struct Client::Flight {
  int fd = -1;
  std::string out;
  size_t sent = 0;
  bool connecting = true, ended = false, done = false, finished = false;
  ResponseReader response;
  EventReader events;
  std::string error_body;
  Sample sample;
};

Result<std::unique_ptr<Client>> Client::create(const Url& url, double timeout) {
  // Each stream is a connection: as many as the system allows.
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(url.host.c_str(), url.port.c_str(), &hints, &found);
  if (failed != 0) return error(Code::kNoInput, "cannot find {}: {}", url.host, gai_strerror(failed));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  std::unique_ptr<Client> client(new Client);
  client->timeout_ = timeout;
  client->poll_ = epoll_create1(EPOLL_CLOEXEC);
  if (client->poll_ < 0) return error(Code::kIo, "cannot wait for sockets: {}", std::strerror(errno));
  // "localhost" is often both ::1 and 127.0.0.1: the one that answers.
  std::string why;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    const bool ok = connect(fd, a->ai_addr, a->ai_addrlen) == 0;
    if (!ok) why = std::strerror(errno);
    close(fd);
    if (!ok) continue;
    std::memcpy(&client->address_, a->ai_addr, a->ai_addrlen);
    client->address_size_ = a->ai_addrlen;
    return client;
  }
  return error(Code::kNoInput, "cannot connect to {}: {}", url.authority, why);
}

Client::~Client() {
  abandon();
  if (poll_ >= 0) close(poll_);
}

void Client::abandon() {
  for (const auto& [fd, flight] : flights_) close(fd);
  flights_.clear();
  finished_.clear();
}

Result<std::pair<int, std::string>> Client::get(const std::string& request) {
  const int fd = socket(address_.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return error(Code::kIo, "cannot make a socket: {}", std::strerror(errno));
  const std::unique_ptr<const int, void (*)(const int*)> owner(&fd, [](const int* s) { close(*s); });
  timeval limit{.tv_sec = static_cast<time_t>(std::min(timeout_, 60.0)) + 1, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address_), address_size_) != 0 ||
      ::send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return error(Code::kNoInput, "cannot ask the server: {}", std::strerror(errno));
  }
  ResponseReader reader;
  std::string body;
  std::array<char, 16384> buffer;
  while (!reader.complete()) {
    const ssize_t n = recv(fd, buffer.data(), buffer.size(), 0);
    if (n < 0) return error(Code::kNoInput, "the server does not answer: {}", std::strerror(errno));
    if (n == 0) {
      TRY(reader.closed());
      break;
    }
    TRY(reader.feed({buffer.data(), static_cast<size_t>(n)}, [&](std::string_view part) -> Status {
      if (body.size() + part.size() > kMostBody) return bad_data("the answer is larger than {} bytes", kMostBody);
      body += part;
      return {};
    }));
  }
  return std::pair(reader.status(), body);
}

void Client::begin_level() { begun_ = std::chrono::steady_clock::now(); }

double Client::now() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count(); }

void Client::send(std::string request) {
  auto flight = std::make_unique<Flight>();
  Flight& f = *flight;
  f.out = std::move(request);
  f.sample.start = now();
  f.fd = socket(address_.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (f.fd < 0) {
    fail(f, "connect", reason("cannot make a socket"));
    finished_.push_back(std::move(f.sample));
    return;
  }
  const int yes = 1;
  setsockopt(f.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (connect(f.fd, reinterpret_cast<const sockaddr*>(&address_), address_size_) != 0 && errno != EINPROGRESS) {
    fail(f, "connect", reason("cannot connect"));
    close(f.fd);
    finished_.push_back(std::move(f.sample));
    return;
  }
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP;
  event.data.fd = f.fd;
  epoll_ctl(poll_, EPOLL_CTL_ADD, f.fd, &event);
  flights_[f.fd] = std::move(flight);
}

void Client::fail(Flight& flight, std::string kind, std::string text) {
  if (flight.ended) return;
  flight.ended = true;
  flight.sample.end = now();
  flight.sample.error_kind = std::move(kind);
  flight.sample.error_text = std::move(text);
}

// An event's chunk, or a part of an error's body.
Status Client::take(Flight& flight, std::string_view body) {
  if (flight.response.status() != 200) {
    flight.error_body.append(body.substr(0, kMostErrorBody - std::min(kMostErrorBody, flight.error_body.size())));
    return {};
  }
  return flight.events.feed(body, [&](std::string_view data) -> Status {
    if (flight.done || flight.ended) return {};
    TRY_ASSIGN(const Chunk chunk, read_chunk(data));
    const double time = now();
    Sample& s = flight.sample;
    if (!chunk.error.empty()) {
      fail(flight, "error event", chunk.error);
      return {};
    }
    if (chunk.text) {
      if (s.chunks > 0) s.gaps.push_back(time - s.last);
      if (s.chunks == 0) s.first = time;
      s.last = time;
      ++s.chunks;
    }
    flight.finished = flight.finished || chunk.finished;
    if (chunk.has_usage) {
      s.has_usage = true;
      s.prompt_tokens = chunk.prompt_tokens;
      s.output_tokens = chunk.output_tokens;
    }
    flight.done = chunk.done;
    return {};
  });
}

void Client::connected(Flight& f) {
  if (f.connecting) {
    int failed = 0;
    socklen_t size = sizeof failed;
    getsockopt(f.fd, SOL_SOCKET, SO_ERROR, &failed, &size);
    if (failed != 0) {
      errno = failed;
      return fail(f, "connect", reason("cannot connect"));
    }
    f.connecting = false;
  }
  while (f.sent < f.out.size()) {
    const ssize_t n = ::send(f.fd, f.out.data() + f.sent, f.out.size() - f.sent, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EAGAIN || errno == EINTR) return;
      // The server may have answered before it had read everything: what it said is worth more.
      break;
    }
    f.sent += static_cast<size_t>(n);
  }
  f.out.clear();
  f.sent = 0;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.fd = f.fd;
  epoll_ctl(poll_, EPOLL_CTL_MOD, f.fd, &event);
}

void Client::receive(Flight& f) {
  std::array<char, 16384> buffer;
  while (!f.ended) {
    const ssize_t n = recv(f.fd, buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (n < 0) return fail(f, "closed", reason("the connection was lost"));
    Status status;
    if (n == 0) {
      status = f.response.closed();
      if (!status) return fail(f, "closed", status.error().message);
    } else {
      status = f.response.feed({buffer.data(), static_cast<size_t>(n)}, [&](std::string_view b) { return take(f, b); });
      if (!status) return fail(f, "malformed", status.error().message);
    }
    if (f.ended) return;
    if (f.response.status() == 200 && f.done) {
      f.ended = true;
    } else if (f.response.complete()) {
      if (f.response.status() != 200) {
        return fail(f, fmt::format("status {}", f.response.status()), error_message(f.error_body));
      }
      if (!f.finished) return fail(f, "closed", "the stream ended without [DONE] or a finish_reason");
      f.ended = true;
    }
    if (!f.ended) continue;
    f.sample.end = now();
    if (f.sample.chunks == 0) {
      f.sample.error_kind = "no text";
      f.sample.error_text = "the answer held no text";
    }
  }
}

void Client::wait(double seconds, const Finished& finished) {
  if (finished_.empty()) {
    std::array<epoll_event, 256> events;
    const int timeout = static_cast<int>(std::clamp(std::ceil(seconds * 1e3), 0.0, 1e3));
    const int n = epoll_wait(poll_, events.data(), static_cast<int>(events.size()), timeout);
    for (int i = 0; i < n; ++i) {
      const auto found = flights_.find(events[static_cast<size_t>(i)].data.fd);
      if (found == flights_.end()) continue;
      Flight& f = *found->second;
      const uint32_t what = events[static_cast<size_t>(i)].events;
      if ((what & (EPOLLOUT | EPOLLERR)) != 0 && (f.connecting || !f.out.empty())) connected(f);
      if (!f.ended && (what & ~static_cast<uint32_t>(EPOLLOUT)) != 0) receive(f);
      if (f.ended) ended_.push_back(f.fd);
    }
    // Deadlines are coarse; looking at every request after every event would cost more than the events do.
    const double time = now();
    if (time - looked_ > 0.1 || time < looked_) {
      looked_ = time;
      for (const auto& [fd, f] : flights_) {
        if (time - f->sample.start > timeout_) fail(*f, "timeout", fmt::format("no end within {} s", timeout_));
        if (f->ended) ended_.push_back(fd);
      }
    }
    for (const int fd : ended_) {
      const auto found = flights_.find(fd);
      if (found == flights_.end()) continue;
      close(fd);
      finished_.push_back(std::move(found->second->sample));
      flights_.erase(found);
    }
    ended_.clear();
  }
  const std::vector<Sample> ended = std::move(finished_);
  finished_.clear();
  for (const Sample& sample : ended) finished(sample);
}

}  // namespace ll::load
