// A 64-bit checksum, quick enough for every frame's save state. It finds damage; it is no proof against
// forgery.
//
// The bytes are little-endian words of 64 bits, the last one filled up with zeros; word i goes to lane i mod
// 256. Every lane and then, with the lanes' results in their order and last the number of bytes, the total is
//
//     h = start;  for each word w:  h = (h ^ w) * 0x00000100000001B3 mod 2^64;  h = h ^ (h >> 32)
//
// where a lane starts with its index and the total with `start`. Lanes that get no word count all the same.
#pragma once

#include <cstddef>
#include <cstdint>

namespace grt {

inline constexpr uint64_t kDigestStart = 0xCBF29CE484222325;

uint64_t digest(const void* data, size_t size, uint64_t start = kDigestStart);

}  // namespace grt
