// Which action of a world the buttons of a pad mean.
#pragma once

#include <cstdint>

#include "libretro_abi.h"

namespace genie {

using Buttons = uint16_t;  // a bit for each RETRO_DEVICE_ID_JOYPAD_

constexpr Buttons button(unsigned id) { return static_cast<Buttons>(1u << id); }

// The buttons held now and those that went down since the last step, so that a short press between two steps
// is played too. Where they contradict each other, what is held now counts.
Buttons join_taps(Buttons held, Buttons taps);

// Buttons to an action; pure. The rule is that of the Python player: an action whose name is made of left,
// right, up, down and jump ("left+jump", "jump_left") is played by those buttons; of several that fit, the
// one of most words. All other actions, such as "latent-3", are *unnamed*: one of them is chosen, and X or Y
// play it. Where no name is known the other buttons play the first six of them.
class Pad {
 public:
  static constexpr int32_t kMostUnnamed = 4096;

  // Names in the order of their actions; `name(context, action)` is called for each.
  void create(int32_t num_actions, int32_t default_action, const char* (*name)(const void* context, int32_t),
              const void* context);

  // The action that buttons mean. `chosen` is the place among the unnamed ones.
  int32_t action(Buttons buttons, int32_t chosen) const;

  int32_t num_unnamed() const { return num_unnamed_; }
  int32_t unnamed(int32_t place) const { return unnamed_[place]; }

  // The action that one button alone leads to, for the frontend's list of controls; -1 if it has none.
  int32_t action_of(unsigned id, int32_t chosen) const;

 private:
  // Moves as bits, in the alphabet's order: the rule for two that fit alike looks at the letters.
  enum : uint32_t { kDown = 1, kJump = 2, kLeft = 4, kRight = 8, kUp = 16, kAll = 31 };
  static constexpr uint32_t kUnknown = ~0u;

  static uint32_t moves_of_name(const char* name);
  static bool is_better(uint32_t moves, uint32_t than);
  uint32_t moves_of(Buttons buttons) const;
  int32_t by_number(Buttons buttons) const;  // -1: none of them

  int32_t default_action_ = 0;
  int32_t num_unnamed_ = 0;
  uint32_t known_ = 0;               // moves that some name has
  int32_t by_moves_[kAll + 1] = {};  // the action to play for held moves
  int32_t unnamed_[kMostUnnamed] = {};
};

}  // namespace genie
