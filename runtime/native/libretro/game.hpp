// A world that is being played: turns of the frontend in, pictures out, and all of it as bytes.
#pragma once

#include <cstdint>

#include "genie_rt.h"
#include "options.hpp"
#include "pad.hpp"

namespace genie {

inline constexpr int32_t kScreenHz = 60;
inline constexpr int32_t kMostScale = 8;

// What a turn did that the player may be told.
enum class Event { kNone, kPrompt, kUnnamed };

class Game {
 public:
  Game() = default;
  Game(const Game&) = delete;
  Game& operator=(const Game&) = delete;

  // Loads a bundle, from its folder or from the path of its bundle.json. On failure there is no world.
  bool load(const char* path, const Settings& settings, grt_log log, grt_error* error);
  void unload();

  // Takes the settings that may change while it plays: plan and steps per second.
  bool apply(const Settings& settings, grt_error* error);

  // Starts again from a picture of the bundle.
  bool reset(int32_t prompt, uint64_t seed, grt_error* error);

  // A sixtieth of a second with these buttons held. The picture is the newest one afterwards, and the last
  // one again where this fails.
  bool turn(Buttons held, Event* event, grt_error* error);

  // All that decides the turns to come, in as many bytes for every state of a world.
  size_t save_size() const { return save_size_; }
  bool save(void* bytes, size_t size, grt_error* error) const;
  bool load_state(const void* bytes, size_t size, grt_error* error);

  const grt_world* world() const { return world_; }
  const grt_world_info& info() const { return info_; }
  const Pad& pad() const { return pad_; }
  int32_t prompt() const { return turn_.prompt; }
  int32_t chosen() const { return turn_.chosen; }
  const uint32_t* pixels() const { return pixels_; }  // XRGB8888, frame_width times frame_height

 private:
  // Part of a save state, as it is.
  struct Turn {
    uint64_t seed = 0;
    int32_t prompt = 0;
    int32_t chosen = 0;  // place among the unnamed actions
    int32_t wait = 0;    // turns until the world steps
    Buttons held = 0;    // in the last turn
    Buttons taps = 0;    // went down since the last step
  };
  struct Header;

  int32_t period() const { return kScreenHz / fps_; }
  bool step(Buttons held, grt_error* error);
  grt_image image() const;

  grt_world* world_ = nullptr;
  grt_session* session_ = nullptr;
  grt_world_info info_ = {};
  Pad pad_;
  uint32_t* pixels_ = nullptr;
  size_t save_size_ = 0;
  int32_t fps_ = 15;
  char plan_[72] = {};
  Turn turn_;
};

}  // namespace genie
