// ONNX Runtime, opened at run time: its functions, by name.
#pragma once

#include "onnxruntime/ort_abi.h"
#include "support/error.hpp"

namespace grt {

// The functions of ort_abi.h.
struct OrtFunctions {
#define GRT_DECLARE(place, name, result, parameters) result(GRT_ORT_CALL* name) parameters = nullptr;
  GRT_ORT_FUNCTIONS(GRT_DECLARE)
#undef GRT_DECLARE
};

// Opens the library at `path` (UTF-8), or where the system keeps it if that is null, and looks its functions
// up. GRT_ERROR_UNSUPPORTED: there is none, or one that is too old.
//
// It stays open until the process ends: ONNX Runtime and its providers have threads and handlers at exit that
// are not made for being unloaded, and whoever opens it again gets the same one.
[[nodiscard]] bool open_onnxruntime(const char* path, OrtFunctions& functions, uint32_t& api_version,
                                    Error& error);

#if defined(_WIN32)
inline constexpr int kMaxWidePath = 4400;
// A path in UTF-8 as Windows takes it. False if it is none, or too long.
bool to_wide(const char* path, wchar_t (&wide)[kMaxWidePath]);
#endif

}  // namespace grt
