// The products of a level with kX16 panels, a table made of its words (x16_product.h). Include once a file.
#pragma once

#include "kernels/cpu/x16_requantized.h"
#include "kernels/cpu/x16_tiles.h"

namespace ll {
namespace {

template <class W, X16Format F>
constexpr Dots x16_dots_of() {
  // What linear_panel_bytes counts for kTilePanels.
  static_assert(X16Unpacked<F>::kBytes <= 40 * 256 && X16Blocks<F>::kBytes <= 40 * 256);
  static_assert(kRequantizedPanels * X16Requantized::kBytes <= kTilePanels * 40 * X16Requantized::kK);
  constexpr int kMostTokens = W::kLanes == 16 ? 8 : 4;
  Dots dots = {F.dtype, dots_of_tokens<kMostTokens>([]<int kTokens> { return &x16_dot<W, F, kTokens>; })};
  dots.step = {x16_arrange_step<F>, F.subs(), X16Step<F>::bytes(1)};
  if constexpr (W::kLanes == 16) dots.side = x16_side<W, F>, dots.in_order = true;
  if constexpr (requires { W::tiles_end(); }) {
    if constexpr (F.group == 0) {
      dots.exact = {x16_unpack_panel<W, F>, X16Unpacked<F>::bytes, x16_arrange<W, F.min>, x16_tiles<W, F>};
    } else {
      dots.exact = {x16_unpack_blocks<W, F>, X16Blocks<F>::bytes, x16_arrange_blocks < W,
                    F.min && F.group == 16 ? 16 : 32 >, x16_block_tiles<W, F>};
    }
    dots.requantized = {x16_requantize<W, F>, X16Requantized::bytes, x16_arrange_512<W>, x16_requantized_tiles<W>};
  } else if constexpr (W::kLanes == 16) {
    dots.requantized = {x16_requantize<W, F>, X16Requantized::bytes, x16_arrange_512<W>, x16_requantized_dots<W>};
  }
  return dots;
}

template <class W>
const Dots* x16_dots(DType dtype) {
  static constexpr Dots kDots[] = {
      x16_dots_of<W, kX16Q4_0>(), x16_dots_of<W, kX16Q4_1>(),  x16_dots_of<W, kX16Q5_0>(), x16_dots_of<W, kX16Q5_1>(),
      x16_dots_of<W, kX16Q8_0>(), x16_dots_of<W, kX16IQ4NL>(), x16_dots_of<W, kX16Q2K>(),  x16_dots_of<W, kX16Q3K>(),
      x16_dots_of<W, kX16Q4K>(),  x16_dots_of<W, kX16Q5K>(),   x16_dots_of<W, kX16Q6K>(),  x16_dots_of<W, kX16IQ4XS>(),
  };
  for (const Dots& d : kDots) {
    if (d.dtype == dtype) return &d;
  }
  return nullptr;
}

}  // namespace
}  // namespace ll
