#include "tools/llrt/read_stdin.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "tools/llrt/interrupt.h"

namespace ll {

Result<std::string> read_stdin() {
  std::string text;
  std::vector<char> piece(1 << 16);
  while (true) {
    const ssize_t n = read(STDIN_FILENO, piece.data(), piece.size());
    if (n > 0) text.append(piece.data(), static_cast<size_t>(n));
    if (n == 0 || interrupted()) return text;
    if (n < 0 && errno != EINTR) return error(Code::kIo, "cannot read stdin: {}", strerror(errno));
  }
}

}  // namespace ll
