# Debian packages. What ships is linked statically (the installed tree needs glibc alone), so static archives are asked for by name.
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_program(LLCUDA_FLATC flatc REQUIRED)

# llcuda_static_library(NAME HEADER ARCHIVE) -> imported target llcuda::NAME
function(llcuda_static_library name header archive)
  find_path(LLCUDA_${name}_INCLUDE ${header} REQUIRED)
  find_library(LLCUDA_${name}_ARCHIVE ${archive} REQUIRED)
  add_library(llcuda::${name} STATIC IMPORTED)
  set_target_properties(llcuda::${name} PROPERTIES
    IMPORTED_LOCATION ${LLCUDA_${name}_ARCHIVE}
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${LLCUDA_${name}_INCLUDE})
endfunction()
llcuda_static_library(flatbuffers flatbuffers/flatbuffers.h libflatbuffers.a)
llcuda_static_library(pcre2 pcre2.h libpcre2-8.a)
llcuda_static_library(utf8proc utf8proc.h libutf8proc.a)
llcuda_static_library(xxhash xxhash.h libxxhash.a)
set_target_properties(llcuda::utf8proc PROPERTIES INTERFACE_COMPILE_DEFINITIONS UTF8PROC_STATIC)
find_path(LLCUDA_fmt_INCLUDE fmt/core.h REQUIRED)

# Headers alone, for the event loop of llrt serve.
find_path(LLCUDA_boost_INCLUDE boost/asio.hpp REQUIRED)
add_library(llcuda::boost INTERFACE IMPORTED)
set_target_properties(llcuda::boost PROPERTIES INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${LLCUDA_boost_INCLUDE})

if(LLCUDA_TESTS)
  find_package(GTest REQUIRED)
endif()
if(LLCUDA_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()
