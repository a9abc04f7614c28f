#include "runtime/text/added_tokens.h"

#include <algorithm>
#include <tuple>

#include "runtime/text/utf8.h"

namespace ll {
namespace {

CodePoint last_letter(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && text.size() - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return decode_utf8(text.substr(begin));
}

bool is_c_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace

bool SpecialPlaces::allow(size_t begin, size_t end) const {
  if (anywhere) return true;
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), begin,
                                      [](size_t at, const TextRange& range) { return at < range.begin; });
  return after != ranges.begin() && std::prev(after)->end >= end;
}

void AddedTokens::build(const std::vector<AddedToken>& added, const std::vector<std::string>& texts,
                        AddedTokenOrder order) {
  added_ = &added;
  order_ = order;
  for (size_t i = 0; i < added.size(); ++i) trie_.add(texts[i], static_cast<int32_t>(i));
}

void AddedTokens::cut(std::string_view text, const SpecialPlaces& special, std::vector<Cut>& out) const {
  if (text.empty()) return;
  if (empty()) {
    out.push_back({{0, static_cast<uint32_t>(text.size())}, -1});
  } else if (order_ == AddedTokenOrder::kLeftmostLongest) {
    cut_leftmost_longest(text, special, out);
  } else {
    cut_longest_first(text, special, out);
  }
}

void AddedTokens::cut_leftmost_longest(std::string_view text, const SpecialPlaces& special,
                                       std::vector<Cut>& out) const {
  size_t done = 0;  // text before this is in `out`
  for (size_t at = 0; at < text.size();) {
    int32_t found = -1;
    size_t match_end = at;
    if (trie_.starts(static_cast<uint8_t>(text[at]))) {
      uint32_t node = ByteTrie::kRoot;
      for (size_t end = at; end < text.size();) {
        node = trie_.step(node, static_cast<uint8_t>(text[end++]));
        if (node == ByteTrie::kNone) break;
        const int32_t token = trie_.value(node);
        if (token < 0) continue;
        // Where only some places may hold special tokens, text elsewhere must not hide those.
        const bool guarded = !special.anywhere && !special.nowhere() && (*added_)[static_cast<size_t>(token)].special;
        if (!guarded || special.allow(at, end)) found = token, match_end = end;
      }
    }
    if (found < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = (*added_)[static_cast<size_t>(found)];
    size_t begin = at, end = match_end;
    at = match_end;  // also where the match does not count: what it covers is not looked at again
    if (token.special && special.nowhere()) continue;
    if (token.single_word) {
      const bool after_word = begin > 0 && is_word_letter(last_letter(text.substr(0, begin)).value);
      const bool before_word = end < text.size() && is_word_letter(decode_utf8(text.substr(end)).value);
      if (after_word || before_word) continue;
    }
    begin = std::max(begin, done);  // white space taken by the token before
    while (token.lstrip && begin > done) {
      const CodePoint c = last_letter(text.substr(0, begin));
      if (!c.valid || !is_white_space(c.value)) break;
      begin -= c.size;
    }
    while (token.rstrip && end < text.size()) {
      const CodePoint c = decode_utf8(text.substr(end));
      if (!c.valid || !is_white_space(c.value)) break;
      end += c.size;
    }
    end = std::max(end, begin);
    if (done < begin) out.push_back({{static_cast<uint32_t>(done), static_cast<uint32_t>(begin)}, -1});
    out.push_back({{static_cast<uint32_t>(begin), static_cast<uint32_t>(end)}, token.id});
    done = end;
  }
  if (done < text.size()) out.push_back({{static_cast<uint32_t>(done), static_cast<uint32_t>(text.size())}, -1});
}

void AddedTokens::cut_longest_first(std::string_view text, const SpecialPlaces& special, std::vector<Cut>& out) const {
  struct Found {
    uint32_t begin, end;
    int32_t token;
  };
  std::vector<Found> found;
  for (size_t at = 0; at < text.size(); ++at) {
    if (!trie_.starts(static_cast<uint8_t>(text[at]))) continue;
    uint32_t node = ByteTrie::kRoot;
    for (size_t end = at; end < text.size();) {
      node = trie_.step(node, static_cast<uint8_t>(text[end++]));
      if (node == ByteTrie::kNone) break;
      const int32_t token = trie_.value(node);
      if (token < 0 || ((*added_)[static_cast<size_t>(token)].special && !special.allow(at, end))) continue;
      found.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(end), token});
    }
  }
  if (found.empty()) {
    out.push_back({{0, static_cast<uint32_t>(text.size())}, -1});
    return;
  }
  std::sort(found.begin(), found.end(), [&](const Found& a, const Found& b) {
    const auto key = [&](const Found& f) {
      return std::tuple(-static_cast<int64_t>(f.end - f.begin), (*added_)[static_cast<size_t>(f.token)].id, f.begin);
    };
    return key(a) < key(b);
  });
  std::vector<bool> taken(text.size());
  std::vector<Cut> cuts;
  for (const Found& f : found) {
    // Whatever is taken is at least as long, so it covers one of the two ends if it touches this match at all.
    if (taken[f.begin] || taken[f.end - 1]) continue;
    const AddedToken& token = (*added_)[static_cast<size_t>(f.token)];
    uint32_t begin = f.begin, end = f.end;
    while (token.lstrip && begin > 0 && !taken[begin - 1] && is_c_space(text[begin - 1])) --begin;
    while (token.rstrip && end < text.size() && !taken[end] && is_c_space(text[end])) ++end;
    std::fill(taken.begin() + begin, taken.begin() + end, true);
    cuts.push_back({{begin, end}, token.id});
  }
  std::sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) { return a.span.begin < b.span.begin; });
  uint32_t done = 0;
  for (const Cut& c : cuts) {
    if (done < c.span.begin) out.push_back({{done, c.span.begin}, -1});
    out.push_back(c);
    done = c.span.end;
  }
  if (done < text.size()) out.push_back({{done, static_cast<uint32_t>(text.size())}, -1});
}

}  // namespace ll
