// What tests of the C API share: the tiny bundle as files in memory, hooks that count and fail, players.
#pragma once

#include <atomic>
#include <cstdlib>
#include <string>
#include <unordered_map>
#include <vector>

#include "check.hpp"
#include "fake_engine.hpp"
#include "genie_rt.h"
#include "support/memory.hpp"
#include "support/threads.hpp"
#include "tiny_bundle.hpp"

namespace grt::test {

// Hooks that count what is allocated, and give nothing for the allocation number `fail_at` (from 0).
class Hooks {
 public:
  Hooks() {
    grt_allocator_init(&hooks);
    hooks.allocate = [](void* user, size_t size, size_t alignment) {
      return static_cast<Hooks*>(user)->allocate(size, alignment);
    };
    hooks.release = [](void* user, void* memory, size_t size) {
      static_cast<Hooks*>(user)->release(memory, size);
    };
    hooks.user = this;
  }

  int64_t num_calls() const { return num_calls_; }
  int64_t live() const { return live_; }
  int64_t live_bytes() const { return live_bytes_; }
  int64_t num_wrong() const { return num_wrong_; }

  grt_allocator hooks;
  std::atomic<int64_t> fail_at{-1};  // counted from the last `restart`
  void restart() { num_calls_ = 0; }

 private:
  void* allocate(size_t size, size_t alignment) {
    const int64_t number = num_calls_++;
    if (number == fail_at) return nullptr;
    if (alignment != Allocator::kAlignment) num_wrong_++;
    void* memory = Allocator().allocate(size);
    std::memset(memory, 0xA5, size);  // nothing may count on zeros
    const Locked locked(mutex_);
    sizes_[memory] = size;
    live_++;
    live_bytes_ += static_cast<int64_t>(size);
    return memory;
  }

  void release(void* memory, size_t size) {
    {
      const Locked locked(mutex_);
      const auto found = sizes_.find(memory);
      if (found == sizes_.end() || found->second != size) {
        num_wrong_++;
        return;
      }
      sizes_.erase(found);
      live_--;
      live_bytes_ -= static_cast<int64_t>(size);
    }
    Allocator().release(memory, size);
  }

  std::atomic<int64_t> num_calls_{0}, live_{0}, live_bytes_{0}, num_wrong_{0};
  Mutex mutex_;
  std::unordered_map<void*, size_t> sizes_;
};

// The tiny bundle, as grt_world_load_memory takes it.
class TinyFiles {
 public:
  TinyFiles() : TinyFiles(tiny::make()) {}
  explicit TinyFiles(tiny::Bundle given) : bundle(std::move(given)) {
    files.push_back({"bundle.json", bundle.manifest.data(), bundle.manifest.size()});
    for (const auto& [name, data] : bundle.files) files.push_back({name.c_str(), data.data(), data.size()});
  }
  TinyFiles(const TinyFiles&) = delete;
  TinyFiles& operator=(const TinyFiles&) = delete;

  grt_world* load(grt_world_params* params = nullptr) const {
    grt_error error;
    grt_error_init(&error);
    grt_world* world = nullptr;
    if (!GRT_CHECK_STATUS(grt_world_load_memory(files.data(), files.size(), params, &world, &error),
                          GRT_OK)) {
      std::fprintf(stderr, "    %s\n", error.message);
    }
    return world;
  }

  tiny::Bundle bundle;
  std::vector<grt_file> files;
};

// Sizes of the tiny bundle.
inline constexpr int32_t kWidth = 10, kHeight = 7, kPromptWidth = 13, kPromptHeight = 9, kTokens = 12,
                         kCodes = 8;
inline constexpr int32_t kActions = 3;  // 0 and 2 stand for the same
inline constexpr size_t kFrameBytes = size_t{3} * kWidth * kHeight;

struct Frame {
  Frame() { grt_image_init(&image, pixels, sizeof pixels, GRT_FORMAT_RGB8); }
  Frame(const Frame& other) : Frame() { std::memcpy(pixels, other.pixels, sizeof pixels); }
  Frame& operator=(const Frame& other) {
    std::memcpy(pixels, other.pixels, sizeof pixels);
    return *this;
  }
  bool operator==(const Frame& other) const { return std::memcmp(pixels, other.pixels, sizeof pixels) == 0; }

  uint8_t pixels[kFrameBytes] = {};
  grt_image image;
};

inline grt_session_state state_of(const grt_session* session) {
  grt_session_state state;
  grt_session_state_init(&state);
  GRT_CHECK_STATUS(grt_session_get_state(session, &state, nullptr), GRT_OK);
  return state;
}

inline uint64_t digest_of(const grt_session* session) { return state_of(session).digest; }

inline grt_session* start(grt_world* world, uint64_t seed = 1, grt_session_params* params = nullptr) {
  grt_session* session = nullptr;
  GRT_CHECK_STATUS(grt_session_create(world, params, &session, nullptr), GRT_OK);
  GRT_CHECK_STATUS(grt_session_reset_prompt(session, 0, seed, nullptr, nullptr), GRT_OK);
  return session;
}

inline bool step(grt_session* session, int32_t action, Frame* frame = nullptr,
                 grt_step_stats* stats = nullptr) {
  return GRT_CHECK_STATUS(
      grt_session_step(session, action, frame != nullptr ? &frame->image : nullptr, stats, nullptr), GRT_OK);
}

// The plan "default" with another order, reuse and number of passes.
inline grt_plan make_plan(grt_order order, grt_reuse reuse, int32_t passes) {
  grt_plan plan;
  grt_plan_init(&plan);
  plan.order = order;
  plan.reuse = reuse;
  plan.passes = passes;
  return plan;
}

// All that a session's future depends on: the digests of frames from here, without moving it.
inline std::vector<uint64_t> future_of(const grt_session* session, int32_t num_steps = 6) {
  std::vector<uint64_t> digests{digest_of(session)};
  grt_session* fork = nullptr;
  GRT_CHECK_STATUS(grt_session_fork(session, &fork, nullptr), GRT_OK);
  for (int32_t i = 0; fork != nullptr && i < num_steps; i++) {
    if (!step(fork, i % kActions)) break;
    digests.push_back(digest_of(fork));
  }
  grt_session_free(fork);
  return digests;
}

}  // namespace grt::test
