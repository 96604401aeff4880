// The status and the message of a call. The library throws nothing: functions that can fail return false and
// say why here.
#pragma once

#include <cstdarg>
#include <cstdio>

#include "genie_rt.h"

namespace grt {

struct Error {
  grt_status status = GRT_OK;
  char message[GRT_MESSAGE_BYTES] = {};

  // Sets both, and returns false so that a caller can return it.
  [[gnu::format(printf, 3, 4)]] bool fail(grt_status code, const char* format, ...) {
    status = code;
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return false;
  }
};

}  // namespace grt
