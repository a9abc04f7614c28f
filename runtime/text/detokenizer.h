// Token ids to text, one id at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace ll {

// Replaces a literal in a text that comes in parts; holds back what may be the start of a match.
class StreamReplace {
 public:
  StreamReplace(std::string_view pattern, std::string_view replacement);  // an empty pattern matches nothing
  void push(std::string_view part, std::string& out);
  void finish(std::string& out);
  void set_replacement(std::string_view replacement) { replacement_ = replacement; }

 private:
  std::string pattern_, replacement_;
  std::vector<uint32_t> failure_;  // failure_[i]: longest border of the first i + 1 bytes (Knuth-Morris-Pratt)
  size_t matched_ = 0;             // bytes of the pattern held back
};

// Turns bytes into letters: holds back the beginning of a letter until the rest comes.
class LetterAssembler {
 public:
  // per_byte: every byte that belongs to no letter becomes U+FFFD (HF's ByteFallback); else every maximal beginning of
  // a letter.
  explicit LetterAssembler(bool per_byte) : per_byte_(per_byte) {}
  void push(std::string_view bytes, std::string& out);
  void finish(std::string& out);

 private:
  bool per_byte_;
  std::string held_;
};

// Gives out text as soon as no later id can change it. All parts together, finish() included, are valid UTF-8, and so
// is each part: a letter whose bytes come from several tokens is given out with the last of them.
//
// Two deviations from HF, which decodes whole lists: a run of byte tokens that is not UTF-8 as a whole keeps the
// letters in it that are whole (HF turns every byte of such a run into U+FFFD), and bytes that make no letter are
// decided on when the next id comes.
class Detokenizer {
 public:
  // The tokenizer must outlive it.
  explicit Detokenizer(const Tokenizer& tokenizer, const DecodeOptions& options = {});

  // The text that this id makes certain; may be empty.
  std::string push(int32_t id);
  // What was held back. Afterwards the object may only be destroyed.
  std::string finish();

 private:
  // A token's text on its way through the steps, whole or in parts.
  struct Part {
    std::string text;
    bool begins = true, ends = true;
    bool plain = true;  // its type is kNormal
  };
  struct Step {
    const DecoderStep* spec;
    StreamReplace replace;
    LetterAssembler letters;
    bool open = false;      // some part of the one text after kFuse or kByteLevel was given out
    uint64_t tokens = 0;    // that ended here
    uint32_t stripped = 0;  // kStrip: letters dropped at the left of this token
    bool stripping = false;
    uint32_t held = 0;  // kStrip: letters that may turn out to be the last ones
  };
  void run(size_t step, Part part);
  void strip(Step& step, Part& part);
  void end_step(size_t step);
  std::string take();

  const Tokenizer& tokenizer_;
  const TokenizerSpec& spec_;
  DecodeOptions options_;
  std::vector<Step> steps_;
  std::vector<StreamReplace> clean_up_;
  LetterAssembler output_letters_{false};
  std::string output_;
};

}  // namespace ll
