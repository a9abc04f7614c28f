#include "runtime/base/result.h"

#include <fmt/format.h>

namespace ll {

const char* code_name(Code code) {
  switch (code) {
    case Code::kOk:
      return "ok";
    case Code::kUsage:
      return "usage";
    case Code::kBadData:
      return "bad data";
    case Code::kNoInput:
      return "no input";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kInternal:
      return "internal";
    case Code::kOutOfMemory:
      return "out of memory";
    case Code::kCannotCreate:
      return "cannot create";
    case Code::kIo:
      return "i/o";
    case Code::kRetry:
      return "retry";
  }
  return "internal";
}

Error Error::in(std::string_view where) && {
  message = fmt::format("{}: {}", where, message);
  return std::move(*this);
}

Error format_error(Code code, fmt::string_view format, fmt::format_args args) {
  return Error{code, fmt::vformat(format, args)};
}

}  // namespace ll
