#include "runtime/api/status.h"

namespace ll::api {
namespace {

// A fixed buffer: reporting that memory is out must not need any.
thread_local char last_error[2048] = "";

}  // namespace

llrt_status fail(Code code, const char* message) noexcept {
  const size_t size = std::min(std::strlen(message), sizeof last_error - 1);
  std::memmove(last_error, message, size);
  last_error[size] = '\0';
  return static_cast<llrt_status>(code);
}

llrt_status fail(const Error& error) noexcept { return fail(error.code, error.message.c_str()); }

Status check_struct_size(size_t size, size_t first_version, const char* name) {
  if (size >= first_version && size <= kMaxStructSize) return {};
  return usage("{}: struct_size is {}, expected {} to {}; was it initialized?", name, size, first_version,
               kMaxStructSize);
}

static_assert(static_cast<int>(Code::kUsage) == LLRT_USAGE && static_cast<int>(Code::kBadData) == LLRT_BAD_DATA &&
              static_cast<int>(Code::kNoInput) == LLRT_NO_INPUT &&
              static_cast<int>(Code::kUnsupported) == LLRT_UNSUPPORTED &&
              static_cast<int>(Code::kInternal) == LLRT_INTERNAL &&
              static_cast<int>(Code::kOutOfMemory) == LLRT_OUT_OF_MEMORY &&
              static_cast<int>(Code::kCannotCreate) == LLRT_CANNOT_CREATE && static_cast<int>(Code::kIo) == LLRT_IO &&
              static_cast<int>(Code::kRetry) == LLRT_RETRY);

}  // namespace ll::api

// At global scope: a definition inside a namespace would not take the header's visibility.
using namespace ll;       // NOLINT(google-build-using-namespace)
using namespace ll::api;  // NOLINT(google-build-using-namespace)

extern "C" {

uint32_t llrt_api_version(void) { return LLRT_API_VERSION; }
const char* llrt_version(void) { return LLCUDA_VERSION; }
const char* llrt_last_error(void) { return last_error; }
const char* llrt_status_name(llrt_status status) { return code_name(static_cast<Code>(status)); }

}  // extern "C"
