// Python's "...".format(arguments), as the sandbox runs it.
#include <algorithm>

#include "runtime/text/jinja/format.h"
#include "runtime/text/jinja/print.h"

namespace ll::jinja {
namespace {

// str.format: parses one string; fields' specs may hold fields themselves, one level deep.
class BraceFormatter {
 public:
  BraceFormatter(Machine& m, const Args& args, bool markup) : m_(m), args_(args), markup_(markup) {}

  Result<Text> format(const Text& source, int depth) {
    if (depth > 2) return bad_data("Max string recursion exceeded");
    const std::string_view text = source.bytes;
    Text out;
    for (size_t at = 0; at < text.size();) {
      const size_t brace = std::min(text.find_first_of("{}", at), text.size());
      out.append(source, at, brace);
      at = brace;
      if (at == text.size()) break;
      if (at + 1 < text.size() && text[at + 1] == text[at]) {
        out.append(source, at, at + 1);
        at += 2;
        continue;
      }
      if (text[at] == '}') return bad_data("Single '}}' encountered in format string");
      size_t level = 1, end = at + 1;
      for (; end < text.size(); ++end) {
        level += text[end] == '{';
        level -= text[end] == '}';
        if (level == 0) break;
      }
      if (end >= text.size()) {
        if (at + 1 == text.size()) return bad_data("Single '{{' encountered in format string");
        return bad_data("expected '}}' before end of string");
      }
      TRY_ASSIGN(const Text part, field(source.sub(at + 1, end), depth));
      TRY(m_.check_string(out.size() + part.size()));
      out.append(part);
      at = end + 1;
      m_.work(1);
      TRY(m_.check());
    }
    return out;
  }

 private:
  Result<Text> field(const Text& field, int depth) {
    const std::string_view text = field.bytes;
    size_t end = 0;
    for (bool bracket = false; end < text.size(); ++end) {  // the name ends at ! or : outside of brackets
      if (text[end] == '[') bracket = true;
      if (text[end] == ']') bracket = false;
      if (!bracket && (text[end] == '!' || text[end] == ':')) break;
    }
    TRY_ASSIGN(V v, lookup(text.substr(0, end)));
    if (end < text.size() && text[end] == '!') {
      if (end + 1 >= text.size()) return bad_data("end of string while looking for conversion specifier");
      const char conversion = text[end + 1];
      if (conversion != 's' && conversion != 'r' && conversion != 'a') {
        return bad_data("Unknown conversion specifier {}", conversion);
      }
      TRY_ASSIGN(Text shown, conversion == 's' ? m_.str(v) : m_.repr(v));
      v = m_.string(std::move(shown));
      end += 2;
      if (end < text.size() && text[end] != ':') return bad_data("expected ':' after conversion specifier");
    }
    Text spec;
    if (end < text.size()) {
      TRY_ASSIGN(spec, format(field.sub(end + 1, text.size()), depth + 1));
    }
    TRY_ASSIGN(Text out, format_value(m_, v, spec.bytes));
    return markup_ ? escape_markup(m_.string(std::move(out), v.is(Kind::kString) && v.as<String>()->markup)) : out;
  }

  Result<V> lookup(std::string_view name) {
    const size_t end = std::min(name.find_first_of(".["), name.size());
    const std::string_view first = name.substr(0, end);
    const bool index = !first.empty() && std::all_of(first.begin(), first.end(), is_digit_char);
    V v;
    if (first.empty() || index) {
      if (numbering_ != Numbering::kNone && (numbering_ == Numbering::kManual) == first.empty()) {
        return bad_data("cannot switch from manual field specification to automatic field numbering");
      }
      numbering_ = first.empty() ? Numbering::kAutomatic : Numbering::kManual;
      uint64_t position = next_;
      size_t at = 0;
      if (first.empty()) {
        ++next_;
      } else if (!read_count(first, at, position)) {
        return bad_data("Too many decimal digits in format string");
      }
      if (position >= args_.positional.size()) return bad_data("tuple index out of range");
      v = args_.positional[position];
    } else {
      for (const auto& [key, held] : args_.named) {
        if (key.bytes() == first) v = held;
      }
      if (v.missing()) return bad_data("{}", quoted(first));
    }
    for (size_t at = end; at < name.size();) {
      if (name[at] == '.') {
        const size_t stop = std::min(name.find_first_of(".[", at + 1), name.size());
        if (stop == at + 1) return bad_data("Empty attribute in format string");
        TRY_ASSIGN(v, m_.attribute(v, m_.string(name.substr(at + 1, stop - at - 1), false)));
        at = stop;
      } else if (name[at] == '[') {
        const size_t stop = name.find(']', at);
        if (stop == std::string_view::npos) return bad_data("Missing ']' in format string");
        const std::string_view key = name.substr(at + 1, stop - at - 1);
        if (key.empty()) return bad_data("Empty attribute in format string");
        uint64_t position = 0;
        size_t digits = 0;
        const bool numeric = std::all_of(key.begin(), key.end(), is_digit_char);
        if (numeric && !read_count(key, digits, position)) return bad_data("Too many decimal digits in format string");
        TRY_ASSIGN(v, m_.item(v, numeric ? integer(static_cast<int64_t>(position), false) : m_.string(key, false)));
        at = stop + 1;
      } else {
        return bad_data("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return v;
  }

  enum class Numbering : uint8_t { kNone, kAutomatic, kManual };
  Machine& m_;
  const Args& args_;
  bool markup_;
  Numbering numbering_ = Numbering::kNone;
  uint64_t next_ = 0;
};

}  // namespace

Result<V> Machine::brace_format(const V& format, const Args& args) {
  const bool markup = format.as<String>()->markup;
  BraceFormatter formatter(*this, args, markup);
  TRY_ASSIGN(Text out, formatter.format(format.text(), 0));
  return string(std::move(out), markup);
}

}  // namespace ll::jinja
