// Attributes, items, slices and iteration, under the rules of Jinja's immutable sandbox.
#include <algorithm>
#include <limits>

#include "runtime/text/jinja/machine.h"
#include "runtime/text/jinja/print.h"
#include "runtime/text/jinja/stable_sort.h"
#include "runtime/text/jinja/unicode.h"

namespace ll::jinja {
namespace {

constexpr size_t kIndexedDict = 8;  // dicts of more keys have them sorted

// How Jinja names the type of an object in "... has no attribute".
std::string object_type(const V& v) {
  switch (v.kind) {
    case Kind::kNone:
      return "None";
    case Kind::kNamespace:
      return "jinja2.utils.Namespace object";
    case Kind::kCycler:
      return "jinja2.utils.Cycler object";
    case Kind::kJoiner:
      return "jinja2.utils.Joiner object";
    case Kind::kMacro:
      return "jinja2.runtime.Macro object";
    case Kind::kLoop:
      return "jinja2.runtime.LoopContext object";
    case Kind::kTuple:
      return v.as<List>()->group ? "jinja2.filters._GroupTuple object" : "tuple object";
    case Kind::kString:
      return v.as<String>()->markup ? "markupsafe.Markup object" : "str object";
    default:
      return std::string(type_name(v)) + " object";
  }
}

// Methods that change a list or dict: templates may name them, not use them.
bool changes(Kind kind, std::string_view name) {
  static constexpr std::string_view kList[] = {"append", "clear", "pop",    "reverse",
                                               "insert", "sort",  "extend", "remove"};
  static constexpr std::string_view kDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
  if (kind == Kind::kList) return std::find(std::begin(kList), std::end(kList), name) != std::end(kList);
  return kind == Kind::kDict && std::find(std::begin(kDict), std::end(kDict), name) != std::end(kDict);
}

// Attributes that every Python object has: the sandbox hides them.
bool is_internal(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "__class__", "__delattr__",      "__dir__",    "__doc__",  "__eq__",          "__format__",
      "__ge__",    "__getattribute__", "__gt__",     "__hash__", "__init__",        "__init_subclass__",
      "__le__",    "__lt__",           "__ne__",     "__new__",  "__reduce__",      "__reduce_ex__",
      "__repr__",  "__setattr__",      "__sizeof__", "__str__",  "__subclasshook__"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

}  // namespace

uint64_t Range::size() const {
  const Wide span = step > 0 ? static_cast<Wide>(stop) - start : static_cast<Wide>(start) - stop;
  if (span <= 0) return 0;
  const Wide stride = step > 0 ? static_cast<Wide>(step) : -static_cast<Wide>(step);
  return static_cast<uint64_t>((span + stride - 1) / stride);
}

V Machine::undefined_attribute(const V& object, const V& name) {
  if (!name.is(Kind::kString)) {
    const auto shown = repr(name);
    return undefined(fmt::format("{} has no element {}", object_type(object), shown ? shown->bytes : "?"));
  }
  return undefined(fmt::format("'{}' has no attribute {}", object_type(object), quoted(name.bytes())));
}

V Machine::native_attribute(const V& object, std::string_view name) {
  if (changes(object.kind, name) || is_internal(name)) {
    return undefined(fmt::format("access to attribute {} of '{}' object is unsafe.", quoted(name), type_name(object)));
  }
  switch (object.kind) {
    case Kind::kNamespace:
      for (const auto& [key, v] : object.as<Namespace>()->attributes) {
        ++ticks_;
        if (key == name) return v;
      }
      return {};
    case Kind::kLoop: {
      const auto* loop = object.as<Loop>();
      const auto size = static_cast<int64_t>(loop->items->size());
      const int64_t index0 = std::min(static_cast<int64_t>(loop->next), size) - 1;
      if (name == "index") return integer(index0 + 1, true);
      if (name == "index0") return integer(index0, true);
      if (name == "revindex") return integer(size - index0, true);
      if (name == "revindex0") return integer(size - index0 - 1, true);
      if (name == "length") return integer(size, true);
      if (name == "first") return boolean(index0 == 0);
      if (name == "last") return boolean(index0 + 1 >= size);
      if (name == "depth") return integer(loop->depth0 + 1, true);
      if (name == "depth0") return integer(loop->depth0, true);
      if (name == "previtem") {
        return index0 > 0 ? (*loop->items)[static_cast<size_t>(index0 - 1)] : undefined("there is no previous item");
      }
      if (name == "nextitem") {
        return index0 + 1 < size ? (*loop->items)[static_cast<size_t>(index0 + 1)] : undefined("there is no next item");
      }
      break;
    }
    case Kind::kCycler:
      if (name == "current") return object.as<Cycler>()->items[object.as<Cycler>()->position];
      break;
    case Kind::kJoiner:
      if (name == "sep") return object.as<Joiner>()->separator;
      if (name == "used") return boolean(object.as<Joiner>()->used);
      break;
    case Kind::kMacro: {
      const MacroShape& shape = program_.macros[object.as<Macro>()->shape];
      if (name == "name") return string(program_.constants[shape.name].text, true);
      if (name == "catch_kwargs") return boolean((shape.flags & MacroShape::kKwargs) != 0);
      if (name == "catch_varargs") return boolean((shape.flags & MacroShape::kVarargs) != 0);
      if (name == "caller") return boolean((shape.flags & MacroShape::kCaller) != 0);
      if (name == "arguments") {
        std::vector<V> names;
        for (const uint32_t parameter : shape.parameters)
          names.push_back(string(program_.constants[parameter].text, true));
        return tuple(std::move(names));
      }
      break;
    }
    case Kind::kTuple:
      if (object.as<List>()->group && object.items().size() == 2) {
        if (name == "grouper") return object.items()[0];
        if (name == "list") return object.items()[1];
      }
      break;
    case Kind::kRange: {
      const auto* range = object.as<Range>();
      if (name == "start") return integer(range->start, false);
      if (name == "stop") return integer(range->stop, false);
      if (name == "step") return integer(range->step, false);
      break;
    }
    case Kind::kBool:
    case Kind::kInt:
      if (name == "real" || name == "numerator") return integer(object.as_integer(), object.trusted);
      if (name == "imag") return integer(0, true);
      if (name == "denominator") return integer(1, true);
      break;
    case Kind::kFloat:
      if (name == "real") return object;
      if (name == "imag") return number(0, true);
      break;
    default:
      break;
  }
  const int method = find_method(object.kind, name);
  if (method < 0) return {};
  auto* bound = make<Method>();
  bound->self = object;
  bound->index = static_cast<int16_t>(method);
  return value(Kind::kMethod, bound);
}

// object.name: an attribute before an item.
Result<V> Machine::attribute(const V& object, const V& name) {
  if (object.is(Kind::kUndefined)) return undefined_error(object);
  if (const V v = native_attribute(object, name.bytes()); !v.missing()) return v;
  if (object.is(Kind::kDict)) {
    if (const V* v = lookup(*object.as<Dict>(), name)) return *v;
  }
  return undefined_attribute(object, name);
}

// object[key]: an item before an attribute.
Result<V> Machine::item(const V& object, const V& key) {
  if (object.is(Kind::kUndefined)) return undefined_error(object);
  if (object.is(Kind::kDict)) {
    if (hashable(key)) {
      if (const V* v = lookup(*object.as<Dict>(), key)) return *v;
    }
  } else if (key.is_integral()) {
    int64_t index = key.as_integer();
    if (object.is(Kind::kList) || object.is(Kind::kTuple)) {
      const auto size = static_cast<int64_t>(object.items().size());
      if (index < 0) index += size;
      if (index >= 0 && index < size) return object.items()[static_cast<size_t>(index)];
    } else if (object.is(Kind::kString)) {
      const int64_t size = char_length(*object.as<String>());
      if (index < 0) index += size;
      if (index >= 0 && index < size) {
        const size_t begin = char_offset(*object.as<String>(), index);
        return substring(object, begin, begin + char_at(object.bytes(), begin).size);
      }
    } else if (object.is(Kind::kRange)) {
      const auto size = static_cast<int64_t>(object.as<Range>()->size());
      if (index < 0) index += size;
      if (index >= 0 && index < size) return integer(object.as<Range>()->at(static_cast<uint64_t>(index)), true);
    }
  }
  if (key.is(Kind::kString)) {
    if (const V v = native_attribute(object, key.bytes()); !v.missing()) return v;
  }
  return undefined_attribute(object, key);
}

Result<V> Machine::slice(const V& object, const V& start, const V& stop, const V& step) {
  if (object.is(Kind::kUndefined)) return undefined_error(object);
  const bool sliceable =
      object.is(Kind::kList) || object.is(Kind::kTuple) || object.is(Kind::kString) || object.is(Kind::kRange);
  if (object.is(Kind::kDict)) return bad_data("unhashable type: 'slice'");
  if (!sliceable) return bad_data("'{}' object is not subscriptable", type_name(object));
  for (const V* bound : {&step, &start, &stop}) {
    if (!bound->is(Kind::kNone) && !bound->is_integral()) {
      return bad_data("slice indices must be integers or None or have an __index__ method");
    }
  }
  const int64_t stride = step.is(Kind::kNone) ? 1 : step.as_integer();
  if (stride == 0) return bad_data("slice step cannot be zero");
  int64_t size = 0;
  TRY_ASSIGN(size, length(object));
  // PySlice_AdjustIndices
  const auto clamp = [&](const V& bound, int64_t fallback) {
    if (bound.is(Kind::kNone)) return fallback;
    int64_t at = bound.as_integer();
    if (at < 0) at = at < -size ? -1 : at + size;
    if (at < 0) return stride < 0 ? int64_t{-1} : int64_t{0};
    return at >= size ? (stride < 0 ? size - 1 : size) : at;
  };
  const int64_t first = clamp(start, stride < 0 ? size - 1 : 0), last = clamp(stop, stride < 0 ? -1 : size);
  if (object.is(Kind::kString) && stride == 1) {
    const auto& s = *object.as<String>();
    if (first >= last) return substring(object, 0, 0);
    return substring(object, char_offset(s, first), char_offset(s, last));
  }
  std::vector<int64_t> picked;
  if (stride > 0) {
    for (int64_t i = first; i<last; i = i> std::numeric_limits<int64_t>::max() - stride ? last : i + stride)
      picked.push_back(i);
  } else {
    for (int64_t i = first; i > last; i = i < std::numeric_limits<int64_t>::min() - stride ? last : i + stride)
      picked.push_back(i);
  }
  if (object.is(Kind::kString)) {
    std::vector<size_t> offsets;
    for (size_t at = 0; at < object.bytes().size(); at += char_at(object.bytes(), at).size) offsets.push_back(at);
    offsets.push_back(object.bytes().size());
    Text text;
    for (const int64_t i : picked)
      text.append(object.text(), offsets[static_cast<size_t>(i)], offsets[static_cast<size_t>(i) + 1]);
    work(offsets.size() / 8);
    return string(std::move(text), object.as<String>()->markup);
  }
  if (object.is(Kind::kRange)) {
    const auto* range = object.as<Range>();
    auto* part = make<Range>();
    part->start = range->start + first * range->step;
    part->stop = range->start + last * range->step;
    part->step = range->step * std::clamp<int64_t>(stride, -size - 1, size + 1);
    return value(Kind::kRange, part);
  }
  std::vector<V> items;
  items.reserve(picked.size());
  for (const int64_t i : picked) items.push_back(object.items()[static_cast<size_t>(i)]);
  return sequence(object.kind, std::move(items));
}

const V* Machine::lookup(const Dict& dict, const V& key) {
  if (dict.order.empty()) {
    for (const auto& [held, v] : dict.items) {
      if (key_order(held, key) == 0) return &v;
    }
    return nullptr;
  }
  const auto found = std::lower_bound(dict.order.begin(), dict.order.end(), key, [&](uint32_t i, const V& wanted) {
    return key_order(dict.items[i].first, wanted) < 0;
  });
  if (found == dict.order.end() || key_order(dict.items[*found].first, key) != 0) return nullptr;
  return &dict.items[*found].second;
}

Result<V> Machine::dict(std::vector<std::pair<V, V>> items) {
  for (const auto& [key, unused] : items) TRY(hashable(key));
  auto* d = make<Dict>();
  std::vector<uint32_t> order(items.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  TRY(stable_sort(order, [&](uint32_t a, uint32_t b) -> Result<bool> {
    if (over()) return check().error();
    return key_order(items[a].first, items[b].first) < 0;
  }));
  // Of equal keys the first stays, with the last one's value.
  std::vector<bool> dropped(items.size());
  for (size_t i = 0; i < order.size();) {
    size_t next = i + 1;
    for (; next < order.size() && key_order(items[order[i]].first, items[order[next]].first) == 0; ++next) {
      items[order[i]].second = items[order[next]].second;
      dropped[order[next]] = true;
    }
    i = next;
  }
  std::vector<uint32_t> place(items.size());
  for (uint32_t i = 0; i < items.size(); ++i) {
    place[i] = static_cast<uint32_t>(d->items.size());
    if (!dropped[i]) d->items.push_back(items[i]);
  }
  if (d->items.size() > kIndexedDict) {
    for (const uint32_t i : order) {
      if (!dropped[i]) d->order.push_back(place[i]);
    }
  }
  grow(d->items.size() * (2 * sizeof(V) + sizeof(uint32_t)));
  work(d->items.size() / 8);
  return value(Kind::kDict, d);
}

Result<const std::vector<V>*> Machine::items_of(const V& v) {
  std::vector<V> items;
  switch (v.kind) {
    case Kind::kList:
    case Kind::kTuple:
      work(v.items().size() / 8);
      return &v.items();
    case Kind::kUndefined:
      break;
    case Kind::kString:
      TRY(check_items(v.bytes().size()));
      for (size_t at = 0; at < v.bytes().size();) {
        const size_t size = char_at(v.bytes(), at).size;
        items.push_back(substring(v, at, at + size));
        at += size;
        if (over()) return check().error();
      }
      break;
    case Kind::kDict:
      for (const auto& [key, unused] : v.as<Dict>()->items) items.push_back(key);
      break;
    case Kind::kDictView:
      for (const auto& [key, held] : v.as<DictView>()->dict->items) {
        switch (v.as<DictView>()->what) {
          case DictView::What::kKeys:
            items.push_back(key);
            break;
          case DictView::What::kValues:
            items.push_back(held);
            break;
          case DictView::What::kItems:
            items.push_back(tuple({key, held}));
            break;
        }
        if (over()) return check().error();
      }
      break;
    case Kind::kRange: {
      const auto* range = v.as<Range>();
      TRY(check_items(range->size()));
      for (uint64_t i = 0; i < range->size(); ++i) items.push_back(integer(range->at(i), true));
      break;
    }
    case Kind::kIterator: {
      auto* it = v.as<Iterator>();
      if (it->error) return bad_data("{}", *it->error);
      items.assign(it->items.begin() + static_cast<ptrdiff_t>(it->next), it->items.end());
      it->next = it->items.size();
      break;
    }
    default:
      return bad_data("'{}' object is not iterable", type_name(v));
  }
  return &list(std::move(items)).items();
}

Result<const std::vector<V>*> Machine::unpack(const V& v, size_t count) {
  const auto items = items_of(v);
  if (!items) {
    if (over()) return check().error();
    if (v.is(Kind::kIterator)) return items.error();
    return bad_data("cannot unpack non-iterable {} object", type_name(v));
  }
  const size_t size = (*items)->size();
  if (size < count) return bad_data("not enough values to unpack (expected {}, got {})", count, size);
  if (size > count) return bad_data("too many values to unpack (expected {})", count);
  return *items;
}

Result<int64_t> Machine::length(const V& v) {
  switch (v.kind) {
    case Kind::kUndefined:
      return int64_t{0};
    case Kind::kString:
      return char_length(*v.as<String>());
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(v.items().size());
    case Kind::kDict:
      return static_cast<int64_t>(v.as<Dict>()->items.size());
    case Kind::kDictView:
      return static_cast<int64_t>(v.as<DictView>()->dict->items.size());
    case Kind::kRange:
      return static_cast<int64_t>(v.as<Range>()->size());
    case Kind::kLoop:
      return static_cast<int64_t>(v.as<Loop>()->items->size());
    default:
      return bad_data("object of type '{}' has no len()", type_name(v));
  }
}

int64_t Machine::char_length(const String& s) {
  if (s.ascii) return static_cast<int64_t>(s.text.size());
  read(s.text.size());
  return static_cast<int64_t>(char_count(s.text.bytes));
}

size_t Machine::char_offset(const String& s, int64_t index) {
  if (s.ascii) return std::min(static_cast<size_t>(index), s.text.size());
  size_t at = 0;
  for (; index > 0 && at < s.text.size(); --index) at += char_at(s.text.bytes, at).size;
  read(at);
  return at;
}

V Machine::substring(const V& source, size_t begin, size_t end) {
  return string(source.text().sub(begin, end), source.as<String>()->markup);
}

}  // namespace ll::jinja
