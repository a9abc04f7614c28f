// The server with all its threads and real sockets, over a plan written by hand.
#include "runtime/serve/app.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/device/open_device.h"
#include "runtime/engine/tiny_plan_test.h"
#include "runtime/text/utf8.h"

namespace ll::serve {
namespace {

std::string tiny_tokenizer() {
  TokenizerSpec spec;
  for (const char* special : {"<unk>", "<s>", "</s>"}) {
    spec.added.push_back({.id = static_cast<int32_t>(spec.tokens.size()), .special = true});
    spec.tokens.push_back(special);
    spec.types.push_back(TokenType::kControl);
  }
  for (const char c : std::string("abcdefghijklmnopqrstuvwxyz .,!?:;\n'-0")) {
    std::string text;
    append_utf8(text, byte_letter(static_cast<uint8_t>(c)));
    spec.tokens.push_back(text);
    spec.types.push_back(TokenType::kNormal);
  }
  spec.pre_tokenizer.push_back({.kind = PreTokenizerStep::Kind::kByteLevel});
  spec.decoder.push_back({.kind = DecoderStep::Kind::kByteLevel});
  spec.bos_id = 1;
  spec.eos_id = 2;
  spec.end_ids = {2};
  spec.prefix = {1};
  return serialize_tokenizer(spec);
}

// A server on a free port, with its loop on a thread.
class Running {
 public:
  explicit Running(const char* name, AppOptions options = {}) : app_(quiet(std::move(options))) {
    const std::string path = tiny::write_plan(name, {.tokenizer = tiny_tokenizer()});
    auto plan = open_plan(path);
    std::remove(path.c_str());  // it stays open
    EXPECT_TRUE(plan) << (plan ? "" : plan.error().message);
    plan_ = std::make_unique<ValidatedPlan>(*std::move(plan));
    auto loop = EventLoop::create({.port = 0}, limits_, app_);
    EXPECT_TRUE(loop) << (loop ? "" : loop.error().message);
    loop_ = *std::move(loop);
    app_.attach(loop_.get());
    const std::string& address = loop_->addresses()[0];
    port_ = static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
    loop_->every(App::kTick, [this] {
      app_.tick();
      return true;
    });
    thread_ = std::thread([this] { loop_->run([](int) {}); });
  }
  ~Running() {
    loop_->post([this] { app_.drain(); });
    thread_.join();
    app_.stop();
    engine_.reset();
    loop_.reset();
  }
  void load() {
    auto device = open_device(*plan_, {.threads = 2});
    EXPECT_TRUE(device);
    EngineThreadOptions options;
    options.queue_sequences = 64;
    options.notify = [this](std::span<const RequestId> ids) { app_.wake(ids); };
    auto engine = EngineThread::start(**plan_, *std::move(device), std::move(options));
    EXPECT_TRUE(engine);
    engine_ = *std::move(engine);
    auto model = ServedModel::load(**plan_, "tiny");
    EXPECT_TRUE(model) << (model ? "" : model.error().message);
    (*model)->most_tokens = engine_->most_tokens();
    loop_->post([this, loaded = *model] { app_.ready(engine_.get(), loaded, 64); });
  }

  int connect() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  // All that comes back for a request on a connection of its own.
  std::string ask(const std::string& method, const std::string& path, const std::string& body = "") const {
    const int fd = connect();
    write_request(fd, method, path, body);
    std::string out;
    char part[4096];
    for (ssize_t n = 0; (n = ::read(fd, part, sizeof part)) > 0;) out.append(part, static_cast<size_t>(n));
    ::close(fd);
    return out;
  }
  static void write_request(int fd, const std::string& method, const std::string& path, const std::string& body) {
    const std::string request =
        method + " " + path +
        " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        "Content-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body;
    EXPECT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
  }
  double metric(const std::string& name) const {
    const std::string text = ask("GET", "/metrics");
    const size_t at = text.find("\n" + name + "{");
    EXPECT_NE(at, std::string::npos) << name;
    return at == std::string::npos ? -1 : std::stod(text.substr(text.find("} ", at) + 2));
  }

 private:
  static AppOptions quiet(AppOptions options) {
    options.log_level = 0;
    return options;
  }
  ConnectionLimits limits_;
  App app_;
  std::unique_ptr<ValidatedPlan> plan_;
  std::unique_ptr<EngineThread> engine_;
  std::unique_ptr<EventLoop> loop_;
  uint16_t port_ = 0;
  std::thread thread_;
};

std::string body_of(const std::string& response) { return response.substr(response.find("\r\n\r\n") + 4); }

TEST(App, IsNotReadyBeforeTheModelIs) {
  Running server("app_loading");
  EXPECT_TRUE(server.ask("GET", "/health").starts_with("HTTP/1.1 503 "));
  EXPECT_NE(server.ask("GET", "/health").find("Loading model"), std::string::npos);
  EXPECT_TRUE(server.ask("POST", "/v1/completions", R"({"prompt": "a"})").starts_with("HTTP/1.1 503 "));
  EXPECT_TRUE(server.ask("GET", "/version").starts_with("HTTP/1.1 200 "));
  server.load();
  while (server.ask("GET", "/health").starts_with("HTTP/1.1 503 ")) std::this_thread::yield();
  EXPECT_EQ(body_of(server.ask("GET", "/health")), R"({"status":"ok"})");
}

TEST(App, ManyClientsAtOnce) {
  Running server("app_many");
  server.load();
  while (server.ask("GET", "/health").starts_with("HTTP/1.1 503 ")) std::this_thread::yield();
  const std::string request =
      R"({"prompt": "in the beginning", "max_tokens": 30, "temperature": 0, "ignore_eos": true)";
  const std::string alone =
      nlohmann::json::parse(body_of(server.ask("POST", "/v1/completions", request + "}")))["choices"][0]["text"];
  EXPECT_FALSE(alone.empty());
  std::atomic<int> wrong = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      for (int round = 0; round < 5; ++round) {
        if (i % 4 == 3) {  // leaves in the middle
          const int fd = server.connect();
          Running::write_request(fd, "POST", "/v1/completions", request + R"(, "stream": true})");
          char part[64];
          if (round % 2 == 0 && ::read(fd, part, sizeof part) < 0) ++wrong;
          ::close(fd);
        } else if (i % 4 == 2) {
          if (!server.ask("POST", "/v1/completions", R"({"prompt": "a", "n": 99})").starts_with("HTTP/1.1 400 "))
            ++wrong;
          if (!server.ask("POST", "/tokenize", R"({"content": "a"})").starts_with("HTTP/1.1 200 ")) ++wrong;
        } else {
          const std::string answer = server.ask("POST", "/v1/completions", request + "}");
          const auto json = nlohmann::json::parse(body_of(answer), nullptr, false);
          if (json.is_discarded() || !json.contains("choices") || json["choices"][0]["text"] != alone) ++wrong;
        }
      }
    });
  }
  for (std::thread& c : clients) c.join();
  EXPECT_EQ(wrong, 0);
  while (server.metric("llrt:kv_pages_used") > 0) std::this_thread::yield();
  EXPECT_EQ(server.metric("llrt:connections"), 1);
}

TEST(App, EveryRouteButThePublicOnesNeedsTheKey) {
  AppOptions options;
  options.access.keys = {"key"};
  Running server("app_keys", options);
  server.load();
  for (const Route& route : routes()) {
    const bool refused =
        server.ask(route.method, route.path, route.endpoint == 0 ? "" : "{}").starts_with("HTTP/1.1 401 ");
    EXPECT_EQ(refused, !route.is_public) << route.path;
  }
}

TEST(App, DrainingAnswersWhatWasAccepted) {
  std::string answer;
  std::thread client;
  {
    Running server("app_drain");
    server.load();
    while (server.ask("GET", "/health").starts_with("HTTP/1.1 503 ")) std::this_thread::yield();
    const int fd = server.connect();
    Running::write_request(fd, "POST", "/v1/completions",
                           R"({"prompt": "a", "max_tokens": 60, "ignore_eos": true, "stream": true})");
    char part[16];
    ASSERT_GT(::read(fd, part, sizeof part), 0);  // accepted
    client = std::thread([&answer, fd] {
      char more[4096];
      for (ssize_t n = 0; (n = ::read(fd, more, sizeof more)) > 0;) answer.append(more, static_cast<size_t>(n));
      ::close(fd);
    });
  }
  client.join();
  EXPECT_NE(answer.find("data: [DONE]"), std::string::npos);
}

}  // namespace
}  // namespace ll::serve
