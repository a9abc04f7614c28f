#include "runtime/serve/stop_matcher.h"

#include <algorithm>

namespace ll::serve {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& s) { return s.empty(); });
  matched_.resize(stops_.size());
  for (const std::string& stop : stops_) {
    std::vector<size_t> border(stop.size());
    for (size_t i = 1, length = 0; i < stop.size(); ++i) {
      while (length > 0 && stop[i] != stop[length]) length = border[length - 1];
      if (stop[i] == stop[length]) ++length;
      border[i] = length;
    }
    borders_.push_back(std::move(border));
  }
}

bool StopMatcher::push(std::string_view part, std::string& out) {
  if (found_) return true;
  if (stops_.empty()) {
    out += part;
    return false;
  }
  for (const char c : part) {
    held_ += c;
    size_t longest = 0;  // that some stop string may still begin with
    for (size_t i = 0; i < stops_.size(); ++i) {
      const std::string& stop = stops_[i];
      size_t& matched = matched_[i];
      while (matched > 0 && stop[matched] != c) matched = borders_[i][matched - 1];
      if (stop[matched] == c) ++matched;
      if (matched == stop.size()) {
        // Text ends here, so of all strings complete at this byte the longest begins first.
        if (!found_ || stop.size() > stops_[*found_].size()) found_ = i;
      }
      longest = std::max(longest, matched);
    }
    if (found_) {
      out.append(held_, 0, held_.size() - stops_[*found_].size());
      held_.clear();
      return true;
    }
    if (held_.size() > longest) {
      out.append(held_, 0, held_.size() - longest);
      held_.erase(0, held_.size() - longest);
    }
  }
  return false;
}

void StopMatcher::finish(std::string& out) {
  if (!found_) out += held_;
  held_.clear();
}

}  // namespace ll::serve
