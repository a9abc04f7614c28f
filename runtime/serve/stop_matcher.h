// Stop strings in text that comes in parts.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ll::serve {

// Gives out the text before the first stop string and never a part of that string: what may be its beginning is held
// back until later text decides. The match that is complete first counts, of those complete at one place the longest.
// How the text is cut into parts changes nothing.
class StopMatcher {
 public:
  // Empty strings are left out.
  explicit StopMatcher(std::vector<std::string> stops);

  // Appends to `out` what is certain not to be part of a stop string. True once one was found; then nothing is given
  // out any more.
  bool push(std::string_view part, std::string& out);
  // The text has ended: appends what was held back.
  void finish(std::string& out);

  // Which string was found (its place in the constructor's list without empty ones).
  std::optional<size_t> found() const { return found_; }
  const std::string& stop(size_t i) const { return stops_[i]; }

 private:
  std::vector<std::string> stops_;
  std::vector<std::vector<size_t>> borders_;  // of stop i: longest border of its first j + 1 bytes
  std::vector<size_t> matched_;               // bytes of stop i that the text seen ends with
  std::string held_;                          // the end of the text that was not given out
  std::optional<size_t> found_;
};

}  // namespace ll::serve
