// What a file is, when it is not what was asked for.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace ll {

// Names the kind of file by its first bytes: "a git-lfs pointer (...)", "an HTML page (...)", "a ZIP archive (...)",
// ... with what to do about it. Empty when the bytes are of no known kind. Reads at most the first 512 bytes.
std::string_view recognize(std::span<const std::byte> bytes);

}  // namespace ll
