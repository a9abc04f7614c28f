// A stable sort whose comparison may fail, or change its mind, without harm.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "runtime/base/result.h"

namespace ll::jinja {

// less(a, b) gives Result<bool>. As in Python, it is asked whether a later item belongs before an earlier one. O(n log
// n).
template <class T, class Less>
Status stable_sort(std::vector<T>& items, Less&& less) {
  std::vector<T> merged(items.size());
  for (size_t width = 1; width < items.size(); width *= 2) {
    for (size_t begin = 0; begin < items.size(); begin += 2 * width) {
      const size_t middle = std::min(begin + width, items.size()), end = std::min(begin + 2 * width, items.size());
      size_t left = begin, right = middle;
      for (size_t at = begin; at < end; ++at) {
        bool take_right = left == middle;
        if (left < middle && right < end) {
          auto later_first = less(items[right], items[left]);
          if (!later_first) return std::move(later_first).error();
          take_right = *later_first;
        }
        merged[at] = std::move(items[take_right ? right++ : left++]);
      }
    }
    std::swap(items, merged);
  }
  return {};
}

}  // namespace ll::jinja
