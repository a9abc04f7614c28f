// The tokenizer's laws on specs made here. Agreement with other implementations is tested where specs are read
// (compiler/frontend).
#include "runtime/text/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <random>

#include "runtime/text/detokenizer.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/utf8.h"

namespace ll {
namespace {

using Ids = std::vector<int32_t>;
using N = NormalizerStep::Kind;
using P = PreTokenizerStep::Kind;
using D = DecoderStep::Kind;

TokenizerSpec plain_spec(std::vector<std::string> tokens) {
  TokenizerSpec spec;
  for (const std::string& t : tokens) {
    spec.tokens.push_back(t);
    spec.types.push_back(TokenType::kNormal);
  }
  return spec;
}

// Letters a and b as bytes, with every power of two of 'a' up to 64 joined by merges; 256 byte letters.
TokenizerSpec byte_level_spec() {
  TokenizerSpec spec;
  std::string letter;
  for (int b = 0; b < 256; ++b) {
    letter.clear();
    append_utf8(letter, byte_letter(static_cast<uint8_t>(b)));
    spec.tokens.push_back(letter);
  }
  int32_t last = 'a';
  for (size_t n = 2; n <= 64; n *= 2) {
    const auto id = static_cast<int32_t>(spec.tokens.size());
    spec.tokens.push_back(std::string(n, 'a'));
    spec.merges.push_back({last, last, id});
    last = id;
  }
  spec.tokens.push_back("<s>");
  spec.types.assign(spec.tokens.size(), TokenType::kNormal);
  spec.types.back() = TokenType::kControl;
  spec.added.push_back({.id = static_cast<int32_t>(spec.tokens.size()) - 1, .special = true});
  spec.pre_tokenizer.push_back({.kind = P::kByteLevel});
  spec.decoder.push_back({.kind = D::kByteLevel});
  return spec;
}

TokenizerSpec metaspace_spec() {
  TokenizerSpec spec = plain_spec({"<unk>", "\xE2\x96\x81", "a",
                                   "\xE2\x96\x81"
                                   "a",
                                   "b", "aa"});
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(b));
    spec.tokens.push_back(name);
    spec.types.push_back(TokenType::kByte);
  }
  spec.model = TokenizerModel::kSpm;
  spec.scores.assign(spec.tokens.size(), 0);
  spec.scores[3] = -1;
  spec.scores[5] = -2;
  spec.byte_fallback = true;
  spec.normalizer = {{.kind = N::kPrepend, .replacement = " "},
                     {.kind = N::kReplace, .pattern = " ", .replacement = "\xE2\x96\x81"}};
  spec.decoder = {{.kind = D::kReplace, .pattern = "\xE2\x96\x81", .replacement = " "},
                  {.kind = D::kByteFallback},
                  {.kind = D::kFuse},
                  {.kind = D::kStrip, .pattern = " ", .start = 1}};
  return spec;
}

Tokenizer make(TokenizerSpec spec) {
  auto tokenizer = Tokenizer::create(std::move(spec));
  EXPECT_TRUE(tokenizer) << (tokenizer ? "" : tokenizer.error().message);
  return *std::move(tokenizer);
}

Ids encode(const Tokenizer& tokenizer, std::string_view text, EncodeOptions options = {}) {
  auto ids = tokenizer.encode(text, options);
  EXPECT_TRUE(ids) << (ids ? "" : ids.error().message);
  return ids ? *std::move(ids) : Ids();
}

TEST(Tokenizer, LongRunsTakeNoQuadraticTime) {
  const auto start = std::chrono::steady_clock::now();
  const Tokenizer bytes = make(byte_level_spec());
  EXPECT_EQ(encode(bytes, std::string(1 << 20, 'a')).size(), size_t{1} << 14);
  EXPECT_EQ(encode(bytes, std::string(1 << 20, 'b')).size(), size_t{1} << 20);
  const Tokenizer spm = make(metaspace_spec());
  EXPECT_EQ(encode(spm, std::string(1 << 20, 'a')).size(), (size_t{1} << 19) + 1);
  EXPECT_EQ(encode(spm, std::string(1 << 20, ' ')).size(), (size_t{1} << 20) + 1);
  std::string marks;  // combining marks in alternating order, which normalization sorts
  for (int i = 0; i < 200'000; ++i) marks += i % 2 == 0 ? "\xCC\x81" : "\xCC\xA3";
  TokenizerSpec nfd = byte_level_spec();
  nfd.normalizer = {{.kind = N::kNfkc}};
  EXPECT_EQ(encode(make(std::move(nfd)), "a" + marks).size(), 3u + 2 * 199'999);  // U+1EA1, then the other marks
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));  // sanitizers included
}

TEST(Tokenizer, TextThatIsNoUtf8) {
  const Tokenizer bytes = make(byte_level_spec());
  EXPECT_EQ(encode(bytes,
                   "a\xFF"
                   "b"),
            encode(bytes,
                   "a\xEF\xBF\xBD"
                   "b"));
  EXPECT_EQ(encode(bytes, "\xE2\x82"), encode(bytes, "\xEF\xBF\xBD\xEF\xBF\xBD"));  // each byte
  const Tokenizer spm = make(metaspace_spec());
  EXPECT_EQ(encode(spm, "\xFF"), (Ids{1, 6 + 0xFF}));
}

TEST(Tokenizer, SpecialTokensAreTextUnlessAskedFor) {
  const Tokenizer bytes = make(byte_level_spec());
  const int32_t s = bytes.find("<s>");
  EXPECT_EQ(encode(bytes, "a<s>b", {.parse_special = true}), (Ids{'a', s, 'b'}));
  EXPECT_EQ(encode(bytes, "a<s>b"), (Ids{'a', '<', 's', '>', 'b'}));
  EXPECT_EQ(bytes.decode(Ids{'a', s, 'b'}), "ab");
  EXPECT_EQ(bytes.decode(Ids{'a', s, 'b'}, {.show_special = true}), "a<s>b");
  EXPECT_EQ(bytes.token_text(s), "<s>");
  EXPECT_EQ(bytes.token_text(-1), "");
  EXPECT_EQ(bytes.token_text(1 << 20), "");
  EXPECT_EQ(bytes.find("nonesuch"), -1);
}

TEST(Tokenizer, LongestFirstAndLeftmostLongestDiffer) {
  TokenizerSpec spec = plain_spec({"a", "b", "c", "d", "ab", "bcd"});
  spec.added = {{.id = 4}, {.id = 5}};
  spec.decoder = {{.kind = D::kFuse}};
  EXPECT_EQ(encode(make(spec), "abcd"), (Ids{4, 2, 3}));
  spec.added_order = AddedTokenOrder::kLongestFirst;
  EXPECT_EQ(encode(make(spec), "abcd"), (Ids{0, 5}));
  EXPECT_EQ(encode(make(spec), "ababcdab"), (Ids{4, 0, 5, 4}));
}

TEST(Detokenizer, GivesOutWholeLettersAsSoonAsTheyAreCertain) {
  const Tokenizer bytes = make(byte_level_spec());
  Detokenizer text(bytes);
  EXPECT_EQ(text.push('a'), "a");
  EXPECT_EQ(text.push(0xF0), "");
  EXPECT_EQ(text.push(0x9F), "");
  EXPECT_EQ(text.push(0x8E), "");
  EXPECT_EQ(text.push(0x89), "\xF0\x9F\x8E\x89");
  EXPECT_EQ(text.push(0xE2), "");
  EXPECT_EQ(text.push('x'), "\xEF\xBF\xBDx");
  EXPECT_EQ(text.push(0xC3), "");
  EXPECT_EQ(text.finish(), "\xEF\xBF\xBD");
}

TEST(Detokenizer, LeadingSpaceOfSentencePiece) {
  const Tokenizer spm = make(metaspace_spec());
  EXPECT_EQ(spm.decode(encode(spm, "a a")), "a a");
  EXPECT_EQ(spm.decode(encode(spm, "  a")), "  a");
  EXPECT_EQ(spm.decode(Ids{3}), "a");
  EXPECT_EQ(spm.decode(Ids{3}, {.continues = true}), " a");
  EXPECT_EQ(spm.decode(Ids{6 + 0xC3, 6 + 0xA9, 3}), "\xC3\xA9 a");
  EXPECT_EQ(spm.decode(Ids{6 + 0xC3, 3}), "\xEF\xBF\xBD a");
}

TEST(Detokenizer, CleansUpAcrossTokens) {
  TokenizerSpec spec = byte_level_spec();
  spec.clean_up = true;
  const Tokenizer tokenizer = make(std::move(spec));
  const auto cleaned = [&](std::string_view text) { return tokenizer.decode(encode(tokenizer, text)); };
  EXPECT_EQ(cleaned("a . b , c ! d ?"), "a. b, c! d?");
  EXPECT_EQ(cleaned("do n't I 'm it 's we 've they 're"), "don't I'm it's we've they're");
  EXPECT_EQ(cleaned("a ' b"), "a'b");
  EXPECT_EQ(cleaned("a '"), "a '");
  EXPECT_EQ(cleaned("a 'x n' "), "a 'x n' ");
}

TEST(Detokenizer, StripHoldsBackWhatMayBeTheEnd) {
  TokenizerSpec spec = plain_spec({"x", " ", "  ", "\xE2\x96\x81"});
  spec.decoder = {{.kind = D::kFuse}, {.kind = D::kStrip, .pattern = " ", .start = 2, .stop = 2}};
  const Tokenizer tokenizer = make(std::move(spec));
  EXPECT_EQ(tokenizer.decode(Ids{1, 2, 0, 2, 1}), " x ");
  EXPECT_EQ(tokenizer.decode(Ids{0, 1, 0, 1}), "x x");
  EXPECT_EQ(tokenizer.decode(Ids{1, 1, 1, 1, 1}), " ");
  Detokenizer text(tokenizer);
  EXPECT_EQ(text.push(0), "x");
  EXPECT_EQ(text.push(2), "");
  EXPECT_EQ(text.push(1), " ");
  EXPECT_EQ(text.push(0), "  x");
  EXPECT_EQ(text.finish(), "");
}

// For any ids: every part is UTF-8, all parts together are what decode() gives, and no part comes later than it must.
TEST(Detokenizer, PartsAreLettersAndAddUp) {
  std::mt19937 random(7);
  std::vector<Tokenizer> tokenizers;
  tokenizers.push_back(make(byte_level_spec()));
  tokenizers.push_back(make(metaspace_spec()));
  TokenizerSpec cleaning = metaspace_spec();
  cleaning.clean_up = true;
  cleaning.decoder.push_back({.kind = D::kReplace, .pattern = "aab", .replacement = "\xC3\xA9"});
  tokenizers.push_back(make(std::move(cleaning)));
  for (const Tokenizer& tokenizer : tokenizers) {
    for (int round = 0; round < 2000; ++round) {
      Ids ids(random() % 40);
      for (int32_t& id : ids) id = static_cast<int32_t>(random() % (tokenizer.vocab_size() + 2)) - 1;
      Detokenizer detokenizer(tokenizer);
      std::string all;
      for (const int32_t id : ids) {
        const std::string part = detokenizer.push(id);
        ASSERT_TRUE(is_utf8(part));
        all += part;
      }
      const std::string rest = detokenizer.finish();
      ASSERT_TRUE(is_utf8(rest));
      ASSERT_EQ(all + rest, tokenizer.decode(ids));
      ASSERT_LE(rest.size(), 16u);
    }
  }
}

TEST(Tokenizer, DecodingGivesBackAnyText) {
  std::mt19937 random(11);
  const Tokenizer bytes = make(byte_level_spec());
  const Tokenizer spm = make(metaspace_spec());
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (size_t i = random() % 60; i > 0; --i) {
      struct Range {
        uint32_t first, size;
      };
      constexpr Range kRanges[] = {{0, 0x80}, {0x80, 0x700}, {0x3040, 0x5000}, {0x1F300, 0x400}};
      const Range range = kRanges[random() % 4];
      append_utf8(text, range.first + static_cast<uint32_t>(random()) % range.size);
    }
    EXPECT_EQ(bytes.decode(encode(bytes, text)), text);
    EXPECT_EQ(spm.decode(encode(spm, text)), text);
  }
}

TEST(TokenizerSection, DamageIsRefused) {
  const std::string section = serialize_tokenizer(metaspace_spec());
  const auto read = [](std::string_view bytes) {
    return deserialize_tokenizer(std::as_bytes(std::span(bytes.data(), bytes.size())));
  };
  auto whole = read(section);
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_EQ(serialize_tokenizer(*whole), section);
  for (size_t n = 0; n < section.size(); n += n < 200 ? 1 : 37) {
    const auto cut = read(std::string_view(section).substr(0, n));
    ASSERT_FALSE(cut) << n;
    EXPECT_EQ(cut.error().code, Code::kBadData);
  }
  for (size_t at = 0; at < section.size(); ++at) {
    std::string changed = section;
    changed[at] = static_cast<char>(changed[at] ^ 0x5A);
    auto spec = read(changed);
    if (!spec) continue;
    auto tokenizer = Tokenizer::create(*std::move(spec));
    if (!tokenizer) continue;
    const auto ids = tokenizer->encode("a ab \xC3\xA9", {.add_special = true, .parse_special = true});
    if (!ids) continue;
    EXPECT_TRUE(is_utf8(tokenizer->decode(*ids)));
  }
}

// Whether the spec of a small vocabulary is bad data once `change` has been made to it.
template <class Change>
bool refused(Change change) {
  TokenizerSpec spec = metaspace_spec();
  change(spec);
  const auto tokenizer = Tokenizer::create(std::move(spec));
  return !tokenizer && tokenizer.error().code == Code::kBadData;
}

TEST(TokenizerSection, ContradictionsAreRefused) {
  EXPECT_FALSE(refused([](TokenizerSpec&) {}));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s = TokenizerSpec(); }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.types.pop_back(); }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.types[0] = static_cast<TokenType>(7); }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.scores.clear(); }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.scores[1] = std::numeric_limits<double>::quiet_NaN(); }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.bos_id = 1000; }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.prefix = {-1}; }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.suffix = {1000}; }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.end_ids = {1000}; }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.added = {{.id = 1000}}; }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.merges = {{0, 1, 1000}}; }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.pre_tokenizer = {{.kind = P::kSplitRegex, .pattern = "("}}; }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.normalizer = {{.kind = N::kCharsMap, .pattern = "abc"}}; }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.normalizer = {{.kind = N::kPrepend, .replacement = "\xF5"}}; }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.normalizer = {{.kind = N::kReplace, .pattern = "\xBC"}}; }));
  EXPECT_TRUE(
      refused([](TokenizerSpec& s) { s.pre_tokenizer = {{.kind = P::kMetaspace, .replacement = "\xE2\x96"}}; }));
  EXPECT_TRUE(
      refused([](TokenizerSpec& s) { s.decoder = {{.kind = D::kReplace, .pattern = "a", .replacement = "\xC0"}}; }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) { s.normalizer.assign(65, {.kind = N::kNfc}); }));
  EXPECT_TRUE(
      refused([](TokenizerSpec& s) { s.normalizer = {{.kind = N::kReplace, .pattern = std::string(70000, 'x')}}; }));
}

// A few bytes of a tokenizer must not stand for any number of them.
TEST(Tokenizer, StepsThatGrowATextWithoutEndAreErrors) {
  const std::string hundred(100, 'a');
  const auto outcome = [](std::vector<NormalizerStep> normalizer, std::vector<PreTokenizerStep> pre_tokenizer) {
    TokenizerSpec spec = metaspace_spec();
    spec.added.clear();
    spec.normalizer = std::move(normalizer);
    spec.pre_tokenizer = std::move(pre_tokenizer);
    const auto tokenizer = Tokenizer::create(std::move(spec));
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    const auto ids = tokenizer->encode("a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a", {});
    return ids ? Code::kOk : ids.error().code;
  };
  const NormalizerStep more{.kind = N::kReplace, .pattern = "a", .replacement = hundred};
  const NormalizerStep empty_matches{.kind = N::kReplaceRegex, .pattern = "x*", .replacement = hundred};
  const NormalizerStep spaces{.kind = N::kUnigramSpaces, .replacement = hundred};
  const PreTokenizerStep metaspace{.kind = P::kMetaspace, .replacement = hundred};
  EXPECT_EQ(outcome({}, {}), Code::kOk);
  EXPECT_EQ(outcome({{.kind = N::kReplace, .pattern = "a", .replacement = "aaaa"}}, {}), Code::kOk);
  EXPECT_EQ(outcome({more}, {}), Code::kUnsupported);
  EXPECT_EQ(outcome(std::vector(64, more), {}), Code::kUnsupported);
  EXPECT_EQ(outcome({empty_matches}, {}), Code::kUnsupported);
  EXPECT_EQ(outcome({spaces}, {}), Code::kUnsupported);
  EXPECT_EQ(outcome({}, {metaspace}), Code::kUnsupported);
}

// A map of one entry, U+0301 to 4 KiB, on a text that is one grapheme cluster.
TEST(Tokenizer, CharsMapsThatGrowATextWithoutEndAreErrors) {
  std::vector<uint32_t> units(1024, 0);  // a node's unit: offset to its children << 10, has a value << 8, its byte
  units[0xCC] = 256u << 10 | 0xCC;
  units[0xCC ^ 256 ^ 0x81] = 512u << 10 | 1u << 8 | 0x81;
  std::string map = {0, 0x10, 0, 0};  // bytes of units, then units, then replacements
  map.append(reinterpret_cast<const char*>(units.data()), units.size() * 4);
  map += std::string(4096, 'x') + '\0';
  std::string marks = "a";
  for (int i = 0; i < 10'000; ++i) marks += "\xCC\x81";
  for (const auto kind : {N::kCharsMap, N::kCharsMapGreedy}) {
    TokenizerSpec spec = metaspace_spec();
    spec.added.clear();
    spec.normalizer = {{.kind = kind, .pattern = map}};
    const auto tokenizer = Tokenizer::create(std::move(spec));
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    const auto ids = tokenizer->encode(marks, {});
    ASSERT_FALSE(ids);
    EXPECT_EQ(ids.error().code, Code::kUnsupported);
    EXPECT_TRUE(tokenizer->encode("plain", {}));
  }
}

TEST(Tokenizer, AddedTokensAndDecodersGrowWithinBounds) {
  const auto replace_by = [](size_t n) {
    return DecoderStep{.kind = D::kReplace, .pattern = "a", .replacement = std::string(n, 'a')};
  };
  EXPECT_FALSE(refused([&](TokenizerSpec& s) { s.decoder = {replace_by(4), replace_by(8)}; }));
  EXPECT_TRUE(refused([&](TokenizerSpec& s) { s.decoder = {replace_by(4), replace_by(8), replace_by(2)}; }));
  EXPECT_TRUE(refused([&](TokenizerSpec& s) { s.decoder.assign(64, replace_by(60'000)); }));
  EXPECT_TRUE(refused([](TokenizerSpec& s) {
    s.tokens.push_back(std::string(300, 'a'));
    s.types.push_back(TokenType::kNormal);
    if (!s.scores.empty()) s.scores.push_back(0);
    s.added = {{.id = static_cast<int32_t>(s.tokens.size()) - 1, .normalized = true}};
    s.normalizer = {{.kind = N::kReplace, .pattern = "a", .replacement = std::string(20, 'b')}};
  }));
}

// A piece that a step leaves empty is none.
TEST(Tokenizer, PiecesThatBecomeEmptyAreDropped) {
  TokenizerSpec spec = metaspace_spec();
  spec.pre_tokenizer = {{.kind = P::kSplit, .pattern = " "}, {.kind = P::kMetaspace}, {.kind = P::kPrefixSpace}};
  const auto tokenizer = Tokenizer::create(std::move(spec));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_TRUE(tokenizer->encode(" a ", {}));
}

// An added token that is a part of a letter leaves the other parts to the regexes.
TEST(Tokenizer, AddedTokensThatCutLetters) {
  TokenizerSpec spec = metaspace_spec();
  spec.pre_tokenizer = {{.kind = P::kSplitRegex, .pattern = "\\p{L}+"}};
  spec.tokens.push_back("\xBC");
  spec.types.push_back(TokenType::kNormal);
  spec.added = {{.id = static_cast<int32_t>(spec.tokens.size()) - 1}};
  if (!spec.scores.empty()) spec.scores.push_back(0);
  const auto tokenizer = Tokenizer::create(std::move(spec));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const auto ids = tokenizer->encode("\xE6\xBC\xA2", {});
  ASSERT_FALSE(ids);
  EXPECT_EQ(ids.error().code, Code::kBadData);
}

TEST(Normalizer, EveryStep) {
  const auto normalized = [](std::vector<NormalizerStep> steps, std::string text) {
    auto normalizer = Normalizer::create(steps);
    EXPECT_TRUE(normalizer);
    RegexRun run(text.size());
    EXPECT_TRUE(normalizer->apply(text, run));
    return text;
  };
  EXPECT_EQ(normalized({{.kind = N::kNfc}}, "e\xCC\x81 \xEF\xAC\x81"), "\xC3\xA9 \xEF\xAC\x81");
  EXPECT_EQ(normalized({{.kind = N::kNfd}}, "\xC3\xA9\xEA\xB0\x81"), "e\xCC\x81\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8");
  EXPECT_EQ(normalized({{.kind = N::kNfkc}}, "\xEF\xAC\x81\xC2\xBD"),
            "fi1\xE2\x81\x84"
            "2");
  EXPECT_EQ(normalized({{.kind = N::kNfkd}}, "\xC3\xA9\xC2\xB2"),
            "e\xCC\x81"
            "2");
  EXPECT_EQ(normalized({{.kind = N::kNfc}}, "q\xCC\x87\xCC\xA3"), "q\xCC\xA3\xCC\x87");  // marks in canonical order
  EXPECT_EQ(normalized({{.kind = N::kLowercase}}, "A\xC3\x89\xC4\xB0\xE1\xBA\x9E"), "a\xC3\xA9i\xCC\x87\xC3\x9F");
  EXPECT_EQ(normalized({{.kind = N::kStripAccents}}, "e\xCC\x81\xC3\xA9"), "e\xC3\xA9");
  EXPECT_EQ(normalized({{.kind = N::kNmt}}, "a\x01\tb\xE2\x80\x8B\x7F"), "a b ");
  EXPECT_EQ(normalized({{.kind = N::kStrip, .left = true}}, " \xE3\x80\x80 a "), "a ");
  EXPECT_EQ(normalized({{.kind = N::kStrip, .right = true}}, " a\xC2\xA0\n"), " a");
  EXPECT_EQ(normalized({{.kind = N::kStrip, .left = true, .right = true}}, "  "), "");
  EXPECT_EQ(normalized({{.kind = N::kPrepend, .replacement = "_"}}, ""), "");
  EXPECT_EQ(normalized({{.kind = N::kPrepend, .replacement = "_"}}, "a"), "_a");
  EXPECT_EQ(normalized({{.kind = N::kReplace, .pattern = "aa", .replacement = "b"}}, "aaaaa"), "bba");
  EXPECT_EQ(normalized({{.kind = N::kReplaceRegex, .pattern = " {2,}", .replacement = " "}}, "a   b  "), "a b ");
  EXPECT_EQ(normalized({{.kind = N::kByteLevel}}, " \xC3\xA9"), "\xC4\xA0\xC3\x83\xC2\xA9");
  EXPECT_EQ(normalized({{.kind = N::kUnigramSpaces, .replacement = "_", .left = true, .merge = true}}, "  a  b "),
            "_a_b");
  EXPECT_EQ(normalized({{.kind = N::kUnigramSpaces, .replacement = "_", .left = true}}, " a b"), "__a_b");
  EXPECT_EQ(normalized({{.kind = N::kUnigramSpaces, .replacement = "_", .right = true}}, "a b"), "a_b_");
}

}  // namespace
}  // namespace ll
