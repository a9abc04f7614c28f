// Functions that templates find among their variables: Jinja2's and those that transformers adds.
#include <algorithm>
#include <ctime>

#include "runtime/text/jinja/machine.h"
#include "runtime/text/jinja/print.h"

namespace ll::jinja {
namespace {

constexpr uint64_t kMaxRange = 100'000;  // of Jinja's sandbox

Result<V> make_range(Machine& m, const Args& args) {
  if (!args.named.empty()) {
    return bad_data("safe_range() got an unexpected keyword argument '{}'", args.named[0].first.bytes());
  }
  const auto a = args.positional;
  if (a.empty()) return bad_data("range expected at least 1 argument, got 0");
  if (a.size() > 3) return bad_data("range expected at most 3 arguments, got {}", a.size());
  for (const V& v : a) {
    if (!v.is_integral()) return bad_data("'{}' object cannot be interpreted as an integer", type_name(v));
  }
  auto* range = m.make<Range>();
  range->start = a.size() > 1 ? a[0].as_integer() : 0;
  range->stop = a.size() > 1 ? a[1].as_integer() : a[0].as_integer();
  range->step = a.size() > 2 ? a[2].as_integer() : 1;
  if (range->step == 0) return bad_data("range() arg 3 must not be zero");
  if (range->size() > kMaxRange) {
    return bad_data("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", kMaxRange);
  }
  if (range->size() == 0) range->stop = range->start, range->step = range->step > 0 ? 1 : -1;
  return Machine::value(Kind::kRange, range);
}

// dict(mapping or pairs, key=value, ...): namespace() takes the same.
Result<V> make_dict(Machine& m, const Args& args) {
  if (args.positional.size() > 1) return bad_data("dict expected at most 1 argument, got {}", args.positional.size());
  std::vector<std::pair<V, V>> items;
  if (!args.positional.empty()) {
    const V& source = args.positional[0];
    if (source.is(Kind::kDict)) {
      items = source.as<Dict>()->items;
    } else {
      TRY_ASSIGN(const std::vector<V>* pairs, m.items_of(source));
      for (size_t i = 0; i < pairs->size(); ++i) {
        const auto two = m.items_of((*pairs)[i]);
        if (!two) return bad_data("cannot convert dictionary update sequence element #{} to a sequence", i);
        if ((*two)->size() != 2) {
          return bad_data("dictionary update sequence element #{} has length {}; 2 is required", i, (*two)->size());
        }
        items.emplace_back((**two)[0], (**two)[1]);
      }
    }
  }
  items.insert(items.end(), args.named.begin(), args.named.end());
  return m.dict(std::move(items));
}

Result<V> make_namespace(Machine& m, const Args& args) {
  TRY_ASSIGN(const V dict, make_dict(m, args));
  auto* ns = m.make<Namespace>();
  for (const auto& [key, v] : dict.as<Dict>()->items) {
    if (!key.is(Kind::kString)) continue;  // no template can name it
    m.grow(key.bytes().size());
    ns->attributes.emplace_back(key.bytes(), v);
  }
  return Machine::value(Kind::kNamespace, ns);
}

Result<V> make_cycler(Machine& m, const Args& args) {
  if (!args.named.empty()) {
    return bad_data("Cycler.__init__() got an unexpected keyword argument '{}'", args.named[0].first.bytes());
  }
  if (args.positional.empty()) return bad_data("at least one item has to be provided");
  auto* cycler = m.make<Cycler>();
  cycler->items.assign(args.positional.begin(), args.positional.end());
  m.grow(cycler->items.size() * sizeof(V));
  return Machine::value(Kind::kCycler, cycler);
}

Result<V> make_joiner(Machine& m, const Args& args) {
  static constexpr Signature kSignature{"Joiner.__init__", "sep", 0, 1};
  TRY_ASSIGN(const Bound bound, bind(kSignature, args));
  auto* joiner = m.make<Joiner>();
  joiner->separator = bound[0].missing() ? m.string(", ", true) : bound[0];
  return Machine::value(Kind::kJoiner, joiner);
}

Result<V> raise_exception(Machine& m, const Args& args) {
  static constexpr Signature kSignature{"raise_exception", "message", 1};
  TRY_ASSIGN(const Bound bound, bind(kSignature, args));
  TRY_ASSIGN(const Text message, m.str(bound[0]));
  return bad_data("{}", message.bytes);
}

std::tm broken_down(const std::optional<CivilTime>& now) {
  std::tm tm{};
  if (!now) {
    const std::time_t clock = std::time(nullptr);
    localtime_r(&clock, &tm);
    return tm;
  }
  tm.tm_year = now->year - 1900;
  tm.tm_mon = now->month - 1;
  tm.tm_mday = now->day;
  tm.tm_hour = now->hour;
  tm.tm_min = now->minute;
  tm.tm_sec = now->second;
  std::tm copy = tm;
  const std::time_t days = timegm(&copy);  // fills in the days of week and year
  gmtime_r(&days, &copy);
  tm.tm_wday = copy.tm_wday;
  tm.tm_yday = copy.tm_yday;
  return tm;
}

// datetime.now().strftime(format): a time without zone, in the C locale.
Result<V> strftime_now(Machine& m, const Args& args) {
  static constexpr Signature kSignature{"strftime_now", "format", 1};
  TRY_ASSIGN(const Bound bound, bind(kSignature, args));
  if (!bound[0].is(Kind::kString)) return bad_data("strftime() argument 1 must be str, not {}", type_name(bound[0]));
  const std::tm tm = broken_down(m.options().now);
  const Text& format = bound[0].text();
  const std::string_view text = format.bytes;
  static constexpr std::string_view kPlain = "aAwdbBmyYHIMSpjUWcxXGuVCDeFghklnPrRstT";
  Text out;
  for (size_t at = 0; at < text.size();) {
    const size_t percent = std::min(text.find('%', at), text.size());
    out.append(format, at, percent);
    at = percent;
    if (at + 1 >= text.size()) {
      out.append(format, at, text.size());
      break;
    }
    // %, then glibc's flags, then a letter.
    size_t last = at + 1;
    while (last - at < 4 && last + 1 < text.size() &&
           std::string_view("-_0^#").find(text[last]) != std::string_view::npos) {
      ++last;
    }
    const char letter = text[last];
    const bool trusted = format.sub(at, last + 1).all_trusted();
    char buffer[128];
    if (letter == '%') {
      out.append("%", trusted);
    } else if (letter == 'f') {
      out.append("000000", trusted);
    } else if (letter == 'z' || letter == 'Z') {
      // A naive time has neither.
    } else if (letter == 's') {
      std::tm copy = tm;
      out.append(std::to_string(timegm(&copy)), trusted);
    } else if (kPlain.find(letter) != std::string_view::npos) {
      const std::string pattern(text.substr(at, last + 1 - at));
      out.append({buffer, std::strftime(buffer, sizeof(buffer), pattern.c_str(), &tm)}, trusted);
    } else {
      out.append(format, at, last + 1);
    }
    at = last + 1;
    TRY(m.check_string(out.size()));
  }
  return m.string(std::move(out));
}

}  // namespace

Result<CivilTime> parse_civil_time(std::string_view text) {
  CivilTime time;
  int* const fields[] = {&time.year, &time.month, &time.day, &time.hour, &time.minute, &time.second};
  static constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:dd";
  const auto wrong = [&] { return bad_data("'{}' is no time like 2026-01-02T03:04:05", text.substr(0, 40)); };
  if (text.size() != kShape.size()) return wrong();
  size_t field = 0;
  *fields[0] = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (kShape[i] == 'd') {
      if (text[i] < '0' || text[i] > '9') return wrong();
      *fields[field] = *fields[field] * 10 + (text[i] - '0');
    } else {
      if (text[i] != kShape[i] && !(kShape[i] == 'T' && text[i] == ' ')) return wrong();
      *fields[++field] = 0;
    }
  }
  static constexpr int kDays[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (time.year % 4 == 0 && time.year % 100 != 0) || time.year % 400 == 0;
  if (time.year < 1 || time.month < 1 || time.month > 12 || time.day < 1 || time.day > kDays[time.month - 1] ||
      (time.month == 2 && time.day == 29 && !leap) || time.hour > 23 || time.minute > 59 || time.second > 59) {
    return wrong();
  }
  return time;
}

Result<V> call_function(Machine& m, FunctionId id, const Args& args) {
  switch (id) {
    case FunctionId::kRange:
      return make_range(m, args);
    case FunctionId::kDict:
      return make_dict(m, args);
    case FunctionId::kNamespace:
      return make_namespace(m, args);
    case FunctionId::kCycler:
      return make_cycler(m, args);
    case FunctionId::kJoiner:
      return make_joiner(m, args);
    case FunctionId::kRaiseException:
      return raise_exception(m, args);
    case FunctionId::kLipsum:
      return bad_data("lipsum is not supported");
    case FunctionId::kStrftimeNow:
      return strftime_now(m, args);
  }
  return none();
}

}  // namespace ll::jinja
