#include "runtime/text/detokenizer.h"

#include "runtime/text/utf8.h"

namespace ll {
namespace {

using DecoderKind = DecoderStep::Kind;

struct Replacement {
  std::string_view pattern, text;
};
// What transformers' clean_up_tokenization does, in its order.
constexpr Replacement kCleanUp[] = {{" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
                                    {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};

// The byte of a token "<0xXX>"; -1 for other tokens.
int byte_of_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    const char lower = static_cast<char>(c | 0x20);
    if (!digit && !(lower >= 'a' && lower <= 'f')) return -1;
    value = value * 16 + (digit ? c - '0' : lower - 'a' + 10);
  }
  return value;
}

// The bytes that a token of a byte-level vocabulary stands for.
std::string bytes_of_letters(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text.substr(at));
    const int byte = c.valid ? letter_byte(c.value) : -1;
    if (byte < 0) return std::string(text);
    bytes += static_cast<char>(byte);
    at += c.size;
  }
  return bytes;
}

}  // namespace

StreamReplace::StreamReplace(std::string_view pattern, std::string_view replacement)
    : pattern_(pattern), replacement_(replacement), failure_(pattern.size()) {
  for (size_t i = 1, border = 0; i < pattern_.size(); ++i) {
    while (border > 0 && pattern_[i] != pattern_[border]) border = failure_[border - 1];
    if (pattern_[i] == pattern_[border]) ++border;
    failure_[i] = static_cast<uint32_t>(border);
  }
}

void StreamReplace::push(std::string_view part, std::string& out) {
  if (pattern_.empty()) {
    out += part;
    return;
  }
  for (const char c : part) {
    while (matched_ > 0 && pattern_[matched_] != c) {
      const size_t border = failure_[matched_ - 1];
      out.append(pattern_, 0, matched_ - border);
      matched_ = border;
    }
    if (pattern_[matched_] != c) {
      out += c;
    } else if (++matched_ == pattern_.size()) {
      out += replacement_;
      matched_ = 0;
    }
  }
}

void StreamReplace::finish(std::string& out) {
  out.append(pattern_, 0, matched_);
  matched_ = 0;
}

void LetterAssembler::push(std::string_view bytes, std::string& out) {
  if (held_.empty() && is_utf8(bytes)) {
    out += bytes;
    return;
  }
  held_ += bytes;
  size_t at = 0;
  while (at < held_.size()) {
    const std::string_view rest = std::string_view(held_).substr(at);
    const CodePoint c = decode_utf8(rest);
    if (c.truncated) break;
    if (c.valid) {
      out += rest.substr(0, c.size);
    } else {
      for (uint32_t i = 0; i < (per_byte_ ? c.size : 1); ++i) out += kReplacementCharacter;
    }
    at += c.size;
  }
  held_.erase(0, at);
}

void LetterAssembler::finish(std::string& out) {
  const size_t n = held_.empty() ? 0 : per_byte_ ? held_.size() : 1;
  for (size_t i = 0; i < n; ++i) out += kReplacementCharacter;
  held_.clear();
}

Detokenizer::Detokenizer(const Tokenizer& tokenizer, const DecodeOptions& options)
    : tokenizer_(tokenizer), spec_(tokenizer.spec()), options_(options) {
  for (const DecoderStep& s : spec_.decoder) {
    const bool replaces = s.kind == DecoderKind::kReplace || s.kind == DecoderKind::kMetaspace;
    steps_.push_back(
        {.spec = &s,
         .replace = StreamReplace(replaces ? s.pattern : "", s.kind == DecoderKind::kMetaspace ? " " : s.replacement),
         .letters = LetterAssembler(s.kind == DecoderKind::kByteFallback)});
  }
  if (spec_.clean_up) {
    for (const Replacement& r : kCleanUp) clean_up_.emplace_back(r.pattern, r.text);
  }
}

std::string Detokenizer::push(int32_t id) {
  if (id < 0 || static_cast<size_t>(id) >= spec_.tokens.size()) return {};
  const TokenType type = spec_.types[static_cast<size_t>(id)];
  if (!options_.show_special && (type == TokenType::kControl || type == TokenType::kUnknown)) return {};
  run(0, {.text = std::string(tokenizer_.decoded_text(id)), .plain = type == TokenType::kNormal});
  return take();
}

std::string Detokenizer::finish() {
  for (size_t i = 0; i < steps_.size(); ++i) end_step(i);
  output_letters_.finish(output_);
  std::string text = take();
  for (size_t i = 0; i < clean_up_.size(); ++i) {
    std::string rest;
    clean_up_[i].finish(rest);
    for (size_t k = i + 1; k < clean_up_.size(); ++k) {
      std::string next;
      clean_up_[k].push(rest, next);
      rest = std::move(next);
    }
    text += rest;
  }
  return text;
}

std::string Detokenizer::take() {
  std::string text = std::move(output_);
  output_.clear();
  for (StreamReplace& r : clean_up_) {
    std::string next;
    r.push(text, next);
    text = std::move(next);
  }
  return text;
}

// Up to `start` letters at the left of a token and `stop` at its right, where they are the step's letter.
void Detokenizer::strip(Step& step, Part& part) {
  const DecoderStep& spec = *step.spec;
  if (part.begins) {
    step.stripped = 0;
    step.stripping = !(options_.continues && step.tokens == 0);
  }
  std::string_view rest = part.text;
  while (step.stripping && step.stripped < spec.start && rest.starts_with(spec.pattern)) {
    rest.remove_prefix(spec.pattern.size());
    ++step.stripped;
  }
  if (!rest.empty()) step.stripping = false;

  uint32_t run = 0;  // how often the letter comes at the end
  std::string_view body = rest;
  while (run < spec.stop && body.ends_with(spec.pattern)) {
    body.remove_suffix(spec.pattern.size());
    ++run;
  }
  // What was held before goes out but for as much of it as, with this run, is the end of the text so far.
  const uint32_t kept = body.empty() ? std::min(step.held, spec.stop - run) : 0;
  std::string out;
  for (uint32_t i = kept; i < step.held; ++i) out += spec.pattern;
  out += body;
  step.held = part.ends ? 0 : kept + run;
  part.text = std::move(out);
}

// Sends a part through step `at` and all that follow.
void Detokenizer::run(size_t at, Part part) {
  for (; at < steps_.size(); ++at) {
    Step& step = steps_[at];
    const DecoderStep& spec = *step.spec;
    const uint64_t index = step.tokens;  // of this token, counted where it comes in
    if (part.ends) ++step.tokens;
    std::string out;
    switch (spec.kind) {
      case DecoderKind::kReplace:
        if (spec.normal_only && !part.plain) continue;
        step.replace.push(part.text, out);
        if (part.ends) step.replace.finish(out);
        part.text = std::move(out);
        break;
      case DecoderKind::kMetaspace:
        step.replace.set_replacement(spec.strip_first && index == 0 && !options_.continues ? "" : " ");
        step.replace.push(part.text, out);
        if (part.ends) step.replace.finish(out);
        part.text = std::move(out);
        break;
      case DecoderKind::kStrip:
        if (!spec.pattern.empty()) {
          if (part.ends) --step.tokens;
          strip(step, part);
          if (part.ends) ++step.tokens;
        }
        break;
      case DecoderKind::kByteFallback: {
        const int byte = part.begins && part.ends ? byte_of_token(part.text) : -1;
        if (byte < 0) {
          std::string before;
          step.letters.finish(before);
          if (!before.empty()) run(at + 1, {.text = std::move(before)});
          break;
        }
        const char raw = static_cast<char>(byte);
        step.letters.push({&raw, 1}, out);
        if (out.empty()) return;
        part = {.text = std::move(out)};
        break;
      }
      case DecoderKind::kByteLevel:
      case DecoderKind::kFuse:
        if (spec.kind == DecoderKind::kByteLevel) {
          step.letters.push(spec.normal_only && !part.plain ? part.text : bytes_of_letters(part.text), out);
          part.text = std::move(out);
        }
        if (part.text.empty()) return;
        part.begins = !step.open;
        part.ends = false;
        part.plain = true;
        step.open = true;
        break;
      case DecoderKind::kJoinWithSpaces:
        if (part.begins && (index > 0 || options_.continues)) part.text.insert(0, 1, ' ');
        break;
    }
  }
  output_letters_.push(part.text, output_);
}

// The ids have ended: what a step holds back goes on, and the one text that began at it ends.
void Detokenizer::end_step(size_t at) {
  Step& step = steps_[at];
  std::string rest;
  if (step.spec->kind == DecoderKind::kByteFallback || step.spec->kind == DecoderKind::kByteLevel)
    step.letters.finish(rest);
  const bool one_text = step.spec->kind == DecoderKind::kByteLevel || step.spec->kind == DecoderKind::kFuse;
  if (one_text && (step.open || !rest.empty())) {
    run(at + 1, {.text = std::move(rest), .begins = !step.open, .ends = true});
  } else if (!rest.empty()) {
    run(at + 1, {.text = std::move(rest)});
  }
}

}  // namespace ll
