// The ways to compress blocks of SHA-256.
#pragma once

#include <cstddef>
#include <cstdint>

namespace grt::sha256 {

using Compress = void (*)(uint32_t (&state)[8], const uint8_t* blocks, size_t num_blocks);

extern const uint32_t kRound[64];

void compress_plain(uint32_t (&state)[8], const uint8_t* blocks, size_t num_blocks);

// By this processor's own instructions; null where it has none. Asks the processor each time.
Compress fast_compress();

}  // namespace grt::sha256
