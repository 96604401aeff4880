// The libretro core linked into a frontend of a few lines, so that the sanitizers see both. What it plays is
// held against Python's frames elsewhere; here are the calls' order, states of any bytes, and frontends that
// lack things.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../libretro/libretro_abi.h"
#include "check.hpp"

namespace {

constexpr const char* kBundle = "runtime/bundles/demo-logged/bundle.json";

struct Frontend {
  bool is_new = true;  // has logs, messages, bit masks and options as they are today
  const char* fps = "60";
  const char* scale = "1";
  bool has_changed = false;
  uint16_t held = 0;
  int num_messages = 0, num_errors = 0, num_options = 0;
  unsigned width = 0, height = 0;
  uint64_t picture = 0;  // a hash
  size_t num_samples = 0;
};

Frontend frontend;

void log(retro_log_level level, const char*, ...) {
  if (level == RETRO_LOG_ERROR) frontend.num_errors++;
}

bool environment(unsigned command, void* data) {
  switch (command) {
    case RETRO_ENVIRONMENT_SET_PIXEL_FORMAT:
      return *static_cast<const retro_pixel_format*>(data) == RETRO_PIXEL_FORMAT_XRGB8888;
    case RETRO_ENVIRONMENT_GET_LOG_INTERFACE:
      if (frontend.is_new) static_cast<retro_log_callback*>(data)->log = log;
      return frontend.is_new;
    case RETRO_ENVIRONMENT_GET_INPUT_BITMASKS:
      return frontend.is_new;
    case RETRO_ENVIRONMENT_GET_MESSAGE_INTERFACE_VERSION:
      *static_cast<unsigned*>(data) = 1;
      return frontend.is_new;
    case RETRO_ENVIRONMENT_GET_CORE_OPTIONS_VERSION:
      *static_cast<unsigned*>(data) = 2;
      return frontend.is_new;
    case RETRO_ENVIRONMENT_SET_CORE_OPTIONS_V2: {
      const auto* option = static_cast<const retro_core_options_v2*>(data)->definitions;
      for (frontend.num_options = 0; option->key != nullptr; option++) frontend.num_options++;
      return true;
    }
    case RETRO_ENVIRONMENT_SET_VARIABLES: {
      const auto* option = static_cast<const retro_variable*>(data);
      for (frontend.num_options = 0; option->key != nullptr; option++) frontend.num_options++;
      return true;
    }
    case RETRO_ENVIRONMENT_GET_VARIABLE: {
      auto* variable = static_cast<retro_variable*>(data);
      variable->value = nullptr;
      if (std::strcmp(variable->key, "genie_fps") == 0) variable->value = frontend.fps;
      if (std::strcmp(variable->key, "genie_scale") == 0) variable->value = frontend.scale;
      return variable->value != nullptr;
    }
    case RETRO_ENVIRONMENT_GET_VARIABLE_UPDATE:
      *static_cast<bool*>(data) = frontend.has_changed;
      frontend.has_changed = false;
      return true;
    case RETRO_ENVIRONMENT_SET_MESSAGE:
    case RETRO_ENVIRONMENT_SET_MESSAGE_EXT:
      frontend.num_messages++;
      return true;
    case RETRO_ENVIRONMENT_SET_INPUT_DESCRIPTORS:
    case RETRO_ENVIRONMENT_SET_GEOMETRY:
      return true;
    default:
      return false;
  }
}

void video(const void* data, unsigned width, unsigned height, size_t pitch) {
  frontend.width = width;
  frontend.height = height;
  frontend.picture = 1469598103934665603u;
  for (unsigned y = 0; y < height; y++) {
    const auto* row = static_cast<const uint8_t*>(data) + y * pitch;
    for (unsigned i = 0; i < 4 * width; i++) frontend.picture = (frontend.picture ^ row[i]) * 1099511628211u;
  }
}

size_t audio(const int16_t*, size_t frames) {
  frontend.num_samples += frames;
  return frames;
}

void poll() {}

int16_t input(unsigned, unsigned, unsigned, unsigned id) {
  if (id == RETRO_DEVICE_ID_JOYPAD_MASK) return static_cast<int16_t>(frontend.held);
  return static_cast<int16_t>(frontend.held >> id & 1);
}

void start(bool is_new) {
  frontend = Frontend{};
  frontend.is_new = is_new;
  retro_set_environment(environment);
  retro_set_video_refresh(video);
  retro_set_audio_sample_batch(audio);
  retro_set_input_poll(poll);
  retro_set_input_state(input);
  retro_init();
}

bool load(const char* path) {
  const retro_game_info game = {path, nullptr, 0, nullptr};
  return retro_load_game(&game);
}

uint64_t turn(unsigned button) {
  frontend.held = static_cast<uint16_t>(1u << button);
  retro_run();
  return frontend.picture;
}

void what_no_bundle_is_loaded_from() {
  start(true);
  retro_system_info info = {};
  retro_get_system_info(&info);
  GRT_CHECK_TEXT(info.valid_extensions, "json");
  GRT_CHECK(!retro_load_game(nullptr));
  GRT_CHECK(!load("no/such/bundle.json"));
  GRT_CHECK_EQ(frontend.num_errors, 2);
  GRT_CHECK_EQ(retro_serialize_size(), size_t{0});
  char byte = 0;
  GRT_CHECK(!retro_serialize(&byte, 1));
  GRT_CHECK(!retro_unserialize(&byte, 1));
  retro_unload_game();
  retro_deinit();
}

void a_state_brings_frames_back(bool is_new) {
  start(is_new);
  GRT_REQUIRE(load(kBundle));
  GRT_CHECK_EQ(frontend.num_options, 7);
  for (int i = 0; i < 5; i++) turn(RETRO_DEVICE_ID_JOYPAD_RIGHT);
  const size_t size = retro_serialize_size();
  auto* state = static_cast<uint8_t*>(std::malloc(size));
  GRT_CHECK(retro_serialize(state, size));
  uint64_t pictures[6];
  for (uint64_t& picture : pictures) picture = turn(RETRO_DEVICE_ID_JOYPAD_B);
  for (int i = 0; i < 4; i++) turn(RETRO_DEVICE_ID_JOYPAD_LEFT);
  GRT_CHECK(retro_unserialize(state, size));
  for (const uint64_t picture : pictures) GRT_CHECK_EQ(turn(RETRO_DEVICE_ID_JOYPAD_B), picture);
  GRT_CHECK_EQ(frontend.num_samples, size_t{21 * 735});

  frontend.scale = "8";
  frontend.has_changed = true;
  turn(RETRO_DEVICE_ID_JOYPAD_SELECT);
  GRT_CHECK_EQ(frontend.width, 512u);
  GRT_CHECK_EQ(frontend.num_messages, 1);
  retro_reset();
  turn(RETRO_DEVICE_ID_JOYPAD_R);
  std::free(state);
  retro_unload_game();
  retro_deinit();
}

void states_of_any_bytes_are_refused_or_played() {
  start(true);
  GRT_REQUIRE(load(kBundle));
  for (int i = 0; i < 3; i++) turn(RETRO_DEVICE_ID_JOYPAD_RIGHT);
  const size_t size = retro_serialize_size();
  auto* state = static_cast<uint8_t*>(std::malloc(size));
  auto* broken = static_cast<uint8_t*>(std::malloc(size));
  GRT_REQUIRE(retro_serialize(state, size));
  uint32_t random = 1;
  int refused = 0;
  constexpr int kTries = 200;
  for (int i = 0; i < kTries; i++) {
    std::memcpy(broken, state, size);
    random = random * 1664525u + 1013904223u;
    const size_t place = i < 120 ? static_cast<size_t>(i) : (random >> 4) % size;
    broken[place] = static_cast<uint8_t>(broken[place] ^ (1u << (random >> 29)));
    if (!retro_unserialize(broken, i % 4 == 3 ? size - 1 - random % 64 : size)) refused++;
    if (i % 40 == 0) turn(RETRO_DEVICE_ID_JOYPAD_RIGHT);
  }
  GRT_CHECK(refused > 0 && refused < kTries);
  GRT_CHECK(retro_unserialize(state, size));
  std::free(state);
  std::free(broken);
  retro_deinit();
}

}  // namespace

int main() {
  what_no_bundle_is_loaded_from();
  a_state_brings_frames_back(true);
  a_state_brings_frames_back(false);
  states_of_any_bytes_are_refused_or_played();
  return grt::test::failures();
}
