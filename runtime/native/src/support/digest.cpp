#include "support/digest.hpp"

#include <bit>
#include <cstring>

namespace grt {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

constexpr size_t kLanes = 256;

inline uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x00000100000001B3;
  return hash ^ (hash >> 32);
}

}  // namespace

uint64_t digest(const void* data, size_t size, uint64_t start) {
  uint64_t lanes[kLanes], words[kLanes];
  for (size_t i = 0; i < kLanes; i++) lanes[i] = i;
  const auto* bytes = static_cast<const unsigned char*>(data);
  size_t left = size;
  for (; left >= sizeof words; left -= sizeof words, bytes += sizeof words) {
    std::memcpy(words, bytes, sizeof words);
    for (size_t i = 0; i < kLanes; i++) lanes[i] = mix(lanes[i], words[i]);
  }
  for (size_t i = 0; left > 0; i++) {
    const size_t count = left < 8 ? left : 8;
    uint64_t word = 0;
    std::memcpy(&word, bytes, count);
    lanes[i] = mix(lanes[i], word);
    bytes += count;
    left -= count;
  }
  uint64_t total = start;
  for (uint64_t lane : lanes) total = mix(total, lane);
  return mix(total, static_cast<uint64_t>(size));
}

}  // namespace grt
