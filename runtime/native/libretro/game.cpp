#include "game.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace genie {
namespace {

constexpr Buttons kStart = button(RETRO_DEVICE_ID_JOYPAD_START);
constexpr Buttons kSelect = button(RETRO_DEVICE_ID_JOYPAD_SELECT);
constexpr Buttons kShoulders = button(RETRO_DEVICE_ID_JOYPAD_L) | button(RETRO_DEVICE_ID_JOYPAD_R);

bool refuse(grt_error* error, const char* message) {
  std::snprintf(error->message, sizeof error->message, "%s", message);
  return false;
}

// The folder of a bundle whose bundle.json or folder was chosen. False: the path is too long.
bool folder_of(const char* path, char* folder, size_t size) {
  size_t length = std::strlen(path);
  const char* file = ".json";
  const bool is_file =
      length >= std::strlen(file) && std::strcmp(path + length - std::strlen(file), file) == 0;
  if (is_file) {
    while (length > 0 && path[length - 1] != '/' && path[length - 1] != '\\') length--;
  }
  if (length == 0) return std::snprintf(folder, size, ".") > 0;
  if (length >= size) return false;
  std::memcpy(folder, path, length);
  folder[length] = '\0';
  return true;
}

const char* action_name(const void* world, int32_t action) {
  return grt_world_action_name(static_cast<const grt_world*>(world), action);
}

// One further or back in a ring of `count`.
int32_t next_of(int32_t place, int32_t count, bool back) { return (place + (back ? count - 1 : 1)) % count; }

}  // namespace

// The head of a save state; the session's own bytes follow, and zeros up to the size that all states have.
struct Game::Header {
  char magic[4];
  uint32_t version;
  uint64_t session_bytes;
  Turn turn;
};

bool Game::load(const char* path, const Settings& settings, grt_log log, grt_error* error) {
  unload();
  char folder[4096];
  if (path == nullptr) return refuse(error, "expected the path of a bundle's bundle.json, found none");
  if (!folder_of(path, folder, sizeof folder)) return refuse(error, "expected a path of at most 4095 bytes");

  grt_world_params params;
  grt_world_params_init(&params);
  params.precision = settings.precision;
  params.num_threads = settings.num_threads;
  params.log = log;
  grt_world_info_init(&info_);
  const bool loaded = grt_world_load(folder, &params, &world_, error) == GRT_OK &&
                      grt_world_get_info(world_, &info_, error) == GRT_OK &&
                      grt_session_create(world_, nullptr, &session_, error) == GRT_OK &&
                      grt_world_save_size(world_, &save_size_, error) == GRT_OK;
  if (!loaded) {
    unload();
    return false;
  }
  save_size_ += sizeof(Header);
  if (info_.num_prompts == 0) {
    unload();
    return refuse(error,
                  "expected a bundle with a picture to start from, found none: export it with --prompt");
  }
  const size_t num_pixels = static_cast<size_t>(info_.frame_width) * static_cast<size_t>(info_.frame_height);
  pixels_ = static_cast<uint32_t*>(std::calloc(num_pixels, sizeof(uint32_t)));
  if (pixels_ == nullptr) {
    unload();
    return refuse(error, "expected memory for a picture, found none");
  }
  pad_.create(info_.num_actions, info_.default_action, action_name, world_);
  turn_ = {};
  return true;
}

void Game::unload() {
  grt_session_free(session_);
  grt_world_free(world_);
  std::free(pixels_);
  session_ = nullptr;
  world_ = nullptr;
  pixels_ = nullptr;
  save_size_ = 0;
  plan_[0] = '\0';
}

grt_image Game::image() const {
  grt_image image;
  const size_t num_pixels = static_cast<size_t>(info_.frame_width) * static_cast<size_t>(info_.frame_height);
  grt_image_init(&image, pixels_, num_pixels * sizeof(uint32_t), GRT_FORMAT_BGRA8);
  return image;
}

bool Game::apply(const Settings& settings, grt_error* error) {
  fps_ = settings.fps;
  if (turn_.wait >= period()) turn_.wait = period() - 1;
  if (std::strcmp(plan_, settings.plan) == 0) return true;
  std::snprintf(plan_, sizeof plan_, "%s", settings.plan);
  grt_plan plan;
  grt_plan_init(&plan);
  return grt_world_get_plan(world_, plan_, &plan, error) == GRT_OK &&
         grt_session_set_plan(session_, &plan, error) == GRT_OK;
}

bool Game::reset(int32_t prompt, uint64_t seed, grt_error* error) {
  if (prompt < 0 || prompt >= info_.num_prompts) prompt = 0;
  grt_image frame = image();
  if (grt_session_reset_prompt(session_, prompt, seed, &frame, error) != GRT_OK) return false;
  turn_.prompt = prompt;
  turn_.seed = seed;
  turn_.wait = period() - 1;
  turn_.taps = 0;
  return true;
}

bool Game::turn(Buttons held, Event* event, grt_error* error) {
  const Buttons pressed = static_cast<Buttons>(held & ~turn_.held);
  turn_.held = held;
  *event = Event::kNone;
  if ((pressed & (kStart | kSelect)) != 0) {
    int32_t prompt = turn_.prompt;
    if ((pressed & kSelect) != 0) {
      prompt = next_of(prompt, info_.num_prompts, false);
      *event = Event::kPrompt;
    }
    return reset(prompt, turn_.seed, error);
  }
  const Buttons shoulder = pressed & kShoulders;
  if (shoulder != 0 && shoulder != kShoulders) {
    const bool back = shoulder == button(RETRO_DEVICE_ID_JOYPAD_L);
    if (pad_.num_unnamed() == 0) {
      *event = Event::kPrompt;
      return reset(next_of(turn_.prompt, info_.num_prompts, back), turn_.seed, error);
    }
    turn_.chosen = next_of(turn_.chosen, pad_.num_unnamed(), back);
    *event = Event::kUnnamed;
  }
  turn_.taps = static_cast<Buttons>(turn_.taps | pressed);
  return step(held, error);
}

// Steps the world where it is its time. In the turn after that, what can be done ahead of the next action is:
// so the turn that steps is shorter.
bool Game::step(Buttons held, grt_error* error) {
  if (turn_.wait > 0) {
    const bool is_first = turn_.wait == period() - 1;
    turn_.wait--;
    return !is_first || grt_session_commit(session_, error) == GRT_OK;
  }
  const int32_t action = pad_.action(join_taps(held, turn_.taps), turn_.chosen);
  turn_.wait = period() - 1;
  turn_.taps = 0;
  grt_image frame = image();
  return grt_session_step(session_, action, &frame, nullptr, error) == GRT_OK;
}

bool Game::save(void* bytes, size_t size, grt_error* error) const {
  if (session_ == nullptr || size < save_size_)
    return refuse(error, "expected a loaded world and a larger buffer");
  uint8_t* body = static_cast<uint8_t*>(bytes) + sizeof(Header);
  size_t written = 0;
  if (grt_session_save(session_, body, size - sizeof(Header), &written, error) != GRT_OK) return false;
  std::memset(body + written, 0, size - sizeof(Header) - written);
  const Header header = {{'G', 'R', 'T', 'L'}, 1, written, turn_};
  static_assert(sizeof(Header) == 40 && sizeof(Turn) == 24, "save states have no gaps");
  std::memcpy(bytes, &header, sizeof header);
  return true;
}

bool Game::load_state(const void* bytes, size_t size, grt_error* error) {
  Header header;
  if (session_ == nullptr || size < sizeof header)
    return refuse(error, "expected a state of this core, found fewer bytes");
  std::memcpy(&header, bytes, sizeof header);
  const Turn& turn = header.turn;
  const bool is_ours = std::memcmp(header.magic, "GRTL", 4) == 0 && header.version == 1 &&
                       header.session_bytes <= size - sizeof header && turn.prompt >= 0 &&
                       turn.prompt < info_.num_prompts && turn.chosen >= 0 &&
                       (turn.chosen == 0 || turn.chosen < pad_.num_unnamed()) && turn.wait >= 0 &&
                       turn.wait < kScreenHz;
  if (!is_ours) return refuse(error, "expected a state of this core and world, found other bytes");
  const uint8_t* body = static_cast<const uint8_t*>(bytes) + sizeof header;
  const size_t body_size = static_cast<size_t>(header.session_bytes);
  grt_image frame = image();
  if (grt_session_load(session_, body, body_size, error) != GRT_OK) return false;
  turn_ = turn;
  if (turn_.wait >= period()) turn_.wait = period() - 1;
  return grt_session_get_frame(session_, &frame, error) == GRT_OK;
}

}  // namespace genie
