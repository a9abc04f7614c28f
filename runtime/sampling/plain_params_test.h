// Parameters that tests of sampling begin with.
#pragma once

#include "runtime/sampling/sampling.h"

namespace ll {

// Everything off: plain sampling from softmax(logits / temperature).
inline SampleParams plain(float temperature = 1) {
  SampleParams params;
  params.temperature = temperature;
  params.top_k = 0;
  params.top_p = 1;
  params.min_p = 0;
  return params;
}

}  // namespace ll
