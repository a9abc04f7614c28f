// Jinja2's filters of lists and dicts.
#pragma once

#include "runtime/text/jinja/machine.h"

namespace ll::jinja::filters {

Result<V> batch(Machine& m, const V& v, const Bound& a);
Result<V> dict_sort(Machine& m, const V& v, const Bound& a);
Result<V> first(Machine& m, const V& v, const Bound& a);
Result<V> group_by(Machine& m, const V& v, const Bound& a);
Result<V> items(Machine& m, const V& v, const Bound& a);
Result<V> join(Machine& m, const V& v, const Bound& a);
Result<V> last(Machine& m, const V& v, const Bound& a);
Result<V> length(Machine& m, const V& v, const Bound& a);
Result<V> list(Machine& m, const V& v, const Bound& a);
Result<V> maximum(Machine& m, const V& v, const Bound& a);
Result<V> minimum(Machine& m, const V& v, const Bound& a);
Result<V> reverse(Machine& m, const V& v, const Bound& a);
Result<V> slice(Machine& m, const V& v, const Bound& a);
Result<V> sort(Machine& m, const V& v, const Bound& a);
Result<V> sum(Machine& m, const V& v, const Bound& a);
Result<V> unique(Machine& m, const V& v, const Bound& a);
Result<V> map(Machine& m, const V& v, const Args& args);
Result<V> select(Machine& m, const V& v, const Args& args);
Result<V> reject(Machine& m, const V& v, const Args& args);
Result<V> select_attribute(Machine& m, const V& v, const Args& args);
Result<V> reject_attribute(Machine& m, const V& v, const Args& args);

}  // namespace ll::jinja::filters
