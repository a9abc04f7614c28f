# Compiler settings that hold for every target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

option(LLCUDA_TESTS "Build tests; with sanitizers also replays of the fuzz corpora" ON)
option(LLCUDA_BENCHMARKS "Build Google Benchmark programs" OFF)
option(LLCUDA_FUZZERS "Build libFuzzer programs (needs clang)" OFF)
option(LLCUDA_UNITE "Compile the sources of a folder together: shorter full builds, longer ones after a change" OFF)
set(LLCUDA_SANITIZE "" CACHE STRING "Sanitizers for every target, such as address,undefined")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_program(LLCUDA_CCACHE ccache)
if(LLCUDA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${LLCUDA_CCACHE})
endif()

add_library(llcuda_flags INTERFACE)
target_compile_options(llcuda_flags INTERFACE
  -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor
  # Floating point means what the source says on every machine: no contraction unless a kernel writes an FMA.
  -ffp-contract=off -fno-math-errno -fstack-protector-strong -fcf-protection)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # Up to a gigabyte the compiler does not look for memory to free, which took it a tenth of the time and saved a quarter of that.
  target_compile_options(llcuda_flags INTERFACE --param=ggc-min-heapsize=500000)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(llcuda_flags INTERFACE -Wno-restrict)  # false at -O3 for literal + std::string (GCC bug 105329)
endif()
target_compile_definitions(llcuda_flags INTERFACE _GLIBCXX_ASSERTIONS LLCUDA_VERSION="${PROJECT_VERSION}")
target_include_directories(llcuda_flags INTERFACE ${PROJECT_SOURCE_DIR})
if(LLCUDA_SANITIZE)
  target_compile_options(llcuda_flags INTERFACE -fsanitize=${LLCUDA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(llcuda_flags INTERFACE -fsanitize=${LLCUDA_SANITIZE})
else()
  target_compile_definitions(llcuda_flags INTERFACE $<$<CONFIG:Release>:_FORTIFY_SOURCE=2>)
endif()
