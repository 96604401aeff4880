// An engine that computes nothing of use: tokens, pages and pictures are hashes of all that they may depend
// on, so whatever the API loses or mixes up shows in the next picture. It takes the native engine's place.
#pragma once

#include <atomic>

#include "genie_rt.h"

namespace fake {

// How the engine behaves; read in every call.
struct Knobs {
  std::atomic<int> status{GRT_OK};  // of frames, commits, prefills, forces and probes, after they took pages
  std::atomic<bool> is_closed{false};     // frames wait until it opens, or until they are cancelled
  std::atomic<bool> commits_ahead{true};  // whether a commit by itself gives the same page as within a frame
  std::atomic<bool> refuses_adaptive{false};
  std::atomic<int> frame_us{0};  // that a frame takes, by a busy clock
  // What was called.
  std::atomic<int> num_frames{0}, num_commits{0}, num_prepared{0}, num_waiting{0};
};

inline Knobs knobs;

}  // namespace fake
