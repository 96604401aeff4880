// What `Files` needs of the operating system. Paths are UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>

namespace grt::file_system {

inline constexpr size_t kMaxProblem = 96;

// Opens a regular file for reading and measures it; -1 on failure, with what was found in words.
intptr_t open_regular(const char* path, uint64_t& size, char (&problem)[kMaxProblem]);

// Reads up to `count` bytes; 0 at the file's end, -1 on failure.
ptrdiff_t read(intptr_t handle, void* to, size_t count);

void close(intptr_t handle);

enum class Kind { kNothing, kFolder, kOther };
Kind kind_of(const char* path);

// Calls `visit` for every name in a folder, as far as it can be listed.
void list(const char* folder, void (*visit)(void* context, const char* name), void* context);

// Whether names that differ in the case of letters mean the same file.
bool ignores_case();

}  // namespace grt::file_system
