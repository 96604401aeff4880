# Header, libraries, find_package(genie_rt CONFIG) and pkg-config. What is installed may be moved: no file of it
# names an absolute path.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
foreach(file LICENSE NOTICE)
  if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/../../${file}")
    install(FILES "../../${file}" DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/genie_rt)
  endif()
endforeach()

set(libraries grt_header)
set_target_properties(grt_header PROPERTIES EXPORT_NAME header)
foreach(library genie_rt genie_rt_static)
  if(TARGET ${library})
    list(APPEND libraries ${library})
  endif()
endforeach()
install(TARGETS ${libraries} EXPORT genie_rt
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/genie_rt)
install(EXPORT genie_rt NAMESPACE genie_rt:: FILE genie_rt-targets.cmake DESTINATION ${package_folder})
configure_package_config_file(cmake/genie_rt-config.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/genie_rt-config.cmake"
  INSTALL_DESTINATION ${package_folder})
# Before 1.0 a minor version may break: ask for the one that you built against.
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/genie_rt-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${CMAKE_CURRENT_BINARY_DIR}/genie_rt-config.cmake" "${CMAKE_CURRENT_BINARY_DIR}/genie_rt-config-version.cmake"
  DESTINATION ${package_folder})

if(TARGET genie_rt AND TARGET genie_rt_static)
  file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  string(REGEX REPLACE "/$" "" up "${up}")
  set(system_libraries "${CMAKE_THREAD_LIBS_INIT}")
  foreach(library IN LISTS CMAKE_CXX_IMPLICIT_LINK_LIBRARIES CMAKE_DL_LIBS)
    if(library MATCHES "^(stdc\\+\\+|c\\+\\+|m|dl)$" AND NOT system_libraries MATCHES "-l${CMAKE_MATCH_1}( |$)")
      string(APPEND system_libraries " -l${library}")
    endif()
  endforeach()
  foreach(name genie_rt genie_rt_static)
    configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
    install(FILES "${CMAKE_CURRENT_BINARY_DIR}/${name}.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  endforeach()
endif()
