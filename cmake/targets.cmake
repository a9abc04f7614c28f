# One library per folder of the dependency table (tools/lint_includes.py). Sources are found by name, so adding a file touches no
# build file:  x.cc  library | x_test.cc  the folder's unit tests | x_fuzz.cc  a fuzz target | x_bench.cc  a benchmark
# Files under kernels/cpu/LEVEL/ are compiled for that instruction set and called only after a CPUID check.

# The instructions of each kernels/cpu/LEVEL/.
set(LLCUDA_LEVEL_avx2 -mavx2 -mfma -mf16c)
set(LLCUDA_LEVEL_avxvnni ${LLCUDA_LEVEL_avx2} -mavxvnni)
set(LLCUDA_LEVEL_avx512 ${LLCUDA_LEVEL_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512vnni)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND LLCUDA_LEVEL_avx512 -Wno-maybe-uninitialized -Wno-uninitialized)  # false for the undefined operands of its own words (GCC bug 105593)
endif()
set(LLCUDA_LEVEL_amx ${LLCUDA_LEVEL_avx512} -mamx-tile -mamx-int8 -mamx-bf16)

# Every product of every type, three times over in plain C++: a minute of optimization for seconds of running.
set_source_files_properties(${PROJECT_SOURCE_DIR}/kernels/cpu/x16_product_test.cc PROPERTIES COMPILE_OPTIONS "-O0;-U_FORTIFY_SOURCE")

# Generated FlatBuffers headers: schemas/x.fbs -> <build>/schemas/x_generated.h
file(GLOB LLCUDA_SCHEMAS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/schemas/*.fbs)
set(LLCUDA_SCHEMA_HEADERS)
foreach(schema ${LLCUDA_SCHEMAS})
  get_filename_component(name ${schema} NAME_WE)
  set(header ${PROJECT_BINARY_DIR}/schemas/${name}_generated.h)
  add_custom_command(OUTPUT ${header}
    COMMAND ${LLCUDA_FLATC} --cpp --cpp-std c++17 --scoped-enums --no-prefix -o ${PROJECT_BINARY_DIR}/schemas ${schema}
    DEPENDS ${schema} VERBATIM)
  list(APPEND LLCUDA_SCHEMA_HEADERS ${header})
endforeach()
add_custom_target(llcuda_schemas DEPENDS ${LLCUDA_SCHEMA_HEADERS})

# The numerics suite's cases, which gpu_check runs too.
set(LLCUDA_CASES "(_cases|/numerics_run)_test")

# llcuda_unite(TARGET FILE...): with LLCUDA_UNITE the target's files are compiled together, some 100 KB at a time, which more than
# halves a full build: most of a small file's time is the headers it reads. Files with options of their own stay apart.
set(LLCUDA_UNIT_SIZE 100000)
function(llcuda_unite target)
  if(NOT LLCUDA_UNITE)
    return()
  endif()
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)  # of one file's own types in a class of that file
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  set(total 0)
  set(files)
  set(middles)
  foreach(file ${ARGN})
    get_source_file_property(options ${file} COMPILE_OPTIONS)
    if(file MATCHES "${LLCUDA_CASES}")
      set_source_files_properties(${file} PROPERTIES UNITY_GROUP cases)
    elseif(NOT options)
      file(SIZE ${file} size)
      math(EXPR middle "${total} + ${size} / 2")
      math(EXPR total "${total} + ${size}")
      list(APPEND files ${file})
      list(APPEND middles ${middle})
    endif()
  endforeach()
  foreach(file middle IN ZIP_LISTS files middles)
    math(EXPR unit "${middle} * ((${total} - 1) / ${LLCUDA_UNIT_SIZE} + 1) / ${total}")
    set_source_files_properties(${file} PROPERTIES UNITY_GROUP ${unit})
  endforeach()
endfunction()

# llcuda_folder(NAME [LINK lib...] FOLDERS dir...): library llcuda_NAME from every source below the folders, and its tests.
function(llcuda_folder name)
  cmake_parse_arguments(arg "" "" "LINK;FOLDERS" ${ARGN})
  set(sources)
  set(tests)
  set(fuzzers)
  set(benches)
  foreach(folder ${arg_FOLDERS})
    file(GLOB_RECURSE found CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cc)
    foreach(file ${found})
      if(file MATCHES "_test\\.cc$")
        list(APPEND tests ${file})
      elseif(file MATCHES "_fuzz\\.cc$")
        list(APPEND fuzzers ${file})
      elseif(file MATCHES "_bench\\.cc$")
        list(APPEND benches ${file})
      else()
        list(APPEND sources ${file})
        if(file MATCHES "/kernels/cpu/([a-z0-9]+)/")
          set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${LLCUDA_LEVEL_${CMAKE_MATCH_1}}")
        endif()
      endif()
    endforeach()
  endforeach()
  if(NOT sources)
    add_library(llcuda_${name} INTERFACE)
    target_link_libraries(llcuda_${name} INTERFACE ${arg_LINK})
    return()
  endif()
  add_library(llcuda_${name} STATIC ${sources})
  add_dependencies(llcuda_${name} llcuda_schemas)
  target_include_directories(llcuda_${name} SYSTEM PUBLIC ${PROJECT_BINARY_DIR} ${LLCUDA_fmt_INCLUDE})
  target_link_libraries(llcuda_${name} PRIVATE llcuda_flags PUBLIC ${arg_LINK})
  llcuda_unite(llcuda_${name} ${sources})
  if(LLCUDA_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE llcuda_flags llcuda_${name} GTest::gtest_main)
    if(name STREQUAL kernels)  # with the references of products; gpu_check takes some of its objects
      target_compile_options(${name}_test PRIVATE $<$<CONFIG:Release>:-O1>)
    else()  # what is tested is in the libraries
      target_compile_options(${name}_test PRIVATE $<$<CONFIG:Release>:-O0> $<$<CONFIG:Release>:-U_FORTIFY_SOURCE>)
    endif()
    llcuda_unite(${name}_test ${tests})
    target_compile_definitions(${name}_test PRIVATE
      LLCUDA_SOURCE_DIR="${PROJECT_SOURCE_DIR}" LLCUDA_BINARY_DIR="${PROJECT_BINARY_DIR}")
    gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 600)
  endif()
  # Each x_fuzz.cc defines LLVMFuzzerTestOneInput. With sanitizers but without libFuzzer it becomes a program that replays its corpus,
  # x_corpus/ beside it.
  if((LLCUDA_TESTS AND LLCUDA_SANITIZE) OR LLCUDA_FUZZERS)
    foreach(file ${fuzzers})
      get_filename_component(fuzzer ${file} NAME_WE)
      get_filename_component(folder ${file} DIRECTORY)
      string(REPLACE "_fuzz" "_corpus" corpus ${fuzzer})
      add_executable(${fuzzer} ${file})
      target_link_libraries(${fuzzer} PRIVATE llcuda_flags llcuda_${name})
      if(LLCUDA_FUZZERS)
        target_link_options(${fuzzer} PRIVATE -fsanitize=fuzzer)
      else()
        target_link_libraries(${fuzzer} PRIVATE llcuda_replay)
        add_test(NAME fuzz.${fuzzer} COMMAND ${fuzzer} ${folder}/${corpus})
        set_tests_properties(fuzz.${fuzzer} PROPERTIES TIMEOUT 300)
      endif()
    endforeach()
  endif()
  if(LLCUDA_BENCHMARKS)
    foreach(file ${benches})
      get_filename_component(bench ${file} NAME_WE)
      add_executable(${bench} ${file})
      target_link_libraries(${bench} PRIVATE llcuda_flags llcuda_${name} benchmark::benchmark_main)
    endforeach()
  endif()
endfunction()

if(LLCUDA_TESTS)
  enable_testing()
  include(GoogleTest)
  add_library(llcuda_replay STATIC ${PROJECT_SOURCE_DIR}/tests/replay_corpus.cc)
  target_link_libraries(llcuda_replay PRIVATE llcuda_flags)
endif()

llcuda_folder(base FOLDERS runtime/base LINK Threads::Threads llcuda::xxhash nlohmann_json::nlohmann_json)
llcuda_folder(kernels FOLDERS kernels LINK llcuda_base)
llcuda_folder(text FOLDERS runtime/text LINK llcuda_base llcuda::pcre2 llcuda::utf8proc llcuda::flatbuffers)
llcuda_folder(runtime FOLDERS runtime/plan runtime/sampling runtime/device runtime/engine LINK llcuda_kernels llcuda_text llcuda::flatbuffers)
llcuda_folder(ir FOLDERS ir LINK llcuda_kernels)
llcuda_folder(compiler FOLDERS compiler
  LINK llcuda_ir llcuda_kernels llcuda_runtime llcuda_text llcuda::flatbuffers ${CMAKE_DL_LIBS})
# The CUDA sources, carried by the compiler.
file(GLOB_RECURSE LLCUDA_CUDA_SOURCES CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/kernels/cuda
  ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cuh ${PROJECT_SOURCE_DIR}/kernels/cuda/prim/*.h)
list(TRANSFORM LLCUDA_CUDA_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/kernels/cuda/ OUTPUT_VARIABLE LLCUDA_CUDA_PATHS)
add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/cuda_sources.cc
  COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR}/kernels/cuda "-DFILES=${LLCUDA_CUDA_SOURCES}"
    -DOUTPUT=${PROJECT_BINARY_DIR}/cuda_sources.cc -P ${PROJECT_SOURCE_DIR}/cmake/embed_cuda.cmake
  DEPENDS ${LLCUDA_CUDA_PATHS} ${PROJECT_SOURCE_DIR}/cmake/embed_cuda.cmake VERBATIM)
target_sources(llcuda_compiler PRIVATE ${PROJECT_BINARY_DIR}/cuda_sources.cc)
target_compile_options(llcuda_compiler PRIVATE $<$<CONFIG:Release>:-O1>)  # repacking is in kernels/quant
llcuda_folder(serve FOLDERS runtime/serve LINK llcuda_runtime llcuda_text llcuda::boost)
# The chat page, carried by the server.
file(GLOB LLCUDA_WEB_FILES CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/runtime/serve/web ${PROJECT_SOURCE_DIR}/runtime/serve/web/*)
list(TRANSFORM LLCUDA_WEB_FILES PREPEND ${PROJECT_SOURCE_DIR}/runtime/serve/web/ OUTPUT_VARIABLE LLCUDA_WEB_PATHS)
add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/web_files_table.cc
  COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR}/runtime/serve/web "-DFILES=${LLCUDA_WEB_FILES}"
    -DOUTPUT=${PROJECT_BINARY_DIR}/web_files_table.cc -P ${PROJECT_SOURCE_DIR}/cmake/embed_web.cmake
  DEPENDS ${LLCUDA_WEB_PATHS} ${PROJECT_SOURCE_DIR}/cmake/embed_web.cmake VERBATIM)
target_sources(llcuda_serve PRIVATE ${PROJECT_BINARY_DIR}/web_files_table.cc)
llcuda_folder(load FOLDERS runtime/load LINK llcuda_base)
# Beside what a model takes, these wait for sockets.
target_compile_options(llcuda_serve PRIVATE $<$<CONFIG:Release>:-O1>)
target_compile_options(llcuda_load PRIVATE $<$<CONFIG:Release>:-O1>)
llcuda_folder(api FOLDERS runtime/api LINK llcuda_runtime)
if(TARGET llcuda_api)
  get_target_property(type llcuda_api TYPE)
  if(type STREQUAL STATIC_LIBRARY)
    target_include_directories(llcuda_api PUBLIC ${PROJECT_SOURCE_DIR}/include)
  endif()
endif()

# libllrt: the C ABI and nothing else is exported. Everything it is made of is linked in.
add_library(llrt_library SHARED ${PROJECT_SOURCE_DIR}/cmake/empty.cc)
set_target_properties(llrt_library PROPERTIES OUTPUT_NAME llrt VERSION ${PROJECT_VERSION} SOVERSION 0)
target_include_directories(llrt_library PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_link_libraries(llrt_library PRIVATE -Wl,--whole-archive llcuda_api -Wl,--no-whole-archive llcuda_flags -static-libstdc++ -static-libgcc -Wl,--undefined=arc4random
  -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/llrt.map)

# What both programs share: tools/*.cc.
file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/*.cc)
add_library(llcuda_tools STATIC ${sources})
target_link_libraries(llcuda_tools PUBLIC llcuda_base PRIVATE llcuda_flags CLI11::CLI11)
target_compile_options(llcuda_tools PRIVATE $<$<CONFIG:Release>:-O1>)

# Programs. Each subcommand is one file that main.cc lists.
foreach(program llcc llrt)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/${program}/*.cc)
  if(NOT sources)
    continue()
  endif()
  add_executable(${program} ${sources})
  llcuda_unite(${program} ${sources})
  target_compile_options(${program} PRIVATE $<$<CONFIG:Release>:-O1>)  # what takes time is in the libraries
  target_link_libraries(${program} PRIVATE llcuda_flags llcuda_tools -static-libstdc++ -static-libgcc -Wl,--undefined=arc4random)
  set_target_properties(${program} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
endforeach()
foreach(link "llcc llcuda_compiler" "llrt llrt_library" "llrt llcuda_base" "llrt llcuda_serve" "llrt llcuda_load")
  separate_arguments(link)
  list(GET link 0 program)
  list(GET link 1 library)
  if(TARGET ${program})
    target_link_libraries(${program} PRIVATE ${library})
  endif()
endforeach()

# tests/gpu_check/: the checks that need a GPU, one program for tools/gpu-check.sh. Runs the numerics suite's cases.
if(LLCUDA_TESTS)
  file(GLOB LLCUDA_GPU_CHECK CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/gpu_check/*.cc)
  add_executable(gpu_check EXCLUDE_FROM_ALL ${LLCUDA_GPU_CHECK}
    "$<FILTER:$<TARGET_OBJECTS:kernels_test>,INCLUDE,${LLCUDA_CASES}|/unity_cases_>")
  target_link_libraries(gpu_check PRIVATE llcuda_flags llcuda_compiler GTest::gtest_main -static-libstdc++ -static-libgcc
    -Wl,--undefined=arc4random)
endif()

# tests/cuda_driver/: a CUDA driver on top of the emulator, for tests of the CUDA device where there is no GPU.
if(LLCUDA_TESTS)
  add_library(llcuda_fake_driver SHARED ${PROJECT_SOURCE_DIR}/tests/cuda_driver/fake_driver.cc)
  target_link_libraries(llcuda_fake_driver PRIVATE llcuda_flags llcuda_kernels ${CMAKE_DL_LIBS})
  target_include_directories(llcuda_fake_driver SYSTEM PRIVATE ${LLCUDA_fmt_INCLUDE})
  target_compile_definitions(llcuda_fake_driver PRIVATE
    LLCUDA_SOURCE_DIR="${PROJECT_SOURCE_DIR}" LLCUDA_BINARY_DIR="${PROJECT_BINARY_DIR}")
  add_dependencies(runtime_test llcuda_fake_driver)  # loaded by name
endif()
