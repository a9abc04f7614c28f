// The sources below kernels/cuda/ as this build was made with them (cmake/embed_cuda.cmake).
#pragma once

#include <span>
#include <string_view>

namespace ll {

struct CudaSource {
  std::string_view name;  // "prim/args.h": as the sources include each other
  std::string_view text;  // ends with a zero byte behind it
};
std::span<const CudaSource> cuda_sources();  // ascending by name

}  // namespace ll
