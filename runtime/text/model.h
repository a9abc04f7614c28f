// The models: from a piece of text to ids. One class for the three kinds of TokenizerModel.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer_spec.h"
#include "runtime/text/vocabulary.h"

namespace ll {

// Memory that encoding pieces needs; one for each text saves allocations.
struct ModelScratch {
  struct Symbol {
    int32_t id = -1;               // -1: no token
    uint32_t begin = 0, size = 0;  // in the piece; size 0: joined to the one before
    int32_t before = -1, after = -1;
  };
  // The join of two neighbours. Smallest key first: the merge's rank or the score in the upper half, the place of the
  // left symbol in the lower one.
  struct Candidate {
    uint64_t key = 0;
    int32_t result = -1;
    uint32_t size = 0;  // bytes of both symbols when the candidate was made
  };
  struct Best {
    double score = 0;
    int32_t id = -1;
    uint32_t begin = 0;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::vector<Best> best;
  std::vector<std::pair<uint32_t, uint32_t>> path;
};

class Model {
 public:
  // `spec` must outlive the model and not move.
  void build(const TokenizerSpec& spec);

  // Appends the ids of one piece. Takes O(n log n) steps for n bytes, times the length of the longest token for
  // kUnigram.
  void encode(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& ids) const;

  int32_t find(std::string_view text) const { return index_.find(text); }

 private:
  using Symbol = ModelScratch::Symbol;
  using Candidate = ModelScratch::Candidate;

  void encode_bpe(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& ids) const;
  void encode_spm(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& ids) const;
  void encode_unigram(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& ids) const;
  bool append_bytes(std::string_view letter, std::vector<int32_t>& ids) const;  // false: some byte has no token
  int32_t letter_id(std::string_view letter, uint32_t code_point) const;
  Candidate candidate(std::string_view piece, const std::vector<Symbol>& symbols, int32_t left) const;
  void join_all(std::string_view piece, ModelScratch& scratch) const;

  const TokenizerSpec* spec_ = nullptr;
  TextIndex index_;
  TextIndex extra_;  // of extra_symbols; ids start at 0
  MergeIndex merges_;
  ByteTrie trie_;                            // kUnigram
  double unknown_score_ = 0;                 // kUnigram
  std::array<int32_t, 256> byte_ids_{};      // of "<0xXX>", -1: none
  std::array<int32_t, 256> raw_byte_ids_{};  // of the byte itself
  std::array<int32_t, 512> letter_ids_{};    // of the first code points
  bool words_stay_apart_ =
      false;  // no token has a U+2581 behind another letter, so pieces can be cut before each of them
};

}  // namespace ll
