// Many requests at once on one thread: sockets that do not block, one connection a request.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "runtime/load/response_reader.h"
#include "runtime/load/statistics.h"
#include "runtime/load/workload.h"

namespace ll::load {

class Client {
 public:
  // Resolves the host. kNoInput when it cannot be found.
  static Result<std::unique_ptr<Client>> create(const Url& url, double timeout);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client();

  // One request that is answered as a whole: status and body.
  Result<std::pair<int, std::string>> get(const std::string& request);

  using Finished = std::function<void(Sample)>;
  // Times of samples count from here.
  void begin_level();
  double now() const;  // seconds since begin_level
  // Sends a request whose answer is a stream. Failures to connect come to `finished` too.
  void send(std::string request);
  // Moves bytes for at most so many seconds, returns at once when something has finished.
  void wait(double seconds, const Finished& finished);
  size_t open() const { return flights_.size(); }
  // Drops what is under way.
  void abandon();

 private:
  struct Flight;
  Client() = default;
  void connected(Flight& flight);
  void receive(Flight& flight);
  Status take(Flight& flight, std::string_view body);
  void fail(Flight& flight, std::string kind, std::string text);

  sockaddr_storage address_{};
  socklen_t address_size_ = 0;
  int poll_ = -1;
  double timeout_ = 0;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  std::map<int, std::unique_ptr<Flight>> flights_;  // by socket
  std::vector<Sample> finished_;
  std::vector<int> ended_;  // sockets to close
  double looked_ = 0;       // when deadlines were looked at
};

}  // namespace ll::load
