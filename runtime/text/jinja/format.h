// Python's format mini-language.
#pragma once

#include "runtime/text/jinja/machine.h"

namespace ll::jinja {

// format(v, spec)
Result<Text> format_value(Machine& m, const V& v, std::string_view spec);

}  // namespace ll::jinja
