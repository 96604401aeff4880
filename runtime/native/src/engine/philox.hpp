// Philox4x32-10 (Salmon et al. 2011): the random numbers of a session, from nothing but counters.
// docs/model.md, section 10.
#pragma once

#include <cstdint>

namespace grt {

enum Stream : uint32_t { kTokenStream = 0, kOrderStream = 1 };

struct Words {
  uint32_t word[4];
};

inline Words philox(uint64_t seed, uint32_t token, uint32_t pass, uint32_t frame, uint32_t stream) {
  uint32_t c[4] = {token, pass, frame, stream};
  auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    for (int i = 0; i < 4; i++) c[i] = next[i];
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

// A word as a number in [0, 1), exact.
inline float uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24F; }

}  // namespace grt
