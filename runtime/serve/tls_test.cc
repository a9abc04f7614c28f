#include "runtime/serve/tls.h"

#include <gtest/gtest.h>

namespace ll::serve {
namespace {

const std::string kFolder = LLCUDA_SOURCE_DIR "/tests/data/tls/";

class Tls : public testing::Test {
 protected:
  void SetUp() override {
    auto loaded = TlsContext::load(kFolder + "certificate.pem", kFolder + "key.pem");
    if (!loaded && loaded.error().code == Code::kUnsupported) GTEST_SKIP() << loaded.error().message;
    ASSERT_TRUE(loaded) << loaded.error().message;
    context_ = *loaded;
  }
  std::shared_ptr<const TlsContext> context_;
};

TEST_F(Tls, FilesThatDoNotFitAreNamed) {
  const auto code = [](const std::string& certificate, const std::string& key) {
    const auto loaded = TlsContext::load(certificate, key);
    EXPECT_FALSE(loaded);
    return loaded ? Code::kOk : loaded.error().code;
  };
  const std::string certificate = kFolder + "certificate.pem", key = kFolder + "key.pem";
  EXPECT_EQ(code(kFolder + "none.pem", key), Code::kNoInput);
  EXPECT_EQ(code(certificate, kFolder + "none.pem"), Code::kNoInput);
  EXPECT_EQ(code(key, key), Code::kBadData);
  EXPECT_EQ(code(certificate, certificate), Code::kBadData);
}

TEST_F(Tls, PlainHttpAndNoiseAreRefusedHoweverTheyAreCut) {
  for (const std::string_view bytes : {std::string_view("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                                       std::string_view("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\x16\x16", 12)}) {
    for (const size_t piece : {size_t{1}, size_t{5}, bytes.size()}) {
      const auto session = TlsSession::create(context_);
      std::string plain;
      bool whole = true;
      for (size_t at = 0; at < bytes.size() && whole; at += piece) {
        whole = session->receive(bytes.substr(at, piece), plain);
      }
      EXPECT_FALSE(whole);
      EXPECT_EQ(plain, "");
      EXPECT_FALSE(session->established());
      session->finish();
      const std::string_view alert = session->output();
      session->sent(alert.size());
      EXPECT_EQ(session->output(), "");
    }
  }
}

TEST_F(Tls, AHelloInPartsWaitsForTheRest) {
  const auto session = TlsSession::create(context_);
  std::string plain;
  EXPECT_TRUE(session->receive(std::string_view("\x16\x03\x01\x02\x00\x01", 6), plain));
  EXPECT_FALSE(session->established());
  EXPECT_FALSE(session->at_end());
  EXPECT_FALSE(session->send("too early"));
}

}  // namespace
}  // namespace ll::serve
