# A relocatable tree: bin/, lib/, include/, lib/cmake/llcuda, lib/pkgconfig. Needs glibc >= 2.35 and nothing else.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set_target_properties(llrt_library PROPERTIES EXPORT_NAME llrt INSTALL_RPATH "$ORIGIN")
install(TARGETS llrt_library EXPORT llcuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime
  NAMELINK_COMPONENT runtime)
if(TARGET llrt)
  install(TARGETS llrt RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
endif()
install(TARGETS llcc RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT compiler)
install(FILES include/llrt.h include/llrt.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT runtime)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/llcuda COMPONENT runtime)

install(EXPORT llcuda NAMESPACE llcuda:: FILE llcuda-config.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/llcuda COMPONENT runtime)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/llcuda-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/llcuda-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/llcuda COMPONENT runtime)

configure_file(cmake/llrt.pc.in ${PROJECT_BINARY_DIR}/llrt.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/llrt.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT runtime)
