// TokenizerSpec to and from the tokenizer section of a plan, and the checks that every spec must pass.
#include <cmath>
#include <cstring>

#include "runtime/text/tokenizer_spec.h"
#include "runtime/text/utf8.h"
#include "schemas/tokenizer_generated.h"

namespace ll {
namespace {

namespace fbt = ll::fb::tok;
using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
using flatbuffers::Vector;

constexpr size_t kMaxCharsMapBytes = size_t{16} << 20;
constexpr size_t kMaxSpecialIds = 64;  // of prefix and suffix each
constexpr size_t kMaxTextBytes = size_t{1} << 30;

Offset<Vector<uint8_t>> put_bytes(FlatBufferBuilder& b, std::string_view text) {
  return b.CreateVector(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

Offset<fbt::TextTable> put_table(FlatBufferBuilder& b, const TextTable& table) {
  const auto bytes = put_bytes(b, table.bytes);
  return fbt::CreateTextTable(b, bytes, b.CreateVector(table.ends));
}

uint32_t flags_of(const AddedToken& t) {
  return (t.in_model ? 1u : 0u) | (t.special ? 2u : 0u) | (t.normalized ? 4u : 0u) | (t.single_word ? 8u : 0u) |
         (t.lstrip ? 16u : 0u) | (t.rstrip ? 32u : 0u);
}

std::string text_of(const Vector<uint8_t>* bytes) {
  return bytes == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

// The verifier asks for no alignment of elements, and hostile ones have none.
template <class T>
std::vector<T> numbers_of(const Vector<T>* values) {
  std::vector<T> numbers(values == nullptr ? 0 : values->size());
  if (!numbers.empty()) std::memcpy(numbers.data(), values->Data(), numbers.size() * sizeof(T));
  return numbers;
}

Result<TextTable> table_of(const fbt::TextTable* from) {
  TextTable table;
  if (from == nullptr) return table;
  table.bytes = text_of(from->bytes());
  table.ends = numbers_of(from->ends());
  uint32_t before = 0;
  for (const uint32_t end : table.ends) {
    if (end < before || end > table.bytes.size()) {
      return bad_data("a token text ends at byte {}, expected {} to {}", end, before, table.bytes.size());
    }
    before = end;
  }
  return table;
}

// An enum that is stored as its number, at most `last`.
template <class E>
Result<E> enum_of(uint8_t number, E last, const char* what) {
  if (number > static_cast<uint8_t>(last)) {
    return bad_data("{} is {}, expected 0 to {}", what, number, static_cast<uint8_t>(last));
  }
  return static_cast<E>(number);
}

Status check_ids(const std::vector<int32_t>& ids, size_t tokens, const char* what) {
  for (const int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= tokens) {
      return bad_data("{} names token {} of a vocabulary of {}", what, id, tokens);
    }
  }
  return {};
}

// A pattern or a replacement of a step.
Status check_step_text(std::string_view text, const char* what) {
  if (text.size() > kMaxPatternBytes) {
    return bad_data("the {} has {} bytes, expected at most {}", what, text.size(), kMaxPatternBytes);
  }
  if (!is_utf8(text)) return bad_data("the {} ({} bytes) is not UTF-8", what, text.size());
  return {};
}

Status check_table(const TextTable& table, const char* what) {
  if (table.size() > kMaxTokens || table.bytes.size() > kMaxTextBytes) {
    return bad_data("{}: {} texts of {} bytes, expected at most {} of {}", what, table.size(), table.bytes.size(),
                    kMaxTokens, kMaxTextBytes);
  }
  return {};
}

}  // namespace

void TextTable::push_back(std::string_view text) {
  bytes += text;
  ends.push_back(static_cast<uint32_t>(bytes.size()));
}

Status check_tokenizer(const TokenizerSpec& spec) {
  const size_t n = spec.tokens.size();
  if (n == 0) return bad_data("a tokenizer without tokens");
  TRY(check_table(spec.tokens, "vocabulary"));
  TRY(check_table(spec.extra_symbols, "symbols of merges"));
  if (spec.types.size() != n) return bad_data("{} token types for {} tokens", spec.types.size(), n);
  for (size_t i = 0; i < n; ++i) {
    const auto type = static_cast<uint8_t>(spec.types[i]);
    if (type < 1 || type > 6) return bad_data("token {} has type {}, expected 1 to 6", i, type);
  }
  const bool scored = spec.model != TokenizerModel::kBpe;
  if (spec.scores.size() != (scored ? n : 0)) return bad_data("{} scores for {} tokens", spec.scores.size(), n);
  for (size_t i = 0; i < spec.scores.size(); ++i) {
    if (!std::isfinite(spec.scores[i])) return bad_data("token {} has a score that is not finite", i);
  }
  if (spec.merges.size() > kMaxMerges)
    return bad_data("{} merges, expected at most {}", spec.merges.size(), kMaxMerges);
  const auto symbols = static_cast<int64_t>(n + spec.extra_symbols.size());
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const BpeMerge& m = spec.merges[i];
    if (m.left < 0 || m.left >= symbols || m.right < 0 || m.right >= symbols || m.result < 0 || m.result >= symbols) {
      return bad_data("merge {} joins {} and {} to {}, expected symbols below {}", i, m.left, m.right, m.result,
                      symbols);
    }
  }
  const size_t steps = std::max({spec.normalizer.size(), spec.pre_tokenizer.size(), spec.decoder.size()});
  if (steps > kMaxTokenizerSteps) return bad_data("{} steps in a row, expected at most {}", steps, kMaxTokenizerSteps);
  for (const NormalizerStep& s : spec.normalizer) {
    const bool charsmap = s.kind == NormalizerStep::Kind::kCharsMap || s.kind == NormalizerStep::Kind::kCharsMapGreedy;
    if (!charsmap) TRY(check_step_text(s.pattern, "pattern of a normalizer"));
    if (s.pattern.size() > kMaxCharsMapBytes) {
      return bad_data("a charsmap has {} bytes, expected at most {}", s.pattern.size(), kMaxCharsMapBytes);
    }
    TRY(check_step_text(s.replacement, "replacement of a normalizer"));
  }
  for (const PreTokenizerStep& s : spec.pre_tokenizer) {
    TRY(check_step_text(s.pattern, "pattern of a pre-tokenizer"));
    TRY(check_step_text(s.replacement, "replacement of a pre-tokenizer"));
  }
  size_t growth = 1;
  for (const DecoderStep& s : spec.decoder) {
    TRY(check_step_text(s.pattern, "pattern of a decoder"));
    TRY(check_step_text(s.replacement, "replacement of a decoder"));
    if (s.kind == DecoderStep::Kind::kReplace && !s.pattern.empty() && s.replacement.size() > s.pattern.size()) {
      growth *= (s.replacement.size() + s.pattern.size() - 1) / s.pattern.size();
    }
    if (growth > kMaxGrowth)
      return bad_data("decoders make a text {} times as long, expected at most {}", growth, kMaxGrowth);
  }
  if (spec.added.size() > n) return bad_data("{} added tokens in a vocabulary of {}", spec.added.size(), n);
  for (const AddedToken& t : spec.added) {
    if (t.id < 0 || static_cast<size_t>(t.id) >= n) return bad_data("added token {} of a vocabulary of {}", t.id, n);
    const size_t bytes = spec.tokens[static_cast<size_t>(t.id)].size();
    if (bytes == 0 || bytes > kMaxAddedTokenBytes) {
      return bad_data("added token {} has {} bytes, expected 1 to {}", t.id, bytes, kMaxAddedTokenBytes);
    }
  }
  for (const int32_t id : {spec.bos_id, spec.eos_id, spec.unk_id, spec.pad_id}) {
    if (id < -1 || id >= static_cast<int64_t>(n)) return bad_data("special token {} of a vocabulary of {}", id, n);
  }
  TRY(check_ids(spec.end_ids, n, "end of generation"));
  TRY(check_ids(spec.prefix, n, "prefix"));
  TRY(check_ids(spec.suffix, n, "suffix"));
  if (spec.prefix.size() > kMaxSpecialIds || spec.suffix.size() > kMaxSpecialIds) {
    return bad_data("{} ids before and {} after a text, expected at most {}", spec.prefix.size(), spec.suffix.size(),
                    kMaxSpecialIds);
  }
  return {};
}

std::string serialize_tokenizer(const TokenizerSpec& spec) {
  FlatBufferBuilder b(spec.tokens.bytes.size() + spec.tokens.size() * 16 + spec.merges.size() * 12 + 4096);
  const auto tokens = put_table(b, spec.tokens);
  const auto types = b.CreateVector(reinterpret_cast<const uint8_t*>(spec.types.data()), spec.types.size());
  const auto scores = b.CreateVector(spec.scores);
  static_assert(sizeof(BpeMerge) == sizeof(fbt::Merge));
  const auto merges =
      b.CreateVectorOfStructs(reinterpret_cast<const fbt::Merge*>(spec.merges.data()), spec.merges.size());
  const auto extra = put_table(b, spec.extra_symbols);
  std::vector<Offset<fbt::NormalizerStep>> normalizer;
  for (const NormalizerStep& s : spec.normalizer) {
    const auto pattern = put_bytes(b, s.pattern), replacement = put_bytes(b, s.replacement);
    normalizer.push_back(
        fbt::CreateNormalizerStep(b, static_cast<uint8_t>(s.kind), pattern, replacement, s.left, s.right, s.merge));
  }
  std::vector<Offset<fbt::PreTokenizerStep>> pre_tokenizer;
  for (const PreTokenizerStep& s : spec.pre_tokenizer) {
    const auto pattern = put_bytes(b, s.pattern), replacement = put_bytes(b, s.replacement);
    pre_tokenizer.push_back(fbt::CreatePreTokenizerStep(
        b, static_cast<uint8_t>(s.kind), static_cast<uint8_t>(s.behavior), static_cast<uint8_t>(s.prepend), pattern,
        replacement, s.invert, s.split, s.individual, s.bounded));
  }
  std::vector<Offset<fbt::DecoderStep>> decoder;
  for (const DecoderStep& s : spec.decoder) {
    const auto pattern = put_bytes(b, s.pattern), replacement = put_bytes(b, s.replacement);
    decoder.push_back(fbt::CreateDecoderStep(b, static_cast<uint8_t>(s.kind), pattern, replacement, s.start, s.stop,
                                             s.strip_first, s.normal_only));
  }
  std::vector<fbt::AddedToken> added;
  for (const AddedToken& t : spec.added) added.emplace_back(t.id, flags_of(t));
  const auto normalizer_at = b.CreateVector(normalizer);
  const auto pre_tokenizer_at = b.CreateVector(pre_tokenizer);
  const auto decoder_at = b.CreateVector(decoder);
  const auto added_at = b.CreateVectorOfStructs(added);
  const auto end_ids = b.CreateVector(spec.end_ids), prefix = b.CreateVector(spec.prefix),
             suffix = b.CreateVector(spec.suffix);

  fbt::TokenizerBuilder t(b);
  t.add_model(static_cast<uint8_t>(spec.model));
  t.add_tokens(tokens);
  t.add_types(types);
  t.add_scores(scores);
  t.add_merges(merges);
  t.add_extra_symbols(extra);
  t.add_byte_fallback(spec.byte_fallback);
  t.add_ignore_merges(spec.ignore_merges);
  t.add_whole_newlines(spec.whole_newlines);
  t.add_fuse_unk(spec.fuse_unk);
  t.add_unknown_breaks(spec.unknown_breaks);
  t.add_specials_in_model(spec.specials_in_model);
  t.add_unknown(static_cast<uint8_t>(spec.unknown));
  t.add_normalizer(normalizer_at);
  t.add_pre_tokenizer(pre_tokenizer_at);
  t.add_decoder(decoder_at);
  t.add_added(added_at);
  t.add_added_order(static_cast<uint8_t>(spec.added_order));
  t.add_bos_id(spec.bos_id);
  t.add_eos_id(spec.eos_id);
  t.add_unk_id(spec.unk_id);
  t.add_pad_id(spec.pad_id);
  t.add_end_ids(end_ids);
  t.add_prefix(prefix);
  t.add_suffix(suffix);
  t.add_clean_up(spec.clean_up);
  b.Finish(t.Finish(), fbt::TokenizerIdentifier());
  return std::string(reinterpret_cast<const char*>(b.GetBufferPointer()), b.GetSize());
}

Result<TokenizerSpec> deserialize_tokenizer(std::span<const std::byte> section) {
  // FlatBuffers reads in place, so its numbers must lie where such numbers may.
  std::vector<double> aligned;
  if (reinterpret_cast<uintptr_t>(section.data()) % alignof(double) != 0) {
    aligned.resize(section.size() / sizeof(double) + 1);
    std::memcpy(aligned.data(), section.data(), section.size());
    section = std::as_bytes(std::span(aligned)).first(section.size());
  }
  const auto* data = reinterpret_cast<const uint8_t*>(section.data());
  flatbuffers::Verifier verifier(data, section.size(), 8, 4 * kMaxTokenizerSteps);
  if (section.size() < 8 || !fbt::TokenizerBufferHasIdentifier(data) || !fbt::VerifyTokenizerBuffer(verifier)) {
    return bad_data("not a tokenizer section, or a damaged one ({} bytes)", section.size());
  }
  const fbt::Tokenizer& from = *fbt::GetTokenizer(data);
  TokenizerSpec spec;
  TRY_ASSIGN(spec.model, enum_of(from.model(), TokenizerModel::kUnigram, "tokenizer model"));
  TRY_ASSIGN(spec.tokens, table_of(from.tokens()));
  spec.types.resize(from.types()->size());
  if (!spec.types.empty()) std::memcpy(spec.types.data(), from.types()->data(), spec.types.size());
  spec.scores = numbers_of(from.scores());
  if (from.merges() != nullptr && from.merges()->size() > 0) {
    spec.merges.resize(from.merges()->size());
    std::memcpy(spec.merges.data(), from.merges()->Data(), spec.merges.size() * sizeof(BpeMerge));
  }
  TRY_ASSIGN(spec.extra_symbols, table_of(from.extra_symbols()));
  spec.byte_fallback = from.byte_fallback();
  spec.ignore_merges = from.ignore_merges();
  spec.whole_newlines = from.whole_newlines();
  spec.fuse_unk = from.fuse_unk();
  spec.unknown_breaks = from.unknown_breaks();
  spec.specials_in_model = from.specials_in_model();
  TRY_ASSIGN(spec.unknown, enum_of(from.unknown(), UnknownPiece::kRawBytes, "treatment of unknown pieces"));
  if (from.normalizer() != nullptr) {
    for (const auto* s : *from.normalizer()) {
      NormalizerStep step;
      TRY_ASSIGN(step.kind, enum_of(s->kind(), NormalizerStep::Kind::kByteLevel, "normalizer"));
      step.pattern = text_of(s->pattern());
      step.replacement = text_of(s->replacement());
      step.left = s->left();
      step.right = s->right();
      step.merge = s->merge();
      spec.normalizer.push_back(std::move(step));
    }
  }
  if (from.pre_tokenizer() != nullptr) {
    for (const auto* s : *from.pre_tokenizer()) {
      PreTokenizerStep step;
      TRY_ASSIGN(step.kind, enum_of(s->kind(), PreTokenizerStep::Kind::kPrefixSpace, "pre-tokenizer"));
      TRY_ASSIGN(step.behavior, enum_of(s->behavior(), PreTokenizerStep::Behavior::kContiguous, "split behavior"));
      TRY_ASSIGN(step.prepend, enum_of(s->prepend(), PreTokenizerStep::Prepend::kAlways, "prepend scheme"));
      step.pattern = text_of(s->pattern());
      step.replacement = text_of(s->replacement());
      step.invert = s->invert();
      step.split = s->split();
      step.individual = s->individual();
      step.bounded = s->bounded();
      spec.pre_tokenizer.push_back(std::move(step));
    }
  }
  if (from.decoder() != nullptr) {
    for (const auto* s : *from.decoder()) {
      DecoderStep step;
      TRY_ASSIGN(step.kind, enum_of(s->kind(), DecoderStep::Kind::kJoinWithSpaces, "decoder"));
      step.pattern = text_of(s->pattern());
      step.replacement = text_of(s->replacement());
      step.start = s->start();
      step.stop = s->stop();
      step.strip_first = s->strip_first();
      step.normal_only = s->normal_only();
      spec.decoder.push_back(std::move(step));
    }
  }
  if (from.added() != nullptr) {
    for (const fbt::AddedToken* t : *from.added()) {
      const uint32_t flags = t->flags();
      spec.added.push_back({.id = t->id(),
                            .in_model = (flags & 1) != 0,
                            .special = (flags & 2) != 0,
                            .normalized = (flags & 4) != 0,
                            .single_word = (flags & 8) != 0,
                            .lstrip = (flags & 16) != 0,
                            .rstrip = (flags & 32) != 0});
    }
  }
  TRY_ASSIGN(spec.added_order, enum_of(from.added_order(), AddedTokenOrder::kLongestFirst, "order of added tokens"));
  spec.bos_id = from.bos_id();
  spec.eos_id = from.eos_id();
  spec.unk_id = from.unk_id();
  spec.pad_id = from.pad_id();
  spec.end_ids = numbers_of(from.end_ids());
  spec.prefix = numbers_of(from.prefix());
  spec.suffix = numbers_of(from.suffix());
  spec.clean_up = from.clean_up();
  TRY(check_tokenizer(spec));
  return spec;
}

}  // namespace ll
