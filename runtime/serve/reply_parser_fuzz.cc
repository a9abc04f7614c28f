// The first byte chooses the format; the rest is a reply. However it is cut, it comes to the same, and where no call
// was found nothing but the white space around thoughts is lost.
#include <cstdint>
#include <cstdlib>

#include "runtime/serve/reply_parser.h"

namespace {

using ll::serve::Delta;

std::string parse(const ll::serve::ReplyOptions& options, std::string_view text, size_t piece, std::string* content,
                  bool* calls) {
  ll::serve::ReplyParser parser(options);
  std::vector<Delta> deltas;
  for (size_t at = 0; at < text.size(); at += piece) parser.push(text.substr(at, piece), deltas);
  parser.finish(deltas);
  std::string out;
  int last = -1;
  *calls = false;
  for (const Delta& d : deltas) {
    const int kind = static_cast<int>(d.kind);
    if (kind != last || d.kind == Delta::Kind::kCall) out += "\x01" + std::to_string(kind) + d.id + "\x02";
    out += d.text;
    last = kind;
    *calls = *calls || d.kind == Delta::Kind::kCall;
    if (d.kind == Delta::Kind::kContent) *content += d.text;
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 4096) return 0;
  ll::serve::ReplyOptions options{.functions = {"f"}};
  constexpr int kFormats = static_cast<int>(ll::serve::ToolFormat::kJson) + 1;
  options.tools = static_cast<ll::serve::ToolFormat>((data[0] & 15) % kFormats);
  options.reasoning = (data[0] & 16) != 0;
  options.thinking = (data[0] & 32) != 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::string content, again;
  bool calls = false, calls_again = false;
  const std::string whole = parse(options, text, size, &content, &calls);
  for (const size_t piece : {size_t{1}, size_t{3}}) {
    if (parse(options, text, piece, &again, &calls_again) != whole) std::abort();
  }
  if (!options.reasoning && !calls && content != text) std::abort();
  return 0;
}
