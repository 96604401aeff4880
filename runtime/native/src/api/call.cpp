#include "api/call.hpp"

namespace grt {

void write_message(grt_error* out, const Error& error) {
  const size_t space = out->struct_size - offsetof(grt_error, message);
  const size_t most = (space < GRT_MESSAGE_BYTES ? space : size_t{GRT_MESSAGE_BYTES}) - 1;
  size_t length = std::strlen(error.message);
  if (length > most) length = most;
  // A message that was cut may end within a character: its first byte is the last that is not 10xxxxxx.
  size_t start = length;
  while (start > 0 && (static_cast<unsigned char>(error.message[start - 1]) & 0xC0) == 0x80) start--;
  if (start > 0) {
    const auto first = static_cast<unsigned char>(error.message[start - 1]);
    const size_t needed = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
    if (length - (start - 1) < needed) length = start - 1;
  }
  std::memcpy(out->message, error.message, length);
  out->message[length] = 0;
}

}  // namespace grt
