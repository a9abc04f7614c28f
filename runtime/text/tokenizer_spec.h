// What a tokenizer is, as plain data: the front ends fill a TokenizerSpec from GGUF metadata or tokenizer.json, a plan
// carries it as one section, and Tokenizer (tokenizer.h) runs it. Nothing here depends on the file it came from.
//
// Text becomes ids in this order:
//   added tokens that are not `normalized` are cut out of the text; every piece between them goes through
//   normalizer -> added tokens that are `normalized` are cut out -> pre_tokenizer (pieces) -> model (ids),
// and with add_special the ids of `prefix` and `suffix` go around the result. Ids become text through `decoder`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace ll {

// Strings one after another in one block of memory: 128k tokens cost two allocations.
struct TextTable {
  std::string bytes;
  std::vector<uint32_t> ends;  // ends[i]: where text i ends; it starts where the one before it ends

  size_t size() const { return ends.size(); }
  std::string_view operator[](size_t i) const {
    const uint32_t begin = i == 0 ? 0 : ends[i - 1];
    return std::string_view(bytes).substr(begin, ends[i] - begin);
  }
  void push_back(std::string_view text);
};

// Numbers of tokenizer.ggml.token_type.
enum class TokenType : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

enum class TokenizerModel : uint8_t {
  kBpe = 0,      // merges in the order of their rank
  kSpm = 1,      // SentencePiece BPE without merges: any two neighbours whose joined text is a token, best score first
  kUnigram = 2,  // the segmentation with the highest sum of scores
};

// Joins two neighbouring symbols; the rank is the place in TokenizerSpec::merges. Ids from tokens.size() on are places
// in TokenizerSpec::extra_symbols.
struct BpeMerge {
  int32_t left = 0, right = 0, result = 0;
};

// Applied to the text before it is cut into pieces.
struct NormalizerStep {
  enum class Kind : uint8_t {
    kNfc = 0,
    kNfd = 1,
    kNfkc = 2,
    kNfkd = 3,
    kLowercase = 4,
    kStripAccents = 5,     // drops every combining mark (M)
    kNmt = 6,              // SentencePiece's nmt rule: drops controls, other spaces become ' '
    kStrip = 7,            // white space at the left end (if `left`) and the right end (if `right`)
    kPrepend = 8,          // `replacement` before a text that is not empty
    kReplace = 9,          // every `pattern`, a literal, by `replacement`
    kReplaceRegex = 10,    // every match of `pattern`, a PCRE2 regex, by the literal `replacement`
    kCharsMap = 11,        // `pattern` is SentencePiece's precompiled_charsmap, applied to grapheme clusters as HF does
    kCharsMapGreedy = 12,  // the same, applied to the longest prefix at each place, as SentencePiece and llama.cpp do
    // llama.cpp's spaces of "t5" models: each ' ' becomes `replacement`; `left`: one more before the first word,
    // `right`: one more at the end; `merge`: one before every word, and no others
    kUnigramSpaces = 13,
    kByteLevel = 14,  // bytes become the 256 printable letters of GPT-2
  };
  Kind kind = Kind::kNfc;
  std::string pattern{};
  std::string replacement{};
  bool left = false, right = false, merge = false;
};

// Cuts every piece into smaller ones, or rewrites it.
struct PreTokenizerStep {
  enum class Kind : uint8_t {
    kSplit = 0,       // at matches of `pattern`, a literal
    kSplitRegex = 1,  // at matches of `pattern`, a PCRE2 regex (UTF, UCP)
    kByteLevel = 2,   // bytes become the 256 printable letters of GPT-2
    kMetaspace = 3,   // ' ' becomes `replacement`, prepended as `prepend` says; `split`: cut before each `replacement`
    kDigits = 4,      // runs of numeric letters; `individual`: each alone
    kWhitespace = 5,  // \w+|[^\w\s]+, white space dropped
    kWhitespaceSplit = 6,  // at white space, dropped
    kPunctuation = 7,      // at each punctuation letter, as `behavior` says
    kDigitGroups = 8,  // runs of digits (Nd) alone, in groups of three from their end; `bounded`: if no word goes on
    kPrefixSpace = 9,  // a space before each piece that has none
  };
  // What becomes of a match: dropped, a piece of its own, joined to the piece before or after it, or to other matches.
  enum class Behavior : uint8_t { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Prepend : uint8_t { kNever, kFirst, kAlways };  // kFirst: only to a piece at the start of the text
  Kind kind = Kind::kSplit;
  Behavior behavior = Behavior::kIsolated;
  Prepend prepend = Prepend::kNever;
  std::string pattern{};
  std::string replacement{};
  bool invert = false, split = false, individual = false, bounded = false;
};

// Applied to the text of tokens, in order.
struct DecoderStep {
  enum class Kind : uint8_t {
    kByteLevel = 0,     // GPT-2's letters become bytes; a token with any other letter is taken as it is
    kByteFallback = 1,  // tokens "<0xXX>" become bytes
    kMetaspace = 2,     // `pattern` becomes ' '; with `strip_first`, is dropped in the first token
    kReplace = 3,       // every `pattern`, a literal, by `replacement`
    kStrip = 4,  // up to `start` times `pattern`, one letter, at the left and `stop` times at the right, of each token
    kFuse = 5,   // from here on, all tokens are one text
    kJoinWithSpaces = 6,  // ' ' between tokens (what HF does without a decoder)
  };
  Kind kind = Kind::kFuse;
  std::string pattern{};
  std::string replacement{};
  uint32_t start = 0, stop = 0;
  bool strip_first = false;
  bool normal_only = false;  // kByteLevel, kReplace: only tokens of type kNormal (llama.cpp)
};

// A token found in the text before the model sees it.
struct AddedToken {
  int32_t id = 0;
  bool in_model = true;      // the model knows its text too
  bool special = false;      // found only with parse_special; hidden in decoded text unless asked for
  bool normalized = false;   // looked for after normalization, in its normalized form
  bool single_word = false;  // only between letters that are no part of a word
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
};

// Which added token wins where several could match.
enum class AddedTokenOrder : uint8_t {
  kLeftmostLongest = 0,  // HF: the first place, the longest there
  kLongestFirst = 1,     // llama.cpp: the longest token everywhere, then the next one in what is left
};

// What becomes of a piece that is no token and that no merge made one.
enum class UnknownPiece : uint8_t {
  kDrop = 0,      // nothing
  kToken = 1,     // unk_id
  kRawBytes = 2,  // llama.cpp's byte-level BPE: tokens whose text is one of its bytes, if there are any
};

struct TokenizerSpec {
  TokenizerModel model = TokenizerModel::kBpe;
  TextTable tokens;              // text of each id
  std::vector<TokenType> types;  // of each id
  std::vector<double> scores;    // of each id; empty for kBpe
  std::vector<BpeMerge> merges;  // kBpe
  TextTable extra_symbols;       // kBpe: texts that merges name and that are no tokens

  bool byte_fallback = false;   // unknown letters become their bytes' tokens "<0xXX>", before `unknown` is asked
  bool ignore_merges = false;   // kBpe: a piece that is a token stays whole
  bool whole_newlines = false;  // kBpe: a piece of '\n' alone that is a token stays whole
  bool fuse_unk = false;        // neighbouring unk_ids become one
  bool unknown_breaks = false;  // kBpe: a letter that is no token keeps its neighbours apart (llama.cpp); HF forgets
                                // it. And of two merges of one pair the first counts; else the last
  bool specials_in_model =
      false;  // kUnigram: tokens of any type are found in plain text (HF); else those of a plain one
  UnknownPiece unknown = UnknownPiece::kDrop;

  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::vector<DecoderStep> decoder;
  std::vector<AddedToken> added;
  AddedTokenOrder added_order = AddedTokenOrder::kLeftmostLongest;

  int32_t bos_id = -1, eos_id = -1, unk_id = -1, pad_id = -1;  // -1: none
  std::vector<int32_t> end_ids;  // every id that ends a generation, ascending; eos_id is among them
  std::vector<int32_t> prefix;   // before the ids with add_special (bos, as a rule)
  std::vector<int32_t> suffix;   // after them
  bool clean_up = false;         // HF's clean_up_tokenization_spaces on decoded text: " ." becomes "." and the like
};

// Bounds on a spec, whatever it came from.
inline constexpr size_t kMaxTokens = size_t{1} << 22;
inline constexpr size_t kMaxMerges = size_t{1} << 23;
inline constexpr size_t kMaxTokenizerSteps = 64;             // of each kind
inline constexpr size_t kMaxPatternBytes = 1 << 16;          // of a regex or literal; a charsmap may have 16 MiB
inline constexpr size_t kMaxAddedTokenBytes = 1 << 12;       // text of an added token
inline constexpr size_t kMaxTextToEncode = size_t{1} << 28;  // bytes, before and after normalization
// How often its size a text may grow to by the steps of one kind. Unicode's own forms stay below 12, those as GPT-2's
// letters below 24.
inline constexpr size_t kMaxGrowth = 32;
// Bytes that a text of so many may have after any step of a normalizer or a pre-tokenizer.
constexpr size_t most_bytes_after_steps(size_t bytes) {
  const size_t most = bytes * kMaxGrowth + 1024;
  return most < kMaxTextToEncode ? most : kMaxTextToEncode;
}

// The tokenizer section of a plan: a FlatBuffer of schemas/tokenizer.fbs. The same spec gives the same bytes.
std::string serialize_tokenizer(const TokenizerSpec& spec);

// Reads it back. Verified and checked like any input (check_tokenizer included): kBadData for damage.
Result<TokenizerSpec> deserialize_tokenizer(std::span<const std::byte> section);

// kBadData when an id lies outside the vocabulary, tables disagree in length, a number is not finite, or a bound is
// passed.
Status check_tokenizer(const TokenizerSpec& spec);

}  // namespace ll
