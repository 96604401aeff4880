#include "pad.hpp"

#include <bit>
#include <cstring>

namespace genie {
namespace {

constexpr Buttons kB = button(RETRO_DEVICE_ID_JOYPAD_B), kA = button(RETRO_DEVICE_ID_JOYPAD_A);
constexpr Buttons kX = button(RETRO_DEVICE_ID_JOYPAD_X), kY = button(RETRO_DEVICE_ID_JOYPAD_Y);
constexpr Buttons kPadLeft = button(RETRO_DEVICE_ID_JOYPAD_LEFT);
constexpr Buttons kPadRight = button(RETRO_DEVICE_ID_JOYPAD_RIGHT);
constexpr Buttons kPadUp = button(RETRO_DEVICE_ID_JOYPAD_UP);
constexpr Buttons kPadDown = button(RETRO_DEVICE_ID_JOYPAD_DOWN);

// Buttons of a world without known names, in the order of its actions.
constexpr Buttons kByNumber[] = {kPadLeft, kPadRight, kPadUp, kPadDown, kB, kA};

constexpr const char* kIdleWords[] = {"stay", "noop", "none", "idle", "null", "wait", "still"};
constexpr size_t kLongestWord = 8;

// Reads the next word of letters and digits, in lower case; false at the end. Longer words are cut: none of
// ours is so long.
bool next_word(const char*& text, char (&word)[kLongestWord + 1]) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  const auto is_part = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  while (*text != '\0' && !is_part(lower(*text))) text++;
  size_t length = 0;
  for (; is_part(lower(*text)); text++) {
    if (length < kLongestWord) word[length++] = lower(*text);
  }
  word[length] = '\0';
  return length > 0;
}

void drop_opposites(uint32_t& moves, uint32_t pair) {
  if ((moves & pair) == pair) moves &= ~pair;
}

}  // namespace

Buttons join_taps(Buttons held, Buttons taps) {
  constexpr Buttons kPairs[] = {kPadLeft | kPadRight, kPadUp | kPadDown};
  for (const Buttons pair : kPairs) {
    if ((held & pair) != 0) taps = static_cast<Buttons>(taps & ~pair);
  }
  return static_cast<Buttons>(held | taps);
}

uint32_t Pad::moves_of_name(const char* name) {
  struct Word {
    const char* text;
    uint32_t move;
  };
  constexpr Word kWords[] = {
      {"down", kDown}, {"jump", kJump}, {"left", kLeft}, {"right", kRight}, {"up", kUp}};
  uint32_t moves = 0;
  char word[kLongestWord + 1];
  while (next_word(name, word)) {
    bool is_known = false;
    for (const char* idle : kIdleWords) is_known = is_known || std::strcmp(word, idle) == 0;
    for (const Word& known : kWords) {
      if (std::strcmp(word, known.text) != 0) continue;
      moves |= known.move;
      is_known = true;
    }
    if (!is_known) return kUnknown;
  }
  return moves;
}

// Whether an action of these moves is to be preferred: more of them, then one that jumps, then the one that
// comes later in the alphabet.
bool Pad::is_better(uint32_t moves, uint32_t than) {
  if (std::popcount(moves) != std::popcount(than)) return std::popcount(moves) > std::popcount(than);
  if (((moves ^ than) & kJump) != 0) return (moves & kJump) != 0;
  const uint32_t differ = moves ^ than;
  return (than & (differ & (0u - differ))) != 0;
}

void Pad::create(int32_t num_actions, int32_t default_action, const char* (*name)(const void*, int32_t),
                 const void* context) {
  int32_t named[kAll + 1];
  for (int32_t& action : named) action = -1;
  default_action_ = default_action;
  num_unnamed_ = 0;
  known_ = 0;
  for (int32_t action = 0; action < num_actions; action++) {
    const char* text = name(context, action);
    const uint32_t moves = text != nullptr ? moves_of_name(text) : kUnknown;
    if (moves == kUnknown) {
      if (num_unnamed_ < kMostUnnamed) unnamed_[num_unnamed_++] = action;
    } else if (named[moves] < 0) {
      named[moves] = action;
      known_ |= moves;
    }
  }
  for (uint32_t held = 0; held <= kAll; held++) {
    uint32_t best = 0;
    for (uint32_t moves = 1; moves <= kAll; moves++) {
      if (named[moves] < 0 || (moves & held) != moves) continue;
      if (best == 0 || is_better(moves, best)) best = moves;
    }
    by_moves_[held] = best != 0 ? named[best] : default_action;
  }
}

uint32_t Pad::moves_of(Buttons buttons) const {
  const auto holds = [buttons](Buttons wanted) { return (buttons & wanted) != 0; };
  const bool up_jumps = (known_ & kUp) == 0;
  uint32_t moves = 0;
  if (holds(kPadLeft)) moves |= kLeft;
  if (holds(kPadRight)) moves |= kRight;
  if (holds(kPadUp)) moves |= up_jumps ? kJump : kUp;
  if (holds(kPadDown)) moves |= kDown;
  if (holds(kA | kB)) moves |= kJump;
  moves &= known_;
  drop_opposites(moves, kLeft | kRight);
  drop_opposites(moves, kUp | kDown);
  return moves;
}

int32_t Pad::by_number(Buttons buttons) const {
  int32_t place = 0;
  for (const Buttons wanted : kByNumber) {
    if (place < num_unnamed_ && (buttons & wanted) != 0) return unnamed_[place];
    place++;
  }
  return -1;
}

int32_t Pad::action(Buttons buttons, int32_t chosen) const {
  if ((buttons & (kX | kY)) != 0 && chosen >= 0 && chosen < num_unnamed_) return unnamed_[chosen];
  if (known_ != 0) return by_moves_[moves_of(buttons)];
  const int32_t numbered = by_number(buttons);
  return numbered >= 0 ? numbered : default_action_;
}

int32_t Pad::action_of(unsigned id, int32_t chosen) const {
  const Buttons alone = button(id);
  if ((alone & (kX | kY)) != 0) return chosen < num_unnamed_ ? unnamed_[chosen] : -1;
  if (known_ == 0) return by_number(alone);
  return moves_of(alone) != 0 ? action(alone, chosen) : -1;
}

}  // namespace genie
