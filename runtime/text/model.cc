#include "runtime/text/model.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "runtime/text/utf8.h"

namespace ll {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581
constexpr double kUnknownPenalty = 10.0;                 // SentencePiece: below the lowest score

// Bytes that a letter has by its first byte alone, as SentencePiece counts them: text that is no UTF-8 still has
// letters.
uint32_t letter_size(char lead) {
  constexpr uint8_t kSizes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
  return kSizes[static_cast<uint8_t>(lead) >> 4];
}

struct Later {
  bool operator()(const ModelScratch::Candidate& a, const ModelScratch::Candidate& b) const { return a.key > b.key; }
};

uint64_t key_of(uint32_t rank, int32_t left) { return static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(left); }

// A number that is smaller the larger the score is. Scores of kSpm models are f32 in their files.
uint32_t rank_of_score(double score) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(score) + 0.0F);  // one zero
  return (bits >> 31) != 0 ? bits : ~bits & 0x7FFFFFFF;
}

// True when U+2581 follows another letter somewhere in the text.
bool has_inner_metaspace(std::string_view text) {
  for (size_t at = text.find(kMetaspace); at != std::string_view::npos;
       at = text.find(kMetaspace, at + kMetaspace.size())) {
    if (at != 0 && !text.substr(0, at).ends_with(kMetaspace)) return true;
  }
  return false;
}

}  // namespace

void Model::build(const TokenizerSpec& spec) {
  spec_ = &spec;
  std::vector<bool> skip;
  for (const AddedToken& t : spec.added) {
    if (t.in_model) continue;
    skip.resize(spec.tokens.size());
    skip[static_cast<size_t>(t.id)] = true;
  }
  index_.build(spec.tokens, skip);
  extra_.build(spec.extra_symbols, {});
  // llama.cpp keeps the first rank of a pair, HF the last.
  if (spec.model == TokenizerModel::kBpe) merges_.build(spec.merges, !spec.unknown_breaks);

  constexpr char kHex[] = "0123456789ABCDEF";
  for (size_t b = 0; b < 256; ++b) {
    const char name[6] = {'<', '0', 'x', kHex[b >> 4], kHex[b & 15], '>'};
    byte_ids_[b] = index_.find({name, sizeof name});
    const char raw = static_cast<char>(b);
    raw_byte_ids_[b] = index_.find({&raw, 1});
  }
  std::string letter;
  for (uint32_t c = 0; c < letter_ids_.size(); ++c) {
    letter.clear();
    append_utf8(letter, c);
    letter_ids_[c] = index_.find(letter);
  }
  if (spec.model == TokenizerModel::kUnigram) {
    double lowest = std::numeric_limits<double>::infinity();
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      if (!skip.empty() && skip[id]) continue;
      const TokenType type = spec.types[id];
      if (type == TokenType::kNormal || spec.specials_in_model) lowest = std::min(lowest, spec.scores[id]);
      const bool plain = type == TokenType::kNormal || type == TokenType::kUserDefined || type == TokenType::kUnused;
      if (plain || spec.specials_in_model) trie_.add(spec.tokens[id], static_cast<int32_t>(id));
    }
    unknown_score_ = (lowest == std::numeric_limits<double>::infinity() ? 0 : lowest) - kUnknownPenalty;
    return;
  }
  words_stay_apart_ = index_.find(kMetaspace) >= 0;
  for (size_t id = 0; id < spec.tokens.size() && words_stay_apart_; ++id)
    words_stay_apart_ = !has_inner_metaspace(spec.tokens[id]);
  for (size_t i = 0; i < spec.extra_symbols.size() && words_stay_apart_; ++i) {
    words_stay_apart_ = !has_inner_metaspace(spec.extra_symbols[i]);
  }
}

void Model::encode(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& ids) const {
  if (piece.empty()) return;
  if (spec_->model == TokenizerModel::kUnigram) return encode_unigram(piece, scratch, ids);
  if (spec_->model == TokenizerModel::kBpe) {
    const bool whole =
        spec_->ignore_merges || (spec_->whole_newlines && piece.find_first_not_of('\n') == std::string_view::npos);
    if (whole) {
      if (const int32_t id = index_.find(piece); id >= 0) {
        ids.push_back(id);
        return;
      }
    }
  }
  // Short lists of symbols stay in the cache.
  for (size_t from = 0; from < piece.size();) {
    size_t end = piece.size();
    if (words_stay_apart_) {
      size_t at = from;
      while (piece.substr(at).starts_with(kMetaspace)) at += kMetaspace.size();
      end = std::min(end, piece.find(kMetaspace, at));
    }
    const std::string_view word = piece.substr(from, end - from);
    from = end;
    if (spec_->model == TokenizerModel::kSpm) {
      encode_spm(word, scratch, ids);
    } else {
      encode_bpe(word, scratch, ids);
    }
  }
}

bool Model::append_bytes(std::string_view letter, std::vector<int32_t>& ids) const {
  const size_t before = ids.size();
  for (const char c : letter) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    if (id < 0) {
      ids.resize(before);
      return false;
    }
    ids.push_back(id);
  }
  return true;
}

int32_t Model::letter_id(std::string_view letter, uint32_t code_point) const {
  const int32_t id = code_point < letter_ids_.size() ? letter_ids_[code_point] : index_.find(letter);
  if (id >= 0 || spec_->extra_symbols.size() == 0) return id;
  const int32_t extra = extra_.find(letter);
  return extra < 0 ? -1 : extra + static_cast<int32_t>(spec_->tokens.size());
}

// The join of a symbol with the next one; result -1: there is none.
ModelScratch::Candidate Model::candidate(std::string_view piece, const std::vector<Symbol>& symbols,
                                         int32_t left) const {
  const Symbol& a = symbols[static_cast<size_t>(left)];
  if (a.after < 0) return {};
  const Symbol& b = symbols[static_cast<size_t>(a.after)];
  if (spec_->model == TokenizerModel::kSpm) {
    const uint32_t size = a.size + b.size;
    const int32_t id = index_.find(piece.substr(a.begin, size));
    if (id < 0) return {};
    return {key_of(rank_of_score(spec_->scores[static_cast<size_t>(id)]), left), id, size};
  }
  if (a.id < 0 || b.id < 0) return {};
  const MergeIndex::Found found = merges_.find(a.id, b.id);
  if (found.result < 0) return {};
  return {key_of(found.rank, left), found.result, a.size + b.size};
}

// Joins neighbours in the order of their keys until none is left to join.
void Model::join_all(std::string_view piece, ModelScratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  heap.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    if (const Candidate c = candidate(piece, symbols, static_cast<int32_t>(i)); c.result >= 0) heap.push_back(c);
  }
  std::make_heap(heap.begin(), heap.end(), Later());
  const auto push = [&](int32_t left) {
    if (left < 0) return;
    if (const Candidate c = candidate(piece, symbols, left); c.result >= 0) {
      heap.push_back(c);
      std::push_heap(heap.begin(), heap.end(), Later());
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), Later());
    const Candidate c = heap.back();
    heap.pop_back();
    const auto left = static_cast<int32_t>(c.key);
    Symbol& a = symbols[static_cast<size_t>(left)];
    if (a.size == 0 || a.after < 0) continue;
    Symbol& b = symbols[static_cast<size_t>(a.after)];
    if (a.size + b.size != c.size) continue;  // one of them has been joined since
    a.id = c.result;
    a.size = c.size;
    b.size = 0;
    a.after = b.after;
    if (a.after >= 0) symbols[static_cast<size_t>(a.after)].before = left;
    push(a.before);
    push(left);
  }
}

void Model::encode_bpe(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& ids) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  const auto add = [&](int32_t id, uint32_t begin, uint32_t size) {
    const auto place = static_cast<int32_t>(symbols.size());
    if (place > 0) symbols.back().after = place;
    symbols.push_back({id, begin, size, place - 1, -1});
  };
  // HF holds an unknown letter back until a known one follows (bytes of other letters may pass it).
  uint32_t held_begin = 0, held_size = 0;
  const auto flush = [&] {
    if (held_size > 0) add(spec_->unk_id, held_begin, held_size);
    held_size = 0;
  };
  for (uint32_t at = 0; at < piece.size();) {
    const CodePoint c = decode_utf8(piece.substr(at));
    const std::string_view letter = piece.substr(at, c.size);
    const uint32_t begin = at;
    at += c.size;
    if (const int32_t id = letter_id(letter, c.valid ? c.value : 0xFFFD); id >= 0) {
      flush();
      add(id, begin, c.size);
      continue;
    }
    if (spec_->byte_fallback) {
      const bool all =
          std::all_of(letter.begin(), letter.end(), [&](char b) { return byte_ids_[static_cast<uint8_t>(b)] >= 0; });
      if (all) {
        for (uint32_t i = 0; i < letter.size(); ++i) add(byte_ids_[static_cast<uint8_t>(letter[i])], begin + i, 1);
        continue;
      }
    }
    if (spec_->unknown == UnknownPiece::kToken && spec_->unk_id >= 0) {
      if (held_size > 0 && spec_->fuse_unk) {
        held_size += c.size;
      } else {
        flush();
        held_begin = begin, held_size = c.size;
      }
    } else if (spec_->unknown_breaks) {
      add(-1, begin, c.size);
    }
  }
  flush();
  if (symbols.empty()) return;
  join_all(piece, scratch);
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].after) {
    const Symbol& s = symbols[static_cast<size_t>(i)];
    if (s.id >= 0 && static_cast<size_t>(s.id) < spec_->tokens.size()) {
      ids.push_back(s.id);
    } else if (spec_->byte_fallback) {
      for (const char b : piece.substr(s.begin, s.size)) {
        if (const int32_t id = byte_ids_[static_cast<uint8_t>(b)]; id >= 0) ids.push_back(id);
      }
    } else if (spec_->unknown == UnknownPiece::kRawBytes) {
      for (const char b : piece.substr(s.begin, s.size)) {
        if (const int32_t id = raw_byte_ids_[static_cast<uint8_t>(b)]; id >= 0) ids.push_back(id);
      }
    }
  }
}

void Model::encode_spm(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& ids) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  for (uint32_t at = 0; at < piece.size();) {
    const uint32_t size = std::min<uint32_t>(letter_size(piece[at]), static_cast<uint32_t>(piece.size()) - at);
    const auto place = static_cast<int32_t>(symbols.size());
    if (place > 0) symbols.back().after = place;
    symbols.push_back({-1, at, size, place - 1, -1});
    at += size;
  }
  join_all(piece, scratch);
  bool after_unknown = false;
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].after) {
    const Symbol& s = symbols[static_cast<size_t>(i)];
    const std::string_view text = piece.substr(s.begin, s.size);
    const int32_t id = s.id >= 0 ? s.id : index_.find(text);
    bool unknown = false;
    if (id >= 0) {
      ids.push_back(id);
    } else if (!spec_->byte_fallback || !append_bytes(text, ids)) {
      unknown = spec_->unknown == UnknownPiece::kToken && spec_->unk_id >= 0;
      if (unknown && !(after_unknown && spec_->fuse_unk)) ids.push_back(spec_->unk_id);
    }
    after_unknown = unknown;
  }
}

void Model::encode_unigram(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& ids) const {
  // best[i]: the best segmentation of the first i bytes ends with this token. -1 as id: a letter that is no token.
  auto& best = scratch.best;
  best.assign(piece.size() + 1, {-std::numeric_limits<double>::infinity(), -1, 0});
  best[0].score = 0;
  for (size_t at = 0; at < piece.size();) {
    const size_t letter = std::min<size_t>(decode_utf8(piece.substr(at)).size, piece.size() - at);
    const double so_far = best[at].score;
    bool letter_known = false;
    uint32_t node = ByteTrie::kRoot;
    for (size_t end = at; end < piece.size();) {
      node = trie_.step(node, static_cast<uint8_t>(piece[end++]));
      if (node == ByteTrie::kNone) break;
      const int32_t id = trie_.value(node);
      if (id < 0) continue;
      if (end - at == letter) letter_known = true;
      const bool free = !spec_->specials_in_model && spec_->types[static_cast<size_t>(id)] == TokenType::kUserDefined;
      const double score = so_far + (free ? 0.0 : spec_->scores[static_cast<size_t>(id)]);
      if (score > best[end].score) best[end] = {score, id, static_cast<uint32_t>(at)};
    }
    if (!letter_known) {
      const double score = so_far + unknown_score_;
      if (score > best[at + letter].score) best[at + letter] = {score, -1, static_cast<uint32_t>(at)};
    }
    at += letter;
  }
  auto& path = scratch.path;  // [begin, end) from the end; neighbouring unknown letters are one
  path.clear();
  bool after_unknown = false;
  for (size_t end = piece.size(); end > 0; end = best[end].begin) {
    const bool unknown = best[end].id < 0 || best[end].id == spec_->unk_id;
    if (unknown && after_unknown && spec_->fuse_unk) {
      path.back().first = best[end].begin;
    } else {
      path.emplace_back(best[end].begin, static_cast<uint32_t>(end));
    }
    after_unknown = unknown;
  }
  for (auto p = path.rbegin(); p != path.rend(); ++p) {
    const auto& last = best[p->second];
    if (last.id >= 0 && last.id != spec_->unk_id) {
      ids.push_back(last.id);
      continue;
    }
    const std::string_view text = piece.substr(p->first, p->second - p->first);
    if (const int32_t id = spec_->specials_in_model ? index_.find(text) : -1; id >= 0) {
      ids.push_back(id);
      continue;
    }
    if (spec_->byte_fallback && append_bytes(text, ids)) continue;
    if (spec_->unk_id >= 0) ids.push_back(spec_->unk_id);
  }
}

}  // namespace ll
