#include "onnxruntime/library.hpp"

#include <algorithm>
#include <cstring>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace grt {

namespace {

struct Problem {
  char text[200] = {};
};

#if defined(_WIN32)

constexpr const char* kNames[] = {"onnxruntime.dll"};

void describe(Problem& problem) {
  std::snprintf(problem.text, sizeof problem.text, "the system's error %lu", GetLastError());
}

// A name without a folder is looked for beside the program and where the system keeps libraries, never in the
// current folder; the libraries that it needs also beside itself.
OrtGetApiBaseFunction find_entry(const char* path, Problem& problem) {
  wchar_t wide[kMaxWidePath], full[kMaxWidePath];
  if (!to_wide(path, wide)) {
    SetLastError(ERROR_INVALID_NAME);
    return describe(problem), nullptr;
  }
  const bool has_folder = std::find_if(path, path + std::strlen(path), [](char c) {
                            return c == '/' || c == '\\';
                          }) != path + std::strlen(path);
  DWORD flags = LOAD_LIBRARY_SEARCH_DEFAULT_DIRS;
  if (has_folder) {
    const DWORD length = GetFullPathNameW(wide, kMaxWidePath, full, nullptr);
    if (length == 0 || length >= kMaxWidePath) return describe(problem), nullptr;
    flags |= LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR;
  }
  const HMODULE library = LoadLibraryExW(has_folder ? full : wide, nullptr, flags);
  if (library == nullptr) return describe(problem), nullptr;
  const FARPROC entry = GetProcAddress(library, "OrtGetApiBase");
  if (entry == nullptr) {
    FreeLibrary(library);
    std::snprintf(problem.text, sizeof problem.text, "no function OrtGetApiBase in it");
    return nullptr;
  }
  HMODULE pinned;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                     reinterpret_cast<LPCWSTR>(entry), &pinned);
  FreeLibrary(library);
  return reinterpret_cast<OrtGetApiBaseFunction>(reinterpret_cast<OrtFunction>(entry));
}

#else

#if defined(__APPLE__)
constexpr const char* kNames[] = {"libonnxruntime.1.dylib", "libonnxruntime.dylib"};
#else
constexpr const char* kNames[] = {"libonnxruntime.so.1", "libonnxruntime.so"};
#endif

void describe(Problem& problem) {
  const char* reason = dlerror();
  std::snprintf(problem.text, sizeof problem.text, "%s", reason != nullptr ? reason : "no reason was given");
}

OrtGetApiBaseFunction find_entry(const char* path, Problem& problem) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) return describe(problem), nullptr;
  void* entry = dlsym(library, "OrtGetApiBase");
  dlclose(library);
  if (entry != nullptr) return reinterpret_cast<OrtGetApiBaseFunction>(entry);
  std::snprintf(problem.text, sizeof problem.text, "no function OrtGetApiBase in it");
  return nullptr;
}

#endif

// "1.24.1" to 24 and 1; 0 if it says something else.
void read_version(const char* text, uint32_t& minor, uint32_t& patch) {
  minor = patch = 0;
  unsigned first = 0, second = 0, third = 0;
  if (text == nullptr || std::sscanf(text, "%u.%u.%u", &first, &second, &third) != 3 || first != 1) return;
  minor = second;
  patch = third;
}

}  // namespace

#if defined(_WIN32)
bool to_wide(const char* path, wchar_t (&wide)[kMaxWidePath]) {
  return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, kMaxWidePath) > 0;
}
#endif

bool open_onnxruntime(const char* path, OrtFunctions& functions, uint32_t& api_version, Error& error) {
  OrtGetApiBaseFunction entry = nullptr;
  Problem problem;
  if (path != nullptr) {
    entry = find_entry(path, problem);
  } else {
    for (const char* name : kNames)
      if (entry == nullptr) entry = find_entry(path = name, problem);
  }
  if (entry == nullptr) {
    return error.fail(
        GRT_ERROR_UNSUPPORTED,
        "expected the library of ONNX Runtime at '%.150s', found none (%s); install it, or give its "
        "file in onnxruntime_library",
        path, problem.text);
  }
  const OrtApiBase* base = entry();
  const char* version = base == nullptr ? nullptr : base->GetVersionString();
  uint32_t minor, patch;
  read_version(version, minor, patch);
  // Asking for a version that a library does not have makes it print: so the number that it gives is asked
  // for.
  const OrtFunction* table = nullptr;
  const bool is_new_enough =
      minor > GRT_ORT_OLDEST_API || (minor == GRT_ORT_OLDEST_API && patch >= GRT_ORT_OLDEST_PATCH);
  api_version = std::min<uint32_t>(minor, GRT_ORT_NEWEST_API);
  if (is_new_enough) table = base->GetApi(api_version);
  if (table == nullptr) {
    return error.fail(
        GRT_ERROR_UNSUPPORTED, "%.150s: expected ONNX Runtime 1.%d.%d or newer, found %.30s; update it", path,
        GRT_ORT_OLDEST_API, GRT_ORT_OLDEST_PATCH, version == nullptr ? "another library" : version);
  }
#define GRT_FIND(place, name, result, parameters) \
  functions.name = reinterpret_cast<result(GRT_ORT_CALL*) parameters>(table[place]);
  GRT_ORT_FUNCTIONS(GRT_FIND)
#undef GRT_FIND
  return true;
}

}  // namespace grt
