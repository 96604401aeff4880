# Tests of what is not in one program: the header, the library's symbols and size, the installed SDK, determinism,
# the format. Most are scripts in Python without packages; where there is no Python they are left out.

# The header, as programs in C see it.
grt_add_test(test_header test_header.c)

# Plays worlds for determinism.py, by the shared library where there is one: it is what is shipped. A program that
# is linked statically as a whole cannot load any.
if(TARGET genie_rt_static)
  add_executable(determinism determinism.cpp)
  target_link_libraries(determinism PRIVATE grt_options)
  if(TARGET genie_rt AND NOT CMAKE_EXE_LINKER_FLAGS MATCHES "-static")
    target_link_libraries(determinism PRIVATE genie_rt)
    if(WIN32)
      add_custom_command(TARGET determinism POST_BUILD
        COMMAND "${CMAKE_COMMAND}" -E copy_if_different $<TARGET_FILE:genie_rt> $<TARGET_FILE_DIR:determinism>)
    endif()
  else()
    target_link_libraries(determinism PRIVATE genie_rt_static)
  endif()
endif()

find_package(Python3 COMPONENTS Interpreter)
if(CMAKE_CROSSCOMPILING OR NOT Python3_FOUND)
  message(STATUS "No checks by scripts: they need Python, and a build for this machine")
  return()
endif()

# grt_add_check(name script arguments... [LONG])
function(grt_add_check name script)
  cmake_parse_arguments(PARSE_ARGV 2 check "LONG" "" "")
  add_test(NAME ${name}
    COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/${script}" ${check_UNPARSED_ARGUMENTS}
    WORKING_DIRECTORY "${GRT_REPOSITORY}" COMMAND_EXPAND_LISTS)
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 3600 LABELS quick)
  if(check_LONG)
    set_tests_properties(${name} PROPERTIES LABELS long)
  endif()
endfunction()

grt_add_check(headers check_headers.py "${PROJECT_SOURCE_DIR}/include" gcc clang)
grt_add_check(format check_format.py "${PROJECT_SOURCE_DIR}")
grt_add_check(tidy check_tidy.py "${CMAKE_BINARY_DIR}" "${PROJECT_SOURCE_DIR}" LONG)

# What follows is about the library that is shipped.
if(GENIE_RT_SANITIZE OR NOT TARGET genie_rt)
  return()
endif()
grt_add_check(determinism determinism.py quick $<TARGET_FILE:determinism>)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  grt_add_check(library check_library.py
    $<TARGET_FILE:genie_rt> "${PROJECT_SOURCE_DIR}/include/genie_rt.h" $<TARGET_OBJECTS:grt_kernels>)
  if(GENIE_RT_TOP_LEVEL AND GENIE_RT_INSTALL)
    grt_add_check(sdk check_sdk.py "${CMAKE_BINARY_DIR}")
  endif()
endif()
