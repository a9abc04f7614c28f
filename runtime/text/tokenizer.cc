#include "runtime/text/tokenizer.h"

#include <map>

#include "runtime/text/added_tokens.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/model.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/pre_tokenizer.h"
#include "runtime/text/utf8.h"

namespace ll {

struct Tokenizer::State {
  TokenizerSpec spec;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  AddedTokens raw_added;         // looked for in the text as it is
  AddedTokens normalized_added;  // looked for in the normalized text
  Model model;
  std::map<int32_t, std::string> normalized_texts;  // of added tokens whose normalized form differs
  bool takes_any_bytes = false;                     // no step needs UTF-8

  Status encode_normalized(std::string text, bool starts_text, const SpecialPlaces& special, RegexRun& run,
                           ModelScratch& scratch, std::vector<int32_t>& ids) const;
};

namespace {

// Each byte that belongs to no letter becomes U+FFFD.
std::string to_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text.substr(at));
    if (c.valid) {
      out += text.substr(at, c.size);
      at += c.size;
    } else {
      out += kReplacementCharacter;
      ++at;
    }
  }
  return out;
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::create(TokenizerSpec spec) {
  TRY(check_tokenizer(spec));
  auto state = std::make_unique<State>();
  state->spec = std::move(spec);
  const TokenizerSpec& s = state->spec;
  TRY_ASSIGN(state->normalizer, Normalizer::create(s.normalizer));
  TRY_ASSIGN(state->pre_tokenizer, PreTokenizer::create(s.pre_tokenizer));
  state->takes_any_bytes =
      s.model == TokenizerModel::kSpm && state->pre_tokenizer.empty() && !state->normalizer.needs_utf8();

  std::vector<std::string> raw(s.added.size()), normalized(s.added.size());
  RegexRun run(kMaxAddedTokenBytes);
  size_t bytes = 0, normalized_bytes = 0;  // of added tokens so far
  for (size_t i = 0; i < s.added.size(); ++i) {
    std::string& text = (s.added[i].normalized ? normalized : raw)[i];
    text = s.tokens[static_cast<size_t>(s.added[i].id)];
    if (!s.added[i].normalized || state->normalizer.empty()) continue;
    if (!is_utf8(text)) text = to_utf8(text);
    bytes += text.size();
    TRY(state->normalizer.apply(text, run));
    normalized_bytes += text.size();
    // All output of such a token is this text: a few bytes in a file must not stand for any number of them.
    if (text.size() > kMaxAddedTokenBytes || normalized_bytes > most_bytes_after_steps(bytes) + (size_t{1} << 20)) {
      return bad_data("added token {} has {} bytes when normalized, expected at most {} and, of all so far, {} in {}",
                      s.added[i].id, text.size(), kMaxAddedTokenBytes, normalized_bytes, bytes);
    }
    if (text != s.tokens[static_cast<size_t>(s.added[i].id)]) state->normalized_texts.emplace(s.added[i].id, text);
  }
  state->raw_added.build(s.added, raw, s.added_order);
  state->normalized_added.build(s.added, normalized, s.added_order);
  state->model.build(s);
  return Tokenizer(std::move(state));
}

Status Tokenizer::State::encode_normalized(std::string text, bool starts_text, const SpecialPlaces& special,
                                           RegexRun& run, ModelScratch& scratch, std::vector<int32_t>& ids) const {
  std::vector<Cut> cuts;
  normalized_added.cut(text, special, cuts);
  for (const Cut& cut : cuts) {
    if (cut.id >= 0) {
      ids.push_back(cut.id);
      continue;
    }
    if (pre_tokenizer.empty()) {
      model.encode(std::string_view(text).substr(cut.span.begin, cut.span.end - cut.span.begin), scratch, ids);
      continue;
    }
    Pieces pieces;
    pieces.text = cuts.size() == 1 ? std::move(text) : text.substr(cut.span.begin, cut.span.end - cut.span.begin);
    pieces.spans.push_back({0, cut.span.end - cut.span.begin});
    pieces.starts_text = starts_text && cut.span.begin == 0;
    TRY(pre_tokenizer.apply(pieces, run));
    for (const TextSpan s : pieces.spans) {
      model.encode(std::string_view(pieces.text).substr(s.begin, s.end - s.begin), scratch, ids);
    }
  }
  return {};
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const State& s = *state_;
  if (text.size() > kMaxTextToEncode) {
    return usage("a text of {} bytes to tokenize, expected at most {}", text.size(), kMaxTextToEncode);
  }
  std::string repaired;
  if (!s.takes_any_bytes && !is_utf8(text)) {
    if (options.special_ranges) return usage("a text with ranges for special tokens is not UTF-8");
    repaired = to_utf8(text);
    text = repaired;
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  if (options.add_special) ids = s.spec.prefix;
  std::vector<Cut> cuts;
  SpecialPlaces special{.anywhere = options.parse_special && !options.special_ranges};
  if (options.parse_special && options.special_ranges) special.ranges = *options.special_ranges;
  s.raw_added.cut(text, special, cuts);
  RegexRun run(text.size());
  ModelScratch scratch;
  for (const Cut& cut : cuts) {
    if (cut.id >= 0) {
      ids.push_back(cut.id);
      continue;
    }
    std::string piece(text.substr(cut.span.begin, cut.span.end - cut.span.begin));
    TRY(s.normalizer.apply(piece, run));
    // After normalization places mean nothing any more: such tokens are found where all of the piece may hold them.
    const SpecialPlaces here{.anywhere = special.allow(cut.span.begin, cut.span.end)};
    TRY(s.encode_normalized(std::move(piece), cut.span.begin == 0, here, run, scratch, ids));
  }
  if (options.add_special) ids.insert(ids.end(), s.spec.suffix.begin(), s.spec.suffix.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, const DecodeOptions& options) const {
  Detokenizer detokenizer(*this, options);
  std::string text;
  for (const int32_t id : ids) text += detokenizer.push(id);
  text += detokenizer.finish();
  return text;
}

std::string_view Tokenizer::decoded_text(int32_t id) const {
  const auto found = state_->normalized_texts.find(id);
  return found == state_->normalized_texts.end() ? token_text(id) : std::string_view(found->second);
}

size_t Tokenizer::vocab_size() const { return state_->spec.tokens.size(); }

std::string_view Tokenizer::token_text(int32_t id) const {
  return id < 0 || static_cast<size_t>(id) >= vocab_size() ? std::string_view()
                                                           : state_->spec.tokens[static_cast<size_t>(id)];
}

int32_t Tokenizer::find(std::string_view token) const {
  const int32_t id = state_->model.find(token);
  if (id >= 0) return id;
  for (const AddedToken& t : state_->spec.added) {
    if (!t.in_model && state_->spec.tokens[static_cast<size_t>(t.id)] == token) return t.id;
  }
  return -1;
}

const TokenizerSpec& Tokenizer::spec() const { return state_->spec; }

}  // namespace ll
