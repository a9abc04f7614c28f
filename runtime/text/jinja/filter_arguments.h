// What filters share in reading their arguments.
#pragma once

#include "runtime/text/jinja/machine.h"

namespace ll::jinja {

// markupsafe.soft_str: the value if it is a string, else str(value).
Result<V> soft_string(Machine& m, const V& v);
Result<int64_t> integer_argument(const V& v, int64_t fallback);

}  // namespace ll::jinja
