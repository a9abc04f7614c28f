// The chat page: the files of web/, embedded when the program is built (cmake/embed_web.cmake).
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "runtime/serve/http_connection.h"

namespace ll::serve {

struct WebFile {
  std::string_view name;  // "index.html"
  std::string_view content_type;
  std::string_view etag;  // of the contents, with its quotes
  std::string_view text;
};

std::span<const WebFile> web_files();

// "/" is index.html, "/web/NAME" any of them; null when there is none.
const WebFile* find_web_file(std::string_view path);
// 304 where `if_none_match`, the header's value or null, names the file's etag. The headers see to it that the page
// loads nothing from elsewhere, runs no inline script, and is in no frame.
Response web_response(const WebFile& file, const std::string* if_none_match);

}  // namespace ll::serve
