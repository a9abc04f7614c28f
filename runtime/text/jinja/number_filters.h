// Jinja2's filters that make numbers, or write them.
#pragma once

#include "runtime/text/jinja/machine.h"

namespace ll::jinja::filters {

Result<V> absolute(Machine& m, const V& v, const Bound& a);
Result<V> to_integer(Machine& m, const V& v, const Bound& a);
Result<V> to_float(Machine& m, const V& v, const Bound& a);
Result<V> round(Machine& m, const V& v, const Bound& a);
Result<V> file_size(Machine& m, const V& v, const Bound& a);

}  // namespace ll::jinja::filters
