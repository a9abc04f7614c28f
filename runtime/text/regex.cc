#include "runtime/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <new>

#include "runtime/text/utf8.h"

namespace ll {
namespace {

// A search starts with a small limit on PCRE2's backtracking steps, which nearly all stay below. One that passes it is
// repeated with a larger one, and what that may cost is taken from a budget for the whole text: linear in its size, so
// a pattern that backtracks without end is an error and not a hang.
constexpr uint32_t kFirstLimit = 1 << 11;
constexpr uint32_t kLimitGrowth = 1 << 3;
constexpr uint64_t kBudget = uint64_t{1} << 21;
constexpr uint64_t kBudgetPerByte = 128;
constexpr uint32_t kHeapKiB = 128 * 1024;  // of backtracking points

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  if (pcre2_get_error_message(code, text, sizeof text) < 0) return "error " + std::to_string(code);
  return reinterpret_cast<const char*>(text);
}

const pcre2_code* code_of(const void* code) { return static_cast<const pcre2_code*>(code); }

}  // namespace

void Regex::Free::operator()(void* code) const { pcre2_code_free(static_cast<pcre2_code*>(code)); }

Result<Regex> Regex::compile(std::string_view pattern) {
  int code = 0;
  PCRE2_SIZE place = 0;
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  Regex regex;
  regex.code_.reset(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), kOptions, &code, &place, nullptr));
  if (regex.code_ == nullptr) return bad_data("regex '{}' at {}: {}", pattern, place, message_of(code));
  regex.pattern_ = pattern;
  return regex;
}

struct RegexRun::State {
  pcre2_match_context* context = nullptr;
  pcre2_match_data* data = nullptr;
  uint64_t budget = 0;
};

RegexRun::RegexRun(size_t text_bytes) : state_(std::make_unique<State>()) {
  state_->context = pcre2_match_context_create(nullptr);
  state_->data = pcre2_match_data_create(1, nullptr);
  if (state_->context == nullptr || state_->data == nullptr) throw std::bad_alloc();
  pcre2_set_heap_limit(state_->context, kHeapKiB);
  state_->budget = kBudget + kBudgetPerByte * text_bytes;
}

RegexRun::~RegexRun() {
  pcre2_match_data_free(state_->data);
  pcre2_match_context_free(state_->context);
}

Status RegexRun::find_all(const Regex& regex, std::string_view text, std::vector<TextSpan>& matches) {
  // PCRE2 reads outside its tables and the text where that is not UTF-8, and checks what is left of it at every match.
  // Texts become such: steps of hostile tokenizers replace letters by bytes, and added tokens cut letters.
  if (!is_utf8(text)) return bad_data("regex '{}' on a text that is not UTF-8", regex.pattern_);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  State& s = *state_;
  size_t from = 0;
  size_t last_end = SIZE_MAX;
  pcre2_set_match_limit(s.context, kFirstLimit);
  while (from <= text.size()) {
    int found =
        pcre2_match(code_of(regex.code_.get()), subject, text.size(), from, PCRE2_NO_UTF_CHECK, s.data, s.context);
    if (found == PCRE2_ERROR_MATCHLIMIT) {
      uint64_t limit = kFirstLimit;
      while (found == PCRE2_ERROR_MATCHLIMIT && s.budget > 0) {
        limit = std::min(limit * kLimitGrowth, s.budget);
        s.budget -= limit;
        pcre2_set_match_limit(s.context, static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX)));
        found =
            pcre2_match(code_of(regex.code_.get()), subject, text.size(), from, PCRE2_NO_UTF_CHECK, s.data, s.context);
      }
      pcre2_set_match_limit(s.context, kFirstLimit);
    }
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found == PCRE2_ERROR_NOMEMORY) throw std::bad_alloc();
    if (found < 0)
      return unsupported("regex '{}' on a text of {} bytes: {}", regex.pattern_, text.size(), message_of(found));
    const PCRE2_SIZE* at = pcre2_get_ovector_pointer(s.data);
    const size_t begin = at[0], end = std::max(at[0], at[1]);  // \K in a lookahead can put the end first
    if (begin < from) return unsupported("regex '{}' matches before the place where the search starts", regex.pattern_);
    if (begin == end && begin == last_end) {
      from = begin + std::max<uint32_t>(1, decode_utf8(text.substr(begin)).size);
      continue;
    }
    matches.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    from = end;
    last_end = end;
  }
  return {};
}

}  // namespace ll
