# End-to-end tests: tests/e2e/x_test.py is the ctest entry e2e.x. They run the programs of this build.
# Debian's own interpreter, the one that python3-numpy belongs to, whatever else is first on PATH.
find_program(LLCUDA_SYSTEM_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
file(GLOB LLCUDA_E2E CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/e2e/*_test.py)
foreach(file ${LLCUDA_E2E})
  get_filename_component(name ${file} NAME_WE)
  string(REPLACE "_test" "" name ${name})
  add_test(NAME e2e.${name} COMMAND ${LLCUDA_SYSTEM_PYTHON} ${file})
  set_tests_properties(e2e.${name} PROPERTIES LABELS e2e TIMEOUT 900 ENVIRONMENT "LLCUDA_BUILD=${PROJECT_BINARY_DIR}")
endforeach()
