# Flags of all our code, and grt_add_part: a folder of src/ as an object library.

find_package(Threads)

# What a program needs to know of a library: its header. Internal headers are seen by our own code alone.
add_library(grt_header INTERFACE)
target_include_directories(grt_header INTERFACE
  "$<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:include>")

# Sanitizers go into everything that is linked together.
add_library(grt_sanitizers INTERFACE)
if(GENIE_RT_SANITIZE)
  target_compile_options(grt_sanitizers INTERFACE
    -fsanitize=${GENIE_RT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  target_link_options(grt_sanitizers INTERFACE -fsanitize=${GENIE_RT_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
    # Needs the C++ part of the sanitizer's library, which programs in C are not linked with.
    target_compile_options(grt_sanitizers INTERFACE -fno-sanitize=function)
  endif()
endif()
if(GENIE_RT_FUZZ)
  target_compile_options(grt_sanitizers INTERFACE -fsanitize=fuzzer-no-link)
endif()

add_library(grt_warnings INTERFACE)
target_compile_options(grt_warnings INTERFACE
  -Wall -Wextra -Wpedantic $<$<BOOL:${GENIE_RT_WERROR}>:-Werror>)

# -ffp-contract=off: a compiler that fuses a product and a sum where it likes gives other bits than the next one.
# -fno-math-errno lets sqrt be one instruction; it rounds the same. Nothing is thrown, so a release needs no tables to
# unwind the stack: they are 65 kB.
add_library(grt_options INTERFACE)
target_compile_features(grt_options INTERFACE cxx_std_20)
target_compile_options(grt_options INTERFACE
  -ffp-contract=off -fno-math-errno -ffunction-sections -fdata-sections
  $<$<CONFIG:Release>:-fno-asynchronous-unwind-tables>
  $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti -fvisibility=hidden -fvisibility-inlines-hidden>)
target_include_directories(grt_options INTERFACE "${CMAKE_CURRENT_SOURCE_DIR}/src")
target_link_libraries(grt_options INTERFACE grt_header grt_sanitizers grt_warnings)
if(Threads_FOUND)
  target_link_libraries(grt_options INTERFACE Threads::Threads)
endif()
if(GRT_ONNXRUNTIME)
  target_compile_definitions(grt_options INTERFACE GRT_WITH_ONNXRUNTIME)
endif()

# Code outside of the loops of a frame is built for size in a release: half of the library would be unrolled
# loops over file names otherwise.
set(GRT_OPTIMIZE_support -O2)
set(GRT_OPTIMIZE_engine -O2)
set(GRT_OPTIMIZE_bundle -Os)
set(GRT_OPTIMIZE_onnxruntime -Os)
set(GRT_OPTIMIZE_api -Os)

function(grt_add_objects target)
  add_library(${target} OBJECT EXCLUDE_FROM_ALL ${ARGN})
  target_link_libraries(${target} PRIVATE grt_options)
  set_target_properties(${target} PROPERTIES
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
endfunction()

# grt_add_part(name sources...): object library grt_<name>, of which both libraries are made. Only api, which
# defines what the header declares, differs between the two, and is compiled for each: grt_api_shared too.
function(grt_add_part part)
  set(sources "")
  foreach(source IN LISTS ARGN)
    if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${source}")
      list(APPEND sources ${source})
    else()
      message(STATUS "src/${part}/${source} is not written yet")
    endif()
  endforeach()
  if(NOT sources)
    return()
  endif()
  set_source_files_properties(${sources} PROPERTIES
    COMPILE_FLAGS "$<$<CONFIG:Release>:${GRT_OPTIMIZE_${part}}>")
  grt_add_objects(grt_${part} ${sources})
  target_compile_definitions(grt_${part} PRIVATE GRT_STATIC)
  if(part STREQUAL "api" AND GENIE_RT_SHARED)
    grt_add_objects(grt_api_shared ${sources})
    target_compile_definitions(grt_api_shared PRIVATE GRT_BUILD)
  endif()
endfunction()
