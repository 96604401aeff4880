#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <cstdio>

#include "support/file_system.hpp"

namespace grt::file_system {

namespace {

constexpr int kMaxPath = 4400;  // more than `Files` makes, and wide text is no longer than UTF-8

struct Wide {
  wchar_t text[kMaxPath];
};

bool widen(const char* path, Wide& wide) {
  return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide.text, kMaxPath) > 0;
}

void describe(DWORD code, char (&problem)[kMaxProblem]) {
  const bool is_missing = code == ERROR_FILE_NOT_FOUND || code == ERROR_PATH_NOT_FOUND ||
                          code == ERROR_INVALID_NAME || code == ERROR_BAD_NETPATH;
  if (is_missing) {
    std::snprintf(problem, kMaxProblem, "nothing of that name");
  } else if (code == ERROR_ACCESS_DENIED) {
    std::snprintf(problem, kMaxProblem, "one that cannot be read: permission denied");
  } else {
    std::snprintf(problem, kMaxProblem, "one that cannot be read: the system's error %lu", code);
  }
}

}  // namespace

intptr_t open_regular(const char* path, uint64_t& size, char (&problem)[kMaxProblem]) {
  Wide wide;
  if (!widen(path, wide)) {
    std::snprintf(problem, kMaxProblem, "nothing of that name");
    return -1;
  }
  const DWORD attributes = GetFileAttributesW(wide.text);
  if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0) {
    std::snprintf(problem, kMaxProblem, "a folder, which is no regular file");
    return -1;
  }
  const HANDLE handle = CreateFileW(wide.text, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
                                    OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (handle == INVALID_HANDLE_VALUE) {
    describe(GetLastError(), problem);
    return -1;
  }
  LARGE_INTEGER measured;
  if (GetFileType(handle) != FILE_TYPE_DISK) {
    std::snprintf(problem, kMaxProblem, "a device, which is no regular file");
  } else if (!GetFileSizeEx(handle, &measured)) {
    describe(GetLastError(), problem);
  } else {
    size = static_cast<uint64_t>(measured.QuadPart);
    return reinterpret_cast<intptr_t>(handle);
  }
  CloseHandle(handle);
  return -1;
}

ptrdiff_t read(intptr_t handle, void* to, size_t count) {
  DWORD got = 0;
  const DWORD most = count < (1u << 30) ? static_cast<DWORD>(count) : 1u << 30;
  if (!ReadFile(reinterpret_cast<HANDLE>(handle), to, most, &got, nullptr)) return -1;
  return static_cast<ptrdiff_t>(got);
}

void close(intptr_t handle) { CloseHandle(reinterpret_cast<HANDLE>(handle)); }

Kind kind_of(const char* path) {
  Wide wide;
  if (!widen(path, wide)) return Kind::kNothing;
  const DWORD attributes = GetFileAttributesW(wide.text);
  if (attributes == INVALID_FILE_ATTRIBUTES) return Kind::kNothing;
  return (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0 ? Kind::kFolder : Kind::kOther;
}

void list(const char* folder, void (*visit)(void* context, const char* name), void* context) {
  Wide pattern;
  if (!widen(folder, pattern)) return;
  size_t length = 0;
  while (pattern.text[length] != 0) length++;
  if (length + 3 > kMaxPath) return;
  pattern.text[length] = L'/';
  pattern.text[length + 1] = L'*';
  pattern.text[length + 2] = 0;
  WIN32_FIND_DATAW entry;
  const HANDLE search = FindFirstFileW(pattern.text, &entry);
  if (search == INVALID_HANDLE_VALUE) return;
  do {
    char name[4 * MAX_PATH];
    if (WideCharToMultiByte(CP_UTF8, 0, entry.cFileName, -1, name, sizeof name, nullptr, nullptr) > 0) {
      visit(context, name);
    }
  } while (FindNextFileW(search, &entry));
  FindClose(search);
}

bool ignores_case() { return true; }

}  // namespace grt::file_system

#endif
