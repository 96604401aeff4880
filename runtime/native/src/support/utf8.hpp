// UTF-8, as RFC 3629 has it: nothing longer than needed, no surrogates, nothing beyond U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>

namespace grt {

// The bytes of the character that begins at `text`, and what it is; 0 if it is none.
inline size_t decode_utf8(const char* text, size_t size, uint32_t& character) {
  if (size == 0) return 0;
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[i])); };
  const uint32_t first = byte(0);
  const size_t length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (length == 0 || length > size || first > 0xF4) return 0;
  character = length == 1 ? first : first & (0x7Fu >> length);
  for (size_t i = 1; i < length; i++) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    character = character << 6 | (byte(i) & 0x3F);
  }
  if (length == 3 && (character < 0x800 || (character >= 0xD800 && character < 0xE000))) return 0;
  if (length == 4 && (character < 0x10000 || character > 0x10FFFF)) return 0;
  return length;
}

// Writes a character, which is none of a surrogate pair; returns how many bytes.
inline size_t encode_utf8(uint32_t character, char* to) {
  const auto put = [&](size_t i, uint32_t byte) { to[i] = static_cast<char>(byte); };
  if (character < 0x80) return put(0, character), 1;
  if (character < 0x800) return put(0, 0xC0 | character >> 6), put(1, 0x80 | (character & 0x3F)), 2;
  if (character < 0x10000) {
    put(0, 0xE0 | character >> 12);
    put(1, 0x80 | (character >> 6 & 0x3F));
    return put(2, 0x80 | (character & 0x3F)), 3;
  }
  put(0, 0xF0 | character >> 18);
  put(1, 0x80 | (character >> 12 & 0x3F));
  put(2, 0x80 | (character >> 6 & 0x3F));
  return put(3, 0x80 | (character & 0x3F)), 4;
}

}  // namespace grt
