#include "runtime/text/jinja/sequence_filters.h"

#include <algorithm>
#include <set>

#include "runtime/text/jinja/filter_arguments.h"
#include "runtime/text/jinja/print.h"
#include "runtime/text/jinja/stable_sort.h"
#include "runtime/text/jinja/string_methods.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja::filters {
namespace {

bool flag(Machine& m, const V& v) { return !v.missing() && m.truth(v); }

// The keys that an `attribute` argument stands for: "a.0.b" is a, then 0, then b.
std::vector<V> attribute_path(Machine& m, const V& attribute) {
  std::vector<V> path;
  if (attribute.missing() || attribute.is(Kind::kNone)) return path;
  if (!attribute.is(Kind::kString)) return {attribute};
  std::string_view rest = attribute.bytes();
  for (;;) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const std::string_view part = rest.substr(0, dot);
    const bool digits =
        !part.empty() && part.size() < 18 && part.find_first_not_of("0123456789") == std::string_view::npos;
    path.push_back(digits ? integer(std::stoll(std::string(part)), true) : m.string(part, true));
    if (dot == rest.size()) return path;
    rest.remove_prefix(dot + 1);
  }
}

Result<V> follow(Machine& m, V v, const std::vector<V>& path, const V& fallback = {}) {
  for (const V& key : path) {
    TRY_ASSIGN(v, m.item(v, key));
    if (v.is(Kind::kUndefined) && !fallback.missing() && !fallback.is(Kind::kNone)) v = fallback;
  }
  return v;
}

V ignore_case(Machine& m, const V& v) { return v.is(Kind::kString) ? map_text(m, v, to_lower) : v; }

Result<bool> precedes(Machine& m, const V& a, const V& b) {
  TRY_ASSIGN(const Machine::Order order, m.order(a, b));
  return order == Machine::Order::kLess;
}

struct Keyed {
  V key, value;
};

Status sort_keyed(Machine& m, std::vector<Keyed>& items, bool reverse) {
  // Python reverses before and after, so that equal items keep their order.
  if (reverse) std::reverse(items.begin(), items.end());
  TRY(stable_sort(items, [&](const Keyed& a, const Keyed& b) { return precedes(m, a.key, b.key); }));
  if (reverse) std::reverse(items.begin(), items.end());
  return {};
}

V values_of(Machine& m, const std::vector<Keyed>& items) {
  std::vector<V> out;
  out.reserve(items.size());
  for (const Keyed& item : items) out.push_back(item.value);
  return m.list(std::move(out));
}

// Fills a lazy filter's items; an error waits behind those before it. An exhausted budget is an error at once.
template <class F>
Result<V> lazily(Machine& m, const char* type, F&& fill) {
  std::vector<V> items;
  if (Status status = fill(items); !status) {
    TRY(m.check());
    return m.iterator(std::move(items), type, status.error().message);
  }
  return m.iterator(std::move(items), type);
}

Result<V> extreme(Machine& m, const V& v, const Bound& a, bool greatest) {
  TRY_ASSIGN(const std::vector<V>* items, m.items_of(v));
  if (items->empty()) return m.undefined("No aggregated item, sequence was empty.");
  const std::vector<V> path = attribute_path(m, a[1]);
  V best, best_key;
  for (const V& item : *items) {
    TRY_ASSIGN(V key, follow(m, item, path));
    if (!flag(m, a[0])) key = ignore_case(m, key);
    bool better = best.missing();
    if (!better) {
      TRY_ASSIGN(const Machine::Order order, m.order(key, best_key, greatest ? ">" : "<"));
      better = order == (greatest ? Machine::Order::kGreater : Machine::Order::kLess);
    }
    if (!better) continue;
    best = item;
    best_key = key;
  }
  return best;
}

// select, reject and their attribute forms: `wanted` is the outcome of the test that keeps an item.
Result<V> pick(Machine& m, const V& v, const Args& args, bool by_attribute, bool wanted) {
  static constexpr const char* kType = "generator";
  return lazily(m, kType, [&](std::vector<V>& out) -> Status {
    if (!m.truth(v)) return {};
    std::span<const V> rest = args.positional;
    std::vector<V> path;
    if (by_attribute) {
      if (rest.empty()) return bad_data("Missing parameter for attribute name");
      path = attribute_path(m, rest[0]);
      rest = rest.subspan(1);
    }
    const V name = rest.empty() ? V{} : rest[0];
    int test = -1;
    TRY_ASSIGN(const std::vector<V>* items, m.items_of(v));
    for (const V& item : *items) {
      TRY(m.check());
      m.work(1);
      TRY_ASSIGN(const V subject, follow(m, item, path));
      bool holds = false;
      if (name.missing()) {
        holds = m.truth(subject);
      } else {
        if (test < 0) {
          if (name.is(Kind::kString)) test = find_test(name.bytes());
          if (test < 0) {
            TRY_ASSIGN(const Text shown, m.repr(name));
            return bad_data("No test named {}.", shown.bytes);
          }
        }
        TRY_ASSIGN(holds, call_test(m, test, subject, {rest.subspan(1), args.named}));
      }
      if (holds == wanted) out.push_back(item);
    }
    return {};
  });
}

}  // namespace

Result<V> length(Machine& m, const V& v, const Bound&) {
  TRY_ASSIGN(const int64_t n, m.length(v));
  return integer(n, true);
}

Result<V> list(Machine& m, const V& v, const Bound&) {
  TRY_ASSIGN(const std::vector<V>* items, m.items_of(v));
  return m.list(*items);
}

Result<V> first(Machine& m, const V& v, const Bound&) {
  if (v.is(Kind::kIterator)) {
    auto* it = v.as<Iterator>();
    if (it->next < it->items.size()) return it->items[it->next++];
    if (it->error) return bad_data("{}", *it->error);
    return m.undefined("No first item, sequence was empty.");
  }
  if (v.is(Kind::kString) && !v.bytes().empty()) return m.item(v, integer(0, true));
  TRY_ASSIGN(const std::vector<V>* items, m.items_of(v));
  return items->empty() ? m.undefined("No first item, sequence was empty.") : items->front();
}

Result<V> last(Machine& m, const V& v, const Bound&) {
  if (v.is(Kind::kIterator) || v.is(Kind::kNamespace)) return bad_data("'{}' object is not reversible", type_name(v));
  if (v.is(Kind::kString) && !v.bytes().empty()) return m.item(v, integer(-1, true));
  const auto items = m.items_of(v);
  if (!items) {
    TRY(m.check());
    return bad_data("'{}' object is not reversible", type_name(v));
  }
  return (*items)->empty() ? m.undefined("No last item, sequence was empty.") : (*items)->back();
}

Result<V> reverse(Machine& m, const V& v, const Bound&) {
  if (v.is(Kind::kString)) return m.slice(v, none(), none(), integer(-1, true));
  const auto items = m.items_of(v);
  if (!items) {
    TRY(m.check());
    return bad_data("argument must be iterable");
  }
  std::vector<V> reversed((*items)->rbegin(), (*items)->rend());
  switch (v.kind) {
    case Kind::kIterator:
      return m.list(std::move(reversed));
    case Kind::kList:
      return m.iterator(std::move(reversed), "list_reverseiterator");
    case Kind::kRange:
      return m.iterator(std::move(reversed), "range_iterator");
    default:
      return m.iterator(std::move(reversed), "reversed");
  }
}

Result<V> items(Machine& m, const V& v, const Bound&) {
  return lazily(m, "generator", [&](std::vector<V>& out) -> Status {
    if (v.is(Kind::kUndefined)) return {};
    if (!v.is(Kind::kDict)) return bad_data("Can only get item pairs from a mapping.");
    for (const auto& [key, value] : v.as<Dict>()->items) out.push_back(m.tuple({key, value}));
    return m.check();
  });
}

Result<V> join(Machine& m, const V& v, const Bound& a) {
  const std::vector<V> path = attribute_path(m, a[1]);
  TRY_ASSIGN(const std::vector<V>* source, m.items_of(v));
  V separator = m.string("", true);
  if (!a[0].missing()) {
    TRY_ASSIGN(Text text, m.str(a[0]));
    separator = m.string(std::move(text));
  }
  std::vector<V> texts;
  for (const V& item : *source) {
    TRY_ASSIGN(const V part, follow(m, item, path));
    TRY_ASSIGN(const V text, soft_string(m, part));
    texts.push_back(text);
    TRY(m.check());
  }
  return ll::jinja::join(m, separator, texts);
}

Result<V> sort(Machine& m, const V& v, const Bound& a) {
  std::vector<std::vector<V>> paths;
  if (!a[2].missing() && a[2].is(Kind::kString)) {
    std::string_view rest = a[2].bytes();
    for (;;) {
      const size_t comma = std::min(rest.find(','), rest.size());
      paths.push_back(attribute_path(m, m.string(rest.substr(0, comma), true)));
      if (comma == rest.size()) break;
      rest.remove_prefix(comma + 1);
    }
  } else {
    paths.push_back(attribute_path(m, a[2]));
  }
  TRY_ASSIGN(const std::vector<V>* source, m.items_of(v));
  std::vector<Keyed> keyed;
  for (const V& item : *source) {
    std::vector<V> keys;
    for (const auto& path : paths) {
      TRY_ASSIGN(const V key, follow(m, item, path));
      keys.push_back(flag(m, a[1]) ? key : ignore_case(m, key));
    }
    keyed.push_back({m.list(std::move(keys)), item});
    TRY(m.check());
  }
  TRY(sort_keyed(m, keyed, flag(m, a[0])));
  return values_of(m, keyed);
}

Result<V> dict_sort(Machine& m, const V& v, const Bound& a) {
  bool by_value = false;
  if (!a[1].missing()) {
    const std::string by = a[1].is(Kind::kString) ? a[1].bytes() : "";
    if (by != "key" && by != "value") return bad_data("You can only sort by either \"key\" or \"value\"");
    by_value = by == "value";
  }
  if (v.is(Kind::kUndefined)) return m.undefined_error(v);
  if (!v.is(Kind::kDict)) return bad_data("'{}' object has no attribute 'items'", type_name(v));
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : v.as<Dict>()->items) {
    const V& by = by_value ? value : key;
    keyed.push_back({flag(m, a[0]) ? by : ignore_case(m, by), m.tuple({key, value})});
    TRY(m.check());
  }
  TRY(sort_keyed(m, keyed, flag(m, a[2])));
  return values_of(m, keyed);
}

Result<V> group_by(Machine& m, const V& v, const Bound& a) {
  const std::vector<V> path = attribute_path(m, a[0]);
  TRY_ASSIGN(const std::vector<V>* source, m.items_of(v));
  std::vector<Keyed> keyed;
  for (const V& item : *source) {
    TRY_ASSIGN(const V key, follow(m, item, path, a[1]));
    keyed.push_back({flag(m, a[2]) ? key : ignore_case(m, key), item});
    TRY(m.check());
  }
  TRY(sort_keyed(m, keyed, false));
  std::vector<V> groups;
  for (size_t i = 0; i < keyed.size();) {
    std::vector<V> members;
    const size_t begin = i;
    for (bool same = true; same;) {
      members.push_back(keyed[i++].value);
      same = false;
      if (i < keyed.size()) {
        TRY_ASSIGN(same, m.equal(keyed[begin].key, keyed[i].key));
      }
    }
    TRY_ASSIGN(const V grouper, follow(m, keyed[begin].value, path, a[1]));
    const V group = m.tuple({grouper, m.list(std::move(members))});
    group.as<List>()->group = true;
    groups.push_back(group);
  }
  return m.list(std::move(groups));
}

Result<V> unique(Machine& m, const V& v, const Bound& a) {
  return lazily(m, "generator", [&](std::vector<V>& out) -> Status {
    const std::vector<V> path = attribute_path(m, a[1]);
    TRY_ASSIGN(const std::vector<V>* source, m.items_of(v));
    const auto before = [&](const V& x, const V& y) { return m.key_order(x, y) < 0; };
    std::set<V, decltype(before)> seen(before);
    for (const V& item : *source) {
      TRY_ASSIGN(V key, follow(m, item, path));
      if (!flag(m, a[0])) key = ignore_case(m, key);
      TRY(m.hashable(key));
      TRY(m.check());
      if (seen.insert(key).second) out.push_back(item);
    }
    return {};
  });
}

Result<V> minimum(Machine& m, const V& v, const Bound& a) { return extreme(m, v, a, false); }
Result<V> maximum(Machine& m, const V& v, const Bound& a) { return extreme(m, v, a, true); }

Result<V> sum(Machine& m, const V& v, const Bound& a) {
  const std::vector<V> path = attribute_path(m, a[0]);
  V total = a[1].missing() ? integer(0, true) : a[1];
  if (total.is(Kind::kString)) return bad_data("sum() can't sum strings [use ''.join(seq) instead]");
  TRY_ASSIGN(const std::vector<V>* source, m.items_of(v));
  for (const V& item : *source) {
    TRY_ASSIGN(const V term, follow(m, item, path));
    TRY_ASSIGN(total, m.binary(Op::kAdd, total, term));
    TRY(m.check());
  }
  return total;
}

Result<V> batch(Machine& m, const V& v, const Bound& a) {
  return lazily(m, "generator", [&](std::vector<V>& out) -> Status {
    TRY_ASSIGN(const std::vector<V>* source, m.items_of(v));
    const int64_t size = a[0].is_integral() ? a[0].as_integer() : -1;
    std::vector<V> row;
    for (const V& item : *source) {
      if (static_cast<int64_t>(row.size()) == size) out.push_back(m.list(std::exchange(row, {})));
      row.push_back(item);
      TRY(m.check());
    }
    if (row.empty()) return {};
    if (!a[1].missing() && !a[1].is(Kind::kNone) && static_cast<int64_t>(row.size()) < size) {
      TRY(m.check_items(static_cast<uint64_t>(size)));
      row.resize(static_cast<size_t>(size), a[1]);
    }
    out.push_back(m.list(std::move(row)));
    return {};
  });
}

Result<V> slice(Machine& m, const V& v, const Bound& a) {
  return lazily(m, "generator", [&](std::vector<V>& out) -> Status {
    TRY_ASSIGN(const std::vector<V>* source, m.items_of(v));
    TRY_ASSIGN(const int64_t slices, integer_argument(a[0], 0));
    if (slices == 0) return bad_data("integer division or modulo by zero");
    if (slices < 0) return {};
    TRY(m.check_items(static_cast<uint64_t>(slices)));
    const auto count = static_cast<size_t>(slices);
    const size_t each = source->size() / count, longer = source->size() % count;
    size_t begin = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t end = begin + each + (i < longer ? 1 : 0);
      std::vector<V> part(source->begin() + static_cast<ptrdiff_t>(begin),
                          source->begin() + static_cast<ptrdiff_t>(end));
      if (!a[1].missing() && !a[1].is(Kind::kNone) && i >= longer) part.push_back(a[1]);
      out.push_back(m.list(std::move(part)));
      begin = end;
      TRY(m.check());
    }
    return {};
  });
}

Result<V> map(Machine& m, const V& v, const Args& args) {
  return lazily(m, "generator", [&](std::vector<V>& out) -> Status {
    if (!m.truth(v)) return {};
    TRY_ASSIGN(const std::vector<V>* source, m.items_of(v));
    V attribute, fallback;
    for (const auto& [key, value] : args.named) {
      if (key.bytes() == "attribute") attribute = value;
    }
    if (args.positional.empty() && !attribute.missing()) {
      for (const auto& [key, value] : args.named) {
        if (key.bytes() == "default") fallback = value;
        if (key.bytes() != "default" && key.bytes() != "attribute") {
          return bad_data("Unexpected keyword argument {}", quoted(key.bytes()));
        }
      }
      const std::vector<V> path = attribute_path(m, attribute);
      for (const V& item : *source) {
        TRY_ASSIGN(out.emplace_back(), follow(m, item, path, fallback));
        TRY(m.check());
      }
      return {};
    }
    if (args.positional.empty()) return bad_data("map requires a filter argument");
    const V& name = args.positional[0];
    const int filter = name.is(Kind::kString) ? find_filter(name.bytes()) : -1;
    if (filter < 0) {
      TRY_ASSIGN(const Text shown, m.repr(name));
      return bad_data("No filter named {}.", shown.bytes);
    }
    for (const V& item : *source) {
      TRY_ASSIGN(const V mapped, call_filter(m, filter, item, {args.positional.subspan(1), args.named}));
      out.push_back(mapped);
      m.work(1);
      TRY(m.check());
    }
    return {};
  });
}

Result<V> select(Machine& m, const V& v, const Args& args) { return pick(m, v, args, false, true); }
Result<V> reject(Machine& m, const V& v, const Args& args) { return pick(m, v, args, false, false); }
Result<V> select_attribute(Machine& m, const V& v, const Args& args) { return pick(m, v, args, true, true); }
Result<V> reject_attribute(Machine& m, const V& v, const Args& args) { return pick(m, v, args, true, false); }

}  // namespace ll::jinja::filters
