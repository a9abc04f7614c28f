#include "kernels/cpu/avx512/finish.h"
#include "kernels/cpu/avx512/words.h"
#include "kernels/cpu/x16_dots.h"

namespace ll::avx512 {

void linear(const KernelCall& call, LinearForm form) {
  linear_of(call, form, x16_dots<Avx512Words>, nullptr, &kFinish);
}

}  // namespace ll::avx512
