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

  // Sets both, and returns false so that a caller can return it. A message that is too long is cut, but not
  // within a character.
  [[gnu::format(printf, 3, 4)]] bool fail(grt_status code, const char* format, ...) {
    status = code;
    va_list arguments;
    va_start(arguments, format);
    const int length = std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (length >= GRT_MESSAGE_BYTES) {
      int end = GRT_MESSAGE_BYTES - 1, begin = end - 1;
      while (begin > end - 4 && (message[begin] & 0xC0) == 0x80) begin--;
      const int lead = message[begin] & 0xFF;
      if (begin + (lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1) > end) message[begin] = 0;
    }
    return false;
  }
};

}  // namespace grt
