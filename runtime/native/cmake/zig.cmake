# Toolchain file: cross-compiles with `zig c++`, one download that has the C and C++ libraries of every target.
#
#   cmake -B out/native-windows -D CMAKE_TOOLCHAIN_FILE=runtime/native/cmake/zig.cmake -D GENIE_RT_TARGET=x86_64-windows-gnu
#
# GENIE_RT_TARGET is Zig's name of a target. GENIE_RT_ZIG is the command, as a list; by default `zig`, or the
# `ziglang` of PyPI in the project's virtual environment. The first build of each target takes minutes, for Zig
# then builds the libraries that it keeps.
#
# Tests run under qemu-user, Wine and node where those are installed. For macOS nothing is run.
set(GENIE_RT_TARGET "" CACHE STRING "Zig's name of the target, such as x86_64-windows-gnu")
set(GENIE_RT_ZIG "" CACHE STRING "Command that runs Zig; empty: look for it")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES GENIE_RT_TARGET GENIE_RT_ZIG GENIE_RT_ZIG_FOLDER)

if(NOT GENIE_RT_TARGET)
  message(FATAL_ERROR "expected a target, such as -D GENIE_RT_TARGET=x86_64-windows-gnu, got none")
endif()
string(REGEX MATCH "^[^-]+" CMAKE_SYSTEM_PROCESSOR "${GENIE_RT_TARGET}")

if(NOT GENIE_RT_ZIG)
  find_program(GENIE_RT_ZIG_PROGRAM zig)
  get_filename_component(environment "${CMAKE_CURRENT_LIST_DIR}/../../../.venv/bin/python" ABSOLUTE)
  if(GENIE_RT_ZIG_PROGRAM)
    set(GENIE_RT_ZIG "${GENIE_RT_ZIG_PROGRAM}")
  elseif(EXISTS "${environment}")
    set(GENIE_RT_ZIG "${environment};-m;ziglang")
  else()
    message(FATAL_ERROR "expected `zig` on the PATH, found none: pip install ziglang, and -D GENIE_RT_ZIG='python;-m;ziglang'")
  endif()
endif()

# CMake wants one program for each tool.
if(NOT GENIE_RT_ZIG_FOLDER)
  set(GENIE_RT_ZIG_FOLDER "${CMAKE_BINARY_DIR}/zig")
  list(JOIN GENIE_RT_ZIG "' '" zig)
  foreach(tool cc c++ ar ranlib)
    set(arguments ${tool})
    if(tool MATCHES "^c")
      set(arguments "${tool} -target ${GENIE_RT_TARGET}")
    endif()
    file(WRITE "${GENIE_RT_ZIG_FOLDER}/${tool}" "#!/bin/sh\nexec '${zig}' ${arguments} \"$@\"\n")
    file(CHMOD "${GENIE_RT_ZIG_FOLDER}/${tool}" PERMISSIONS
      OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  endforeach()
endif()
set(CMAKE_C_COMPILER "${GENIE_RT_ZIG_FOLDER}/cc")
set(CMAKE_CXX_COMPILER "${GENIE_RT_ZIG_FOLDER}/c++")
set(CMAKE_AR "${GENIE_RT_ZIG_FOLDER}/ar" CACHE FILEPATH "")
set(CMAKE_RANLIB "${GENIE_RT_ZIG_FOLDER}/ranlib" CACHE FILEPATH "")

if(GENIE_RT_TARGET MATCHES "-linux")
  set(CMAKE_SYSTEM_NAME Linux)
  if(NOT CMAKE_SYSTEM_PROCESSOR STREQUAL CMAKE_HOST_SYSTEM_PROCESSOR)
    find_program(GENIE_RT_QEMU NAMES qemu-${CMAKE_SYSTEM_PROCESSOR}-static qemu-${CMAKE_SYSTEM_PROCESSOR})
    set(emulator ${GENIE_RT_QEMU})
  endif()
  if(GENIE_RT_TARGET MATCHES "musl")
    set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")  # so that no loader of that system is needed
  endif()
elseif(GENIE_RT_TARGET MATCHES "-windows")
  set(CMAKE_SYSTEM_NAME Windows)
  find_program(GENIE_RT_WINE NAMES wine64 wine)
  if(GENIE_RT_WINE)
    get_filename_component(prefix "${CMAKE_CURRENT_LIST_DIR}/../../../out/wine" ABSOLUTE)
    set(emulator "${CMAKE_COMMAND};-E;env;WINEDEBUG=-all;WINEPREFIX=${prefix};${GENIE_RT_WINE}")
  endif()
elseif(GENIE_RT_TARGET MATCHES "-wasi")
  set(CMAKE_SYSTEM_NAME Generic)
  set(CMAKE_EXECUTABLE_SUFFIX .wasm)
  set(GENIE_RT_SHARED OFF CACHE BOOL "" FORCE)
  find_program(GENIE_RT_NODE NAMES node nodejs)
  if(GENIE_RT_NODE)
    set(emulator "${GENIE_RT_NODE};--no-warnings;${CMAKE_CURRENT_LIST_DIR}/../tests/run_wasi.mjs")
  endif()
elseif(GENIE_RT_TARGET MATCHES "-macos")
  set(CMAKE_SYSTEM_NAME Darwin)
  set(CMAKE_INSTALL_NAME_TOOL "${CMAKE_COMMAND}" CACHE FILEPATH "")  # nothing has to be renamed
else()
  message(FATAL_ERROR "expected a target of linux, windows, wasi or macos, got ${GENIE_RT_TARGET}")
endif()

set(CMAKE_CROSSCOMPILING_EMULATOR "${emulator}" CACHE STRING "Runs programs of the target here")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
