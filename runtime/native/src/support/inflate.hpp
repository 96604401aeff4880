// Inflate (RFC 1950 and 1951): a zlib stream into memory of a size that is known before.
#pragma once

#include <cstddef>
#include <cstdint>

namespace grt {

// Fills `out`; what the stream would give beyond it is not decoded, and its checksum is not looked at.
// Returns null, or what was found in words, such as "a distance that is too far". Allocates nothing.
[[nodiscard]] const char* inflate_zlib(const uint8_t* data, size_t size, uint8_t* out, size_t out_size);

}  // namespace grt
