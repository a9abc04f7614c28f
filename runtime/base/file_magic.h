// What a file is, when it is not what was asked for.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace ll {

// The kinds of file that we read and that say by their first bytes what they are.
enum class FileKind { kOther, kGguf, kPlan };
FileKind file_kind(std::span<const std::byte> bytes);

// Names the kind of file by its first bytes: "a git-lfs pointer (...)", "an HTML page (...)", "a ZIP archive (...)",
// ... with what to do about it. Empty when the bytes are of no known kind. Reads at most the first 512 bytes.
std::string_view recognize(std::span<const std::byte> bytes);

}  // namespace ll
