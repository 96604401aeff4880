#include "api/call.hpp"

#include "support/utf8.hpp"

namespace grt {

void write_message(grt_error* out, const Error& error) {
  const size_t space = out->struct_size - offsetof(grt_error, message);
  const size_t most = (space < GRT_MESSAGE_BYTES ? space : size_t{GRT_MESSAGE_BYTES}) - 1;
  const size_t length = std::strlen(error.message);
  size_t written = 0;
  for (size_t i = 0; i < length;) {
    // Names are cut where a message gets too long, and may never have been UTF-8: what is no character
    // becomes "?".
    uint32_t character;
    const size_t bytes = decode_utf8(error.message + i, length - i, character);
    if (written + (bytes > 0 ? bytes : 1) > most) break;
    if (bytes == 0) {
      out->message[written++] = '?';
      i++;
    } else {
      std::memcpy(out->message + written, error.message + i, bytes);
      written += bytes;
      i += bytes;
    }
  }
  out->message[written] = 0;
}

}  // namespace grt
