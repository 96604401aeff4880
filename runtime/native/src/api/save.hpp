// The bytes of a save state. All numbers are little-endian; nothing is padded.
//
//     offset  type
//          0  char[8]    "GRTSAVE" and NUL
//          8  uint32     version: 1
//         12  uint32     precision: 1 float32, 2 int8
//         16  uint8[32]  sha256 of weights.safetensors
//         48  uint64     seed
//         56  int64      frame_index
//         64  int32      action of the dynamics that led to the last frame; -1: none
//         68  int32      the same by its place among the bundle's names; -1: none
//         72  uint32     pending: 1 if the last frame is not committed
//         76  uint32     has_change: 1 if `change` says something
//         80  uint32     N, tokens of a frame
//         84  uint32     P, positions of the dynamics
//         88  uint32     pages of the dynamics
//         92  uint32     pages of the decoder
//         96  uint32     spatial pages: 0 or 1
//        100  uint32     height of a frame
//        104  uint32     width of a frame
//        108  uint32     0
//        112  uint64     bytes in all, the checksum included
//        120  int32[N]   tokens of the last frame
//             float32[P] change; zeros if has_change is 0
//             float32[L, 2, P, H, Dh] of each page: those of the dynamics, newest first, those of the decoder
//                        (with its own L, H, Dh and N positions), newest first, and the spatial one
//             uint8[height, width, 3] the last frame, RGB
//             uint64     checksum of all bytes before it (support/digest.hpp)
//
// Whatever follows is not looked at, so a state may lie in a larger buffer. The session's plan, deadline and
// snapshots are no part of it. Renaming a bundle's actions leaves its states valid: the place among the names
// is only kept where it still stands for the same action.
#pragma once

#include "bundle/config.hpp"

namespace grt {

inline constexpr int32_t kSaveVersion = 1;

uint64_t picture_bytes(const ModelConfig& config);

// The most bytes that a state of such a model takes.
uint64_t most_save_bytes(const ModelConfig& config);

}  // namespace grt
