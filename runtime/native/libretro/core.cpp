// The libretro core: what a frontend calls. It holds one game, since the ABI has no handles.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "game.hpp"
#include "genie_rt.h"
#include "libretro_abi.h"
#include "options.hpp"

namespace {

using genie::Buttons;
using genie::Event;
using genie::Game;
using genie::kMostScale;
using genie::kScreenHz;

constexpr unsigned kSampleRate = 44100;
constexpr size_t kSamplesATurn = kSampleRate / kScreenHz;

struct Frontend {
  retro_environment_t environment = nullptr;
  retro_video_refresh_t video = nullptr;
  retro_audio_sample_batch_t audio = nullptr;
  retro_input_poll_t poll = nullptr;
  retro_input_state_t input = nullptr;
  retro_log_printf_t log = nullptr;
  bool has_bitmasks = false;
  bool has_message_ext = false;
};

struct Core {
  Frontend frontend;
  genie::Options options;
  genie::Settings settings;
  Game game;
  uint32_t* scaled = nullptr;  // frame times settings.scale
  bool has_failed = false;     // since the last reset: a fault is told once, not 60 times a second
  char version[32] = {};
};

constinit Core core;

// Logs a line. It is handed over as a format without arguments, with its percent signs doubled: frontends
// that are not written in C often do not fill arguments in.
[[gnu::format(printf, 2, 3)]] void say(retro_log_level level, const char* format, ...) {
  if (core.frontend.log == nullptr) return;
  char text[GRT_MESSAGE_BYTES + 64];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  char line[2 * sizeof text + 16] = "[genie-rt] ";
  size_t length = std::strlen(line);
  for (const char* from = text; *from != '\0'; from++) {
    if (*from == '%') line[length++] = '%';
    line[length++] = *from;
  }
  line[length++] = '\n';
  line[length] = '\0';
  core.frontend.log(level, line);
}

void log_of_engine(void*, grt_log_level level, const char* message) {
  say(level == GRT_LOG_WARNING ? RETRO_LOG_WARN : RETRO_LOG_INFO, "%s", message);
}

// Shows a line to the player for two seconds.
void show(retro_log_level level, const char* text) {
  if (core.frontend.has_message_ext) {
    const retro_message_ext message = {
        text, 2000, 1, level, RETRO_MESSAGE_TARGET_OSD, RETRO_MESSAGE_TYPE_NOTIFICATION, -1};
    core.frontend.environment(RETRO_ENVIRONMENT_SET_MESSAGE_EXT, const_cast<retro_message_ext*>(&message));
  } else {
    const retro_message message = {text, 2 * kScreenHz};
    core.frontend.environment(RETRO_ENVIRONMENT_SET_MESSAGE, const_cast<retro_message*>(&message));
  }
}

void fail(const char* what, const grt_error& error) {
  if (core.has_failed) return;
  core.has_failed = true;
  say(RETRO_LOG_ERROR, "%s: %s", what, error.message);
  show(RETRO_LOG_ERROR, error.message);
}

retro_game_geometry geometry() {
  const grt_world_info& info = core.game.info();
  const unsigned width = static_cast<unsigned>(info.frame_width),
                 height = static_cast<unsigned>(info.frame_height);
  const unsigned scale = static_cast<unsigned>(core.settings.scale);
  return {width * scale, height * scale, width * kMostScale, height * kMostScale,
          static_cast<float>(width) / static_cast<float>(height)};
}

// Memory for a picture at the scale that is set; without it pictures are shown as they are.
void make_scaled() {
  std::free(core.scaled);
  core.scaled = nullptr;
  if (core.settings.scale == 1) return;
  const retro_game_geometry size = geometry();
  core.scaled =
      static_cast<uint32_t*>(std::calloc(size_t{size.base_width} * size.base_height, sizeof(uint32_t)));
  if (core.scaled == nullptr) core.settings.scale = 1;
}

void list_controls() {
  static constexpr struct {
    unsigned id;
    const char* otherwise;  // what the button does in every world
  } kButtons[] = {{RETRO_DEVICE_ID_JOYPAD_LEFT, nullptr},
                  {RETRO_DEVICE_ID_JOYPAD_RIGHT, nullptr},
                  {RETRO_DEVICE_ID_JOYPAD_UP, nullptr},
                  {RETRO_DEVICE_ID_JOYPAD_DOWN, nullptr},
                  {RETRO_DEVICE_ID_JOYPAD_B, nullptr},
                  {RETRO_DEVICE_ID_JOYPAD_A, nullptr},
                  {RETRO_DEVICE_ID_JOYPAD_START, "Start again"},
                  {RETRO_DEVICE_ID_JOYPAD_SELECT, "Next picture to start from"}};
  constexpr size_t kMost = sizeof kButtons / sizeof kButtons[0] + 4;
  retro_input_descriptor list[kMost + 1] = {};
  size_t count = 0;
  const auto add = [&](unsigned id, const char* text) {
    list[count++] = {0, RETRO_DEVICE_JOYPAD, 0, id, text};
  };
  const genie::Pad& pad = core.game.pad();
  for (const auto& button : kButtons) {
    const int32_t action = button.otherwise == nullptr ? pad.action_of(button.id, 0) : -1;
    if (action >= 0) add(button.id, grt_world_action_name(core.game.world(), action));
    if (button.otherwise != nullptr) add(button.id, button.otherwise);
  }
  const bool has_unnamed = pad.num_unnamed() > 0;
  if (has_unnamed) {
    add(RETRO_DEVICE_ID_JOYPAD_X, "The chosen action");
    add(RETRO_DEVICE_ID_JOYPAD_Y, "The chosen action");
  }
  add(RETRO_DEVICE_ID_JOYPAD_L, has_unnamed ? "Choose the action before" : "Picture before");
  add(RETRO_DEVICE_ID_JOYPAD_R, has_unnamed ? "Choose the next action" : "Next picture");
  core.frontend.environment(RETRO_ENVIRONMENT_SET_INPUT_DESCRIPTORS, list);
}

// Takes the options over, at once where they can be.
void read_options() {
  const int32_t scale = core.settings.scale;
  core.settings = core.options.read(core.frontend.environment);
  grt_error error;
  grt_error_init(&error);
  if (!core.game.apply(core.settings, &error)) {
    say(RETRO_LOG_WARN, "the plan stays as it was: %s", error.message);
    show(RETRO_LOG_WARN, error.message);
  }
  if (core.settings.scale == scale && (scale == 1 || core.scaled != nullptr)) return;
  make_scaled();
  retro_game_geometry changed = geometry();
  core.frontend.environment(RETRO_ENVIRONMENT_SET_GEOMETRY, &changed);
}

bool reset() {
  grt_error error;
  grt_error_init(&error);
  core.has_failed = false;
  const bool ok = core.game.reset(core.settings.prompt, core.settings.seed, &error);
  if (!ok) fail("reset", error);
  return ok;
}

Buttons held_buttons() {
  core.frontend.poll();
  const retro_input_state_t input = core.frontend.input;
  if (core.frontend.has_bitmasks) {
    return static_cast<Buttons>(input(0, RETRO_DEVICE_JOYPAD, 0, RETRO_DEVICE_ID_JOYPAD_MASK));
  }
  Buttons held = 0;
  for (unsigned id = 0; id <= RETRO_DEVICE_ID_JOYPAD_R; id++) {
    if (input(0, RETRO_DEVICE_JOYPAD, 0, id) != 0) held = static_cast<Buttons>(held | genie::button(id));
  }
  return held;
}

void tell(Event event) {
  char text[160];
  const grt_world* world = core.game.world();
  if (event == Event::kPrompt) {
    std::snprintf(text, sizeof text, "%s (%d of %d)", grt_world_prompt_name(world, core.game.prompt()),
                  core.game.prompt() + 1, core.game.info().num_prompts);
  } else {
    const genie::Pad& pad = core.game.pad();
    std::snprintf(text, sizeof text, "X, Y: %s (%d of %d)",
                  grt_world_action_name(world, pad.unnamed(core.game.chosen())), core.game.chosen() + 1,
                  pad.num_unnamed());
  }
  show(RETRO_LOG_INFO, text);
}

// Hands the picture over in every turn, also where it is the last one again: a frontend that runs ahead shows
// only some of the turns, and none of those that it did not show may be needed for one that it does.
void draw() {
  const grt_world_info& info = core.game.info();
  const unsigned width = static_cast<unsigned>(info.frame_width),
                 height = static_cast<unsigned>(info.frame_height);
  const unsigned scale = static_cast<unsigned>(core.settings.scale);
  const uint32_t* pixels = core.game.pixels();
  if (scale > 1) {
    for (unsigned y = 0; y < height * scale; y++) {
      const uint32_t* from = pixels + size_t{y / scale} * width;
      uint32_t* to = core.scaled + size_t{y} * width * scale;
      for (unsigned x = 0; x < width * scale; x++) to[x] = from[x / scale];
    }
    pixels = core.scaled;
  }
  core.frontend.video(pixels, width * scale, height * scale, size_t{width} * scale * sizeof(uint32_t));
}

// No world has sound; silence keeps frontends in time that follow it.
void play_silence() {
  static constexpr int16_t kSilence[2 * kSamplesATurn] = {};
  if (core.frontend.audio != nullptr) core.frontend.audio(kSilence, kSamplesATurn);
}

}  // namespace

void retro_set_environment(retro_environment_t callback) {
  core.frontend.environment = callback;
  retro_log_callback log = {nullptr};
  if (callback(RETRO_ENVIRONMENT_GET_LOG_INTERFACE, &log)) core.frontend.log = log.log;
  core.options.declare(callback, core.game.world());
}

void retro_set_video_refresh(retro_video_refresh_t callback) { core.frontend.video = callback; }
void retro_set_audio_sample(retro_audio_sample_t) {}
void retro_set_audio_sample_batch(retro_audio_sample_batch_t callback) { core.frontend.audio = callback; }
void retro_set_input_poll(retro_input_poll_t callback) { core.frontend.poll = callback; }
void retro_set_input_state(retro_input_state_t callback) { core.frontend.input = callback; }

void retro_init() {
  unsigned version = 0;
  core.frontend.has_bitmasks = core.frontend.environment(RETRO_ENVIRONMENT_GET_INPUT_BITMASKS, nullptr);
  core.frontend.has_message_ext =
      core.frontend.environment(RETRO_ENVIRONMENT_GET_MESSAGE_INTERFACE_VERSION, &version) && version >= 1;
}

void retro_deinit() { retro_unload_game(); }

unsigned retro_api_version() { return RETRO_API_VERSION; }

void retro_get_system_info(retro_system_info* info) {
  std::snprintf(core.version, sizeof core.version, "%d.%d.%d", GRT_VERSION_MAJOR, GRT_VERSION_MINOR,
                GRT_VERSION_PATCH);
  *info = {"genie-rt", core.version, "json", true, true};
}

void retro_get_system_av_info(retro_system_av_info* info) {
  *info = {geometry(), {static_cast<double>(kScreenHz), static_cast<double>(kSampleRate)}};
}

void retro_set_controller_port_device(unsigned, unsigned) {}

bool retro_load_game(const retro_game_info* game) {
  grt_error error;
  grt_error_init(&error);
  core.has_failed = false;
  core.settings = core.options.read(core.frontend.environment);
  retro_pixel_format format = RETRO_PIXEL_FORMAT_XRGB8888;
  if (!core.frontend.environment(RETRO_ENVIRONMENT_SET_PIXEL_FORMAT, &format)) {
    say(RETRO_LOG_ERROR, "expected a frontend that takes XRGB8888 pictures");
    return false;
  }
  if (!core.game.load(game != nullptr ? game->path : nullptr, core.settings, log_of_engine, &error)) {
    fail("cannot load the bundle", error);
    return false;
  }
  core.options.declare(core.frontend.environment, core.game.world());
  core.settings = core.options.read(core.frontend.environment);
  if (!core.game.apply(core.settings, &error))
    say(RETRO_LOG_WARN, "%s; playing the default plan", error.message);
  make_scaled();
  list_controls();
  const grt_world_info& info = core.game.info();
  say(RETRO_LOG_INFO, "world %s: %d actions, %d prompts, %s, %d threads, %zu bytes a state", info.name,
      info.num_actions, info.num_prompts, info.precision == GRT_PRECISION_INT8 ? "int8" : "fp32",
      info.num_threads, core.game.save_size());
  if (!reset()) {
    retro_unload_game();
    return false;
  }
  return true;
}

bool retro_load_game_special(unsigned, const retro_game_info*, size_t) { return false; }

void retro_unload_game() {
  core.game.unload();
  std::free(core.scaled);
  core.scaled = nullptr;
}

void retro_reset() { reset(); }

void retro_run() {
  bool changed = false;
  if (core.frontend.environment(RETRO_ENVIRONMENT_GET_VARIABLE_UPDATE, &changed) && changed) read_options();
  grt_error error;
  grt_error_init(&error);
  Event event = Event::kNone;
  if (!core.game.turn(held_buttons(), &event, &error)) fail("step", error);
  if (event != Event::kNone) tell(event);
  draw();
  play_silence();
}

size_t retro_serialize_size() { return core.game.save_size(); }

bool retro_serialize(void* data, size_t size) {
  grt_error error;
  grt_error_init(&error);
  if (core.game.save(data, size, &error)) return true;
  say(RETRO_LOG_ERROR, "save state: %s", error.message);
  return false;
}

bool retro_unserialize(const void* data, size_t size) {
  grt_error error;
  grt_error_init(&error);
  if (core.game.load_state(data, size, &error)) return true;
  say(RETRO_LOG_ERROR, "load state: %s", error.message);
  return false;
}

void retro_cheat_reset() {}
void retro_cheat_set(unsigned, bool, const char*) {}
unsigned retro_get_region() { return RETRO_REGION_NTSC; }
void* retro_get_memory_data(unsigned) { return nullptr; }
size_t retro_get_memory_size(unsigned) { return 0; }
