// Sockets, timers and signals: the one thread that serves all connections. The only file that knows Boost.Asio is
// event_loop.cc.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/serve/http_connection.h"
#include "runtime/serve/tls.h"

namespace ll::serve {

struct ListenOptions {
  std::string host = "127.0.0.1";  // a name or address; "localhost" listens on both loopback addresses
  uint16_t port = 8080;            // 0: any free one
  std::string unix_socket{};       // path; listens there and nowhere else
  size_t connections = 10'240;     // more wait in the kernel's queue; the process's limit on files bounds it too
  std::shared_ptr<const TlsContext> tls{};  // HTTPS; null: HTTP
};

struct LoopStats {
  size_t connections = 0, accepted = 0, answering = 0;
};

class EventLoop {
 public:
  // Binds and listens, so that what is said afterwards about the address is true. `handler` outlives the loop.
  //   kUsage         the host has no address
  //   kCannotCreate  the address is in use or not ours
  static Result<std::unique_ptr<EventLoop>> create(const ListenOptions& listen, const ConnectionLimits& limits,
                                                   HttpHandler& handler);
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop();

  // "http://127.0.0.1:8080" of every address ("https:" with TLS), or "unix:/path".
  const std::vector<std::string>& addresses() const;
  // Whether all of them can be reached from this machine alone.
  bool loopback() const;

  // Serves until stop(). SIGINT and SIGTERM call on_signal with how many have come so far.
  void run(const std::function<void(int count)>& on_signal);

  // Any thread: runs `task` on the loop's thread.
  void post(std::function<void()> task);
  // The rest: the loop's thread alone.
  // Runs `task` about every `period` until it returns false.
  void every(Milliseconds period, std::function<bool()> task);
  // Takes no new connections, and no more requests on those there are.
  void drain();
  // True when no connection is being answered or has something left to send.
  bool quiet() const;
  void stop();
  LoopStats stats() const;

 private:
  struct State;
  explicit EventLoop(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ll::serve
