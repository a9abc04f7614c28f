#include "runtime/text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "runtime/text/utf8.h"

namespace ll {
namespace {

using NormalizerKind = NormalizerStep::Kind;

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

// Calls visit(code point) for each letter of a UTF-8 text.
template <class F>
void for_each_letter(std::string_view text, F visit) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text.substr(at));
    visit(c.valid ? c.value : 0xFFFD);
    at += c.size;
  }
}

// utf8proc_map orders combining marks by insertion, quadratic on a long run of them; so only its pieces are used here.
void normalize_form(std::string& text, bool compatibility, bool compose) {
  if (is_ascii(text)) return;
  const auto decomposition = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> letters;
  letters.reserve(text.size());
  std::array<utf8proc_int32_t, 32> parts;  // U+FDFA, the longest, has 18
  for_each_letter(text, [&](uint32_t c) {
    if (c < 0x80) {
      letters.push_back(static_cast<utf8proc_int32_t>(c));
      return;
    }
    int boundary = 0;
    const auto n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(), parts.size(), decomposition, &boundary);
    if (n > 0 && n <= static_cast<utf8proc_ssize_t>(parts.size()))
      letters.insert(letters.end(), parts.begin(), parts.begin() + n);
  });
  const auto mark_class = [](utf8proc_int32_t c) { return c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class; };
  for (size_t i = 0; i < letters.size(); ++i) {
    size_t end = i;
    while (end < letters.size() && mark_class(letters[end]) != 0) ++end;
    if (end - i > 1) {
      std::stable_sort(letters.begin() + static_cast<ptrdiff_t>(i), letters.begin() + static_cast<ptrdiff_t>(end),
                       [&](auto a, auto b) { return mark_class(a) < mark_class(b); });
    }
    i = end;
  }
  if (compose) {
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    const auto n = utf8proc_normalize_utf32(letters.data(), static_cast<utf8proc_ssize_t>(letters.size()), options);
    if (n >= 0) letters.resize(static_cast<size_t>(n));
  }
  text.clear();
  for (const utf8proc_int32_t c : letters) append_utf8(text, static_cast<uint32_t>(c));
}

void lowercase(std::string& text) {
  std::string out;
  out.reserve(text.size());
  for_each_letter(text, [&](uint32_t c) {
    if (c < 0x80) {
      out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    } else if (c == 0x130) {  // the one letter whose lower case is two
      append_utf8(out, 'i');
      append_utf8(out, 0x307);
    } else {
      append_utf8(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  });
  text = std::move(out);
}

void strip_accents(std::string& text) {
  std::string out;
  out.reserve(text.size());
  for_each_letter(text, [&](uint32_t c) {
    const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
    if (category < UTF8PROC_CATEGORY_MN || category > UTF8PROC_CATEGORY_ME) append_utf8(out, c);
  });
  text = std::move(out);
}

void nmt(std::string& text) {
  std::string out;
  out.reserve(text.size());
  for_each_letter(text, [&](uint32_t c) {
    const bool dropped =
        (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
    if (dropped) return;
    const bool space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF ||
                       c == 0xFFFD;
    append_utf8(out, space ? ' ' : c);
  });
  text = std::move(out);
}

void strip(std::string& text, bool left, bool right) {
  size_t begin = 0, end = text.size();
  while (left && begin < end) {
    const CodePoint c = decode_utf8(std::string_view(text).substr(begin));
    if (!is_white_space(c.value)) break;
    begin += c.size;
  }
  while (right && end > begin) {
    size_t last = end - 1;
    while (last > begin && (static_cast<uint8_t>(text[last]) & 0xC0) == 0x80) --last;
    if (!is_white_space(decode_utf8(std::string_view(text).substr(last, end - last)).value)) break;
    end = last;
  }
  text = text.substr(begin, end - begin);
}

// Steps that write what a tokenizer says do so only when the outcome is small enough.
Status check_growth(size_t bytes, size_t most) {
  if (bytes > most) {
    return unsupported("a text grows to {} bytes or more when normalized, expected at most {}", bytes, most);
  }
  return {};
}

Status replace_literal(std::string& text, std::string_view pattern, std::string_view replacement, size_t most) {
  if (pattern.empty()) return {};
  size_t matches = 0;
  for (size_t at = text.find(pattern); at != std::string::npos; at = text.find(pattern, at + pattern.size())) ++matches;
  if (matches == 0) return {};
  TRY(check_growth(text.size() - matches * pattern.size() + matches * replacement.size(), most));
  size_t found = text.find(pattern);
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  size_t from = 0;
  for (; found != std::string::npos; found = text.find(pattern, from)) {
    out.append(text, from, found - from);
    out += replacement;
    from = found + pattern.size();
  }
  out.append(text, from);
  text = std::move(out);
  return {};
}

Status replace_regex(std::string& text, const Regex& regex, std::string_view replacement, RegexRun& run, size_t most) {
  std::vector<TextSpan> matches;
  TRY(run.find_all(regex, text, matches));
  if (matches.empty()) return {};
  size_t bytes = text.size() + matches.size() * replacement.size();
  for (const TextSpan m : matches) bytes -= m.end - m.begin;
  TRY(check_growth(bytes, most));
  std::string out;
  size_t from = 0;
  for (const TextSpan m : matches) {
    out.append(text, from, m.begin - from);
    out += replacement;
    from = m.end;
  }
  out.append(text, from);
  text = std::move(out);
  return {};
}

// HF asks the map about a whole grapheme cluster of fewer than 6 bytes first, then about each of its letters; an answer
// for any beginning of what was asked replaces all of it.
Status apply_to_clusters(std::string& text, const CharsMap& map, size_t most) {
  std::string out;
  out.reserve(text.size());
  size_t begin = 0;
  const auto flush = [&](size_t end) {
    const std::string_view cluster = std::string_view(text).substr(begin, end - begin);
    begin = end;
    if (cluster.size() < 6) {
      if (const auto match = map.shortest(cluster); match.length > 0) {
        out += match.replacement;
        return;
      }
    }
    for (size_t at = 0; at < cluster.size() && out.size() <= most;) {  // a cluster may be the whole text
      const std::string_view letter = cluster.substr(at, decode_utf8(cluster.substr(at)).size);
      const auto match = map.shortest(letter);
      out += match.length > 0 ? match.replacement : letter;
      at += letter.size();
    }
  };
  utf8proc_int32_t state = 0;
  utf8proc_int32_t before = -1;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(std::string_view(text).substr(at));
    const auto letter = static_cast<utf8proc_int32_t>(c.valid ? c.value : 0xFFFD);
    if (before >= 0 && utf8proc_grapheme_break_stateful(before, letter, &state)) {
      flush(at);
      TRY(check_growth(out.size(), most));
    }
    before = letter;
    at += c.size;
  }
  flush(text.size());
  text = std::move(out);
  return {};
}

Status apply_greedily(std::string& text, const CharsMap& map, size_t most) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = std::string_view(text).substr(at);
    if (const auto match = map.longest(rest); match.length > 0) {
      out += match.replacement;
      at += match.length;
      TRY(check_growth(out.size(), most));
      continue;
    }
    const uint32_t size = decode_utf8(rest).size;
    out += rest.substr(0, size);
    at += size;
  }
  text = std::move(out);
  return {};
}

Status unigram_spaces(std::string& text, const NormalizerStep& step, size_t most) {
  const auto spaces = static_cast<size_t>(std::count(text.begin(), text.end(), ' '));
  TRY(check_growth(text.size() + (spaces + 2) * step.replacement.size(), most));
  std::string out;
  out.reserve(text.size() + text.size() / 2 + 8);
  bool in_word = false, prefixed = false;
  for (const char c : text) {
    if (c == ' ') {
      in_word = false;
      if (!step.merge) out += step.replacement;
      continue;
    }
    if (!in_word && ((step.left && !prefixed) || step.merge)) {
      out += step.replacement;
      prefixed = true;
    }
    in_word = true;
    out += c;
  }
  if (step.right) out += step.replacement;
  text = std::move(out);
  return {};
}

}  // namespace

void append_byte_letters(std::string& out, std::string_view text) {
  for (const char c : text) append_utf8(out, byte_letter(static_cast<uint8_t>(c)));
}

Result<Normalizer> Normalizer::create(const std::vector<NormalizerStep>& steps) {
  Normalizer n;
  n.steps_.reserve(steps.size());
  for (const NormalizerStep& spec : steps) {
    Step step;
    step.spec = &spec;
    if (spec.kind == NormalizerKind::kReplaceRegex) {
      TRY_ASSIGN(step.regex, Regex::compile(spec.pattern));
    } else if (spec.kind == NormalizerKind::kCharsMap || spec.kind == NormalizerKind::kCharsMapGreedy) {
      TRY_ASSIGN(step.charsmap, CharsMap::parse(spec.pattern));
    }
    n.steps_.push_back(std::move(step));
  }
  return n;
}

bool Normalizer::needs_utf8() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const Step& s) {
    return s.spec->kind != NormalizerKind::kPrepend && s.spec->kind != NormalizerKind::kReplace &&
           s.spec->kind != NormalizerKind::kByteLevel && s.spec->kind != NormalizerKind::kUnigramSpaces;
  });
}

Status Normalizer::apply(std::string& text, RegexRun& run) const {
  const size_t most = most_bytes_after_steps(text.size());
  for (const Step& step : steps_) {
    const NormalizerStep& spec = *step.spec;
    switch (spec.kind) {
      case NormalizerKind::kNfc:
        normalize_form(text, false, true);
        break;
      case NormalizerKind::kNfd:
        normalize_form(text, false, false);
        break;
      case NormalizerKind::kNfkc:
        normalize_form(text, true, true);
        break;
      case NormalizerKind::kNfkd:
        normalize_form(text, true, false);
        break;
      case NormalizerKind::kLowercase:
        lowercase(text);
        break;
      case NormalizerKind::kStripAccents:
        strip_accents(text);
        break;
      case NormalizerKind::kNmt:
        nmt(text);
        break;
      case NormalizerKind::kStrip:
        strip(text, spec.left, spec.right);
        break;
      case NormalizerKind::kPrepend:
        if (!text.empty()) text.insert(0, spec.replacement);
        break;
      case NormalizerKind::kReplace:
        TRY(replace_literal(text, spec.pattern, spec.replacement, most));
        break;
      case NormalizerKind::kReplaceRegex:
        TRY(replace_regex(text, step.regex, spec.replacement, run, most));
        break;
      case NormalizerKind::kCharsMap:
        TRY(apply_to_clusters(text, step.charsmap, most));
        break;
      case NormalizerKind::kCharsMapGreedy:
        TRY(apply_greedily(text, step.charsmap, most));
        break;
      case NormalizerKind::kUnigramSpaces:
        TRY(unigram_spaces(text, spec, most));
        break;
      case NormalizerKind::kByteLevel: {
        std::string out;
        append_byte_letters(out, text);
        text = std::move(out);
        break;
      }
    }
    TRY(check_growth(text.size(), most));
  }
  return {};
}

}  // namespace ll
