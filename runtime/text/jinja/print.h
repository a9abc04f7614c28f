// Values as Python writes them.
#pragma once

#include <string>
#include <string_view>

#include "runtime/text/jinja/object.h"

namespace ll::jinja {

// repr(str)
std::string quoted(std::string_view text);
// repr(float)
std::string float_repr(double value);
// The text with markupsafe's entities for & < > " ', unless it is markup already.
Text escape_markup(const V& string);

}  // namespace ll::jinja
