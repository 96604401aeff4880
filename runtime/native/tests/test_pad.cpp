// Buttons of the libretro core to actions, for worlds whose names are of different kinds.
#include "../libretro/pad.hpp"

#include "check.hpp"

namespace {

using genie::button;
using genie::Buttons;
using genie::Pad;

constexpr Buttons kNothing = 0;
constexpr Buttons kB = button(RETRO_DEVICE_ID_JOYPAD_B), kA = button(RETRO_DEVICE_ID_JOYPAD_A);
constexpr Buttons kX = button(RETRO_DEVICE_ID_JOYPAD_X), kY = button(RETRO_DEVICE_ID_JOYPAD_Y);
constexpr Buttons kUp = button(RETRO_DEVICE_ID_JOYPAD_UP), kDown = button(RETRO_DEVICE_ID_JOYPAD_DOWN);
constexpr Buttons kLeft = button(RETRO_DEVICE_ID_JOYPAD_LEFT), kRight = button(RETRO_DEVICE_ID_JOYPAD_RIGHT);

struct World {
  const char* const* names;
  int32_t num_actions;
  int32_t default_action;
};

const char* name_of(const void* context, int32_t action) {
  return static_cast<const World*>(context)->names[action];
}

// A world and the name of the action that buttons mean in it.
class Player {
 public:
  template <int32_t n>
  Player(const char* const (&names)[n], int32_t default_action) : world_{names, n, default_action} {
    pad_.create(n, default_action, name_of, &world_);
  }

  const char* play(Buttons buttons, int32_t chosen = 0) const {
    return world_.names[pad_.action(buttons, chosen)];
  }
  const Pad& pad() const { return pad_; }

 private:
  World world_;
  Pad pad_;
};

constexpr const char* kDemo[] = {"left",      "right",      "stay",     "jump",
                                 "left+jump", "right+jump", "latent-0", "latent-2"};
constexpr const char* kEightWays[] = {"noop", "Up", "down", "left", "right", "up left", "down_right", "jump"};
constexpr const char* kLatent[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8"};

void names_of_moves_are_played_by_those_buttons() {
  const Player demo(kDemo, 2);
  GRT_CHECK_TEXT(demo.play(kNothing), "stay");
  GRT_CHECK_TEXT(demo.play(kLeft), "left");
  GRT_CHECK_TEXT(demo.play(kRight), "right");
  GRT_CHECK_TEXT(demo.play(kB), "jump");
  GRT_CHECK_TEXT(demo.play(kA), "jump");
  GRT_CHECK_TEXT(demo.play(kUp), "jump");
  GRT_CHECK_TEXT(demo.play(kRight | kB), "right+jump");
  GRT_CHECK_TEXT(demo.play(kLeft | kUp), "left+jump");
  GRT_CHECK_TEXT(demo.play(kDown), "stay");
  GRT_CHECK_TEXT(demo.play(kDown | kLeft), "left");
  GRT_CHECK_TEXT(demo.play(kLeft | kRight), "stay");
  GRT_CHECK_TEXT(demo.play(kLeft | kRight | kA), "jump");
}

void the_largest_part_that_the_world_has_is_played() {
  const Player world(kEightWays, 0);
  GRT_CHECK_TEXT(world.play(kUp), "Up");
  GRT_CHECK_TEXT(world.play(kB), "jump");
  GRT_CHECK_TEXT(world.play(kUp | kLeft), "up left");
  GRT_CHECK_TEXT(world.play(kDown | kRight), "down_right");
  GRT_CHECK_TEXT(world.play(kDown | kRight | kB), "down_right");
  GRT_CHECK_TEXT(world.play(kUp | kRight), "Up");     // alike: the later one in the alphabet
  GRT_CHECK_TEXT(world.play(kDown | kLeft), "left");  // likewise
  GRT_CHECK_TEXT(world.play(kRight | kB), "jump");    // alike: the one that jumps
  GRT_CHECK_TEXT(world.play(kUp | kDown), "noop");
}

void unnamed_actions_are_chosen() {
  const Player demo(kDemo, 2);
  GRT_CHECK_EQ(demo.pad().num_unnamed(), 2);
  GRT_CHECK_TEXT(demo.play(kX, 0), "latent-0");
  GRT_CHECK_TEXT(demo.play(kY | kRight, 1), "latent-2");
  GRT_CHECK_TEXT(demo.play(kY | kRight, 2), "right");  // there is no such place

  const Player latent(kLatent, 0);
  GRT_CHECK_EQ(latent.pad().num_unnamed(), 9);
  GRT_CHECK_TEXT(latent.play(kNothing), "0");
  GRT_CHECK_TEXT(latent.play(kRight), "1");
  GRT_CHECK_TEXT(latent.play(kA), "5");
  GRT_CHECK_TEXT(latent.play(kA | kDown), "3");
  GRT_CHECK_TEXT(latent.play(kX, 8), "8");
}

void buttons_say_what_they_do() {
  const Player demo(kDemo, 2);
  GRT_CHECK_EQ(demo.pad().action_of(RETRO_DEVICE_ID_JOYPAD_LEFT, 0), 0);
  GRT_CHECK_EQ(demo.pad().action_of(RETRO_DEVICE_ID_JOYPAD_DOWN, 0), -1);
  GRT_CHECK_EQ(demo.pad().action_of(RETRO_DEVICE_ID_JOYPAD_X, 1), 7);
  const Player latent(kLatent, 0);
  GRT_CHECK_EQ(latent.pad().action_of(RETRO_DEVICE_ID_JOYPAD_LEFT, 0), 0);
  GRT_CHECK_EQ(latent.pad().action_of(RETRO_DEVICE_ID_JOYPAD_B, 0), 4);
}

void short_presses_count_unless_held_buttons_contradict() {
  GRT_CHECK_EQ(genie::join_taps(kNothing, kB), kB);
  GRT_CHECK_EQ(genie::join_taps(kRight, kB), kRight | kB);
  GRT_CHECK_EQ(genie::join_taps(kRight, kLeft), kRight);
  GRT_CHECK_EQ(genie::join_taps(kDown, kUp | kA), kDown | kA);
}

}  // namespace

int main() {
  names_of_moves_are_played_by_those_buttons();
  the_largest_part_that_the_world_has_is_played();
  unnamed_actions_are_chosen();
  buttons_say_what_they_do();
  short_presses_count_unless_held_buttons_contradict();
  return grt::test::failures();
}
