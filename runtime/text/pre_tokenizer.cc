#include "runtime/text/pre_tokenizer.h"

#include <algorithm>

#include "runtime/text/normalizer.h"
#include "runtime/text/utf8.h"

namespace ll {
namespace {

using PreTokenizerKind = PreTokenizerStep::Kind;
using Behavior = PreTokenizerStep::Behavior;

// A stretch of a piece: between matches, or a match.
struct Stretch {
  TextSpan span;
  bool match = false;
};

// Rust's \w: https://docs.rs/regex/latest/regex/#perl-character-classes-unicode-friendly
constexpr std::string_view kWordsAndSymbols =
    R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+)";

// Each letter with the property is a match of its own.
template <class F>
void match_letters(std::string_view text, F property, std::vector<TextSpan>& matches) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text.substr(at));
    if (property(c.value)) matches.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(at + c.size)});
    at += c.size;
  }
}

void match_literal(std::string_view text, std::string_view pattern, std::vector<TextSpan>& matches) {
  if (pattern.empty()) return;
  for (size_t at = text.find(pattern); at != std::string_view::npos; at = text.find(pattern, at + pattern.size())) {
    matches.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(at + pattern.size())});
  }
}

// Runs of digits, cut into threes from the end; with `bounded`, only runs that no word letter follows.
void match_digit_groups(std::string_view text, bool bounded, std::vector<TextSpan>& matches) {
  std::vector<uint32_t> bounds;  // of the letters of a run
  const auto flush = [&] {
    const size_t digits = bounds.empty() ? 0 : bounds.size() - 1;
    for (size_t i = 0; i < digits;) {
      const size_t group = (digits - i) % 3 == 0 ? 3 : (digits - i) % 3;
      matches.push_back({bounds[i], bounds[i + group]});
      i += group;
    }
    bounds.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text.substr(at));
    if (is_digit(c.value)) {
      if (bounds.empty()) bounds.push_back(static_cast<uint32_t>(at));
      bounds.push_back(static_cast<uint32_t>(at + c.size));
    } else {
      if (bounded && is_word_letter(c.value)) bounds.clear();
      flush();
    }
    at += c.size;
  }
  flush();
}

// Appends what a piece becomes when it is cut at `matches` (offsets in the piece, which starts at `origin`).
void cut(TextSpan piece, const std::vector<TextSpan>& matches, Behavior behavior, bool invert,
         std::vector<Stretch>& stretches, std::vector<TextSpan>& out) {
  stretches.clear();
  uint32_t from = 0;
  const uint32_t size = piece.end - piece.begin;
  for (const TextSpan m : matches) {
    if (from != m.begin) stretches.push_back({{from, m.begin}, invert});
    stretches.push_back({m, !invert});
    from = m.end;
  }
  if (from != size) stretches.push_back({{from, size}, invert});

  const size_t first = out.size();
  const auto add = [&](TextSpan s) { out.push_back({piece.begin + s.begin, piece.begin + s.end}); };
  bool before = false;  // the stretch before (or after, for kMergedWithNext) was a match
  switch (behavior) {
    case Behavior::kRemoved:
      for (const Stretch& s : stretches) {
        if (!s.match) add(s.span);
      }
      break;
    case Behavior::kIsolated:
      for (const Stretch& s : stretches) add(s.span);
      break;
    case Behavior::kMergedWithPrevious:
    case Behavior::kContiguous:
      for (const Stretch& s : stretches) {
        const bool joins = behavior == Behavior::kContiguous ? s.match == before : s.match && !before;
        if (joins && out.size() > first) {
          out.back().end = piece.begin + s.span.end;
        } else {
          add(s.span);
        }
        before = s.match;
      }
      break;
    case Behavior::kMergedWithNext:
      for (size_t i = stretches.size(); i-- > 0;) {
        const Stretch& s = stretches[i];
        if (s.match && !before && out.size() > first) {
          out.back().begin = piece.begin + s.span.begin;
        } else {
          add(s.span);
        }
        before = s.match;
      }
      std::reverse(out.begin() + static_cast<ptrdiff_t>(first), out.end());
      break;
  }
  const auto empty = [](TextSpan s) { return s.begin == s.end; };
  out.erase(std::remove_if(out.begin() + static_cast<ptrdiff_t>(first), out.end(), empty), out.end());
}

// Rewrites every piece into a new text: rewrite(piece, out) appends it.
template <class F>
void rewrite_pieces(Pieces& pieces, F rewrite) {
  std::string out;
  out.reserve(pieces.text.size() + pieces.text.size() / 4);
  for (TextSpan& s : pieces.spans) {
    const std::string_view piece = std::string_view(pieces.text).substr(s.begin, s.end - s.begin);
    const auto begin = static_cast<uint32_t>(out.size());
    rewrite(piece, s.begin == 0 && pieces.starts_text, out);
    s = {begin, static_cast<uint32_t>(out.size())};
  }
  std::erase_if(pieces.spans, [](const TextSpan& s) { return s.begin == s.end; });
  pieces.text = std::move(out);
}

}  // namespace

Result<PreTokenizer> PreTokenizer::create(const std::vector<PreTokenizerStep>& steps) {
  PreTokenizer p;
  p.steps_.reserve(steps.size());
  for (const PreTokenizerStep& spec : steps) {
    Step step;
    step.spec = &spec;
    step.has_regex = spec.kind == PreTokenizerKind::kSplitRegex || spec.kind == PreTokenizerKind::kWhitespace;
    if (step.has_regex) {
      TRY_ASSIGN(step.regex,
                 Regex::compile(spec.kind == PreTokenizerKind::kWhitespace ? kWordsAndSymbols : spec.pattern));
    }
    p.steps_.push_back(std::move(step));
  }
  return p;
}

Status PreTokenizer::apply(Pieces& pieces, RegexRun& run) const {
  std::vector<TextSpan> matches, spans;
  std::vector<Stretch> stretches;
  const size_t most = most_bytes_after_steps(pieces.text.size());
  for (const Step& step : steps_) {
    const PreTokenizerStep& spec = *step.spec;
    if (pieces.text.size() > most) {
      return unsupported("a text grows to {} bytes when cut to pieces, expected at most {}", pieces.text.size(), most);
    }
    if (spec.kind == PreTokenizerKind::kByteLevel) {
      rewrite_pieces(pieces, [](std::string_view piece, bool, std::string& out) { append_byte_letters(out, piece); });
      continue;
    }
    if (spec.kind == PreTokenizerKind::kPrefixSpace) {
      rewrite_pieces(pieces, [](std::string_view piece, bool, std::string& out) {
        if (piece.front() != ' ') out += ' ';
        out += piece;
      });
      continue;
    }
    if (spec.kind == PreTokenizerKind::kMetaspace) {
      const auto spaces = static_cast<size_t>(std::count(pieces.text.begin(), pieces.text.end(), ' '));
      const size_t bytes = pieces.text.size() + (spaces + pieces.spans.size()) * spec.replacement.size();
      if (bytes > most) {
        return unsupported("a text grows to {} bytes when its spaces are replaced, expected at most {}", bytes, most);
      }
      rewrite_pieces(pieces, [&](std::string_view piece, bool first, std::string& out) {
        const bool wanted = spec.prepend == PreTokenizerStep::Prepend::kAlways ||
                            (spec.prepend == PreTokenizerStep::Prepend::kFirst && first);
        if (wanted && piece.front() != ' ' && !piece.starts_with(spec.replacement)) out += spec.replacement;
        for (const char c : piece) {
          if (c == ' ') {
            out += spec.replacement;
          } else {
            out += c;
          }
        }
      });
      if (!spec.split) continue;
    }
    spans.clear();
    Behavior behavior = spec.behavior;
    bool invert = spec.invert;
    for (const TextSpan piece : pieces.spans) {
      const std::string_view text = std::string_view(pieces.text).substr(piece.begin, piece.end - piece.begin);
      matches.clear();
      switch (spec.kind) {
        case PreTokenizerKind::kSplit:
          match_literal(text, spec.pattern, matches);
          break;
        case PreTokenizerKind::kSplitRegex:
          TRY(run.find_all(step.regex, text, matches));
          break;
        case PreTokenizerKind::kWhitespace:
          TRY(run.find_all(step.regex, text, matches));
          behavior = Behavior::kRemoved, invert = true;
          break;
        case PreTokenizerKind::kMetaspace:
          match_literal(text, spec.replacement, matches);
          behavior = Behavior::kMergedWithNext, invert = false;
          break;
        case PreTokenizerKind::kDigits:
          match_letters(text, is_numeric, matches);
          behavior = spec.individual ? Behavior::kIsolated : Behavior::kContiguous, invert = false;
          break;
        case PreTokenizerKind::kWhitespaceSplit:
          match_letters(text, is_white_space, matches);
          behavior = Behavior::kRemoved, invert = false;
          break;
        case PreTokenizerKind::kPunctuation:
          match_letters(text, is_punctuation, matches);
          break;
        case PreTokenizerKind::kDigitGroups:
          match_digit_groups(text, spec.bounded, matches);
          break;
        case PreTokenizerKind::kByteLevel:
        case PreTokenizerKind::kPrefixSpace:
          break;
      }
      if (matches.empty() && !invert) {
        spans.push_back(piece);
      } else {
        cut(piece, matches, behavior, invert, stretches, spans);
      }
    }
    pieces.spans.swap(spans);
  }
  return {};
}

}  // namespace ll
