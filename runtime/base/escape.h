// Text from input, made safe to show: in messages and on terminals.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ll {

// `text` with control characters (C0, DEL, C1), backslashes and bytes that are not UTF-8 as \n, \t, \\ or \xNN.
// Shortened to about `limit` bytes with "..." at the end.
std::string escaped(std::string_view text, size_t limit = static_cast<size_t>(-1));

// 'text', escaped and at most about 100 bytes long: how messages name things.
std::string quote(std::string_view text);

}  // namespace ll
