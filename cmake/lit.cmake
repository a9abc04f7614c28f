# ctest entry `lit`: the .llir tests beside the passes, with LLVM's lit and FileCheck (Debian: llvm-14-tools). The test is there
# only where both are.
find_program(LLCUDA_PYTHON NAMES python3)
find_file(LLCUDA_LIT lit.py PATHS /usr/lib/llvm-14/build/utils/lit NO_DEFAULT_PATH)
find_program(LLCUDA_FILECHECK NAMES FileCheck FileCheck-14 PATHS /usr/lib/llvm-14/bin)
find_program(LLCUDA_NOT NAMES not not-14 PATHS /usr/lib/llvm-14/bin)
if(LLCUDA_PYTHON AND LLCUDA_LIT AND LLCUDA_FILECHECK AND LLCUDA_NOT)
  file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/lit/lit.site.cfg.py CONTENT
"config.llcc = r'$<TARGET_FILE:llcc>'
config.filecheck = r'${LLCUDA_FILECHECK}'
config.not_program = r'${LLCUDA_NOT}'
config.llcuda_tests = r'${PROJECT_SOURCE_DIR}/compiler/passes/tests'
config.llcuda_output = r'${PROJECT_BINARY_DIR}/lit'
lit_config.load_config(config, r'${PROJECT_SOURCE_DIR}/tests/lit.cfg.py')
")
  add_test(NAME lit COMMAND ${LLCUDA_PYTHON} ${LLCUDA_LIT} -q ${PROJECT_BINARY_DIR}/lit)
  set_tests_properties(lit PROPERTIES TIMEOUT 300)
else()
  message(STATUS "lit or FileCheck is missing (Debian: llvm-14-tools): the pass tests on text are not run")
endif()
