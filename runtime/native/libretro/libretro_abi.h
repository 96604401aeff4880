/* What this core uses of the libretro ABI, version 1: names, numbers and struct layouts. */
#ifndef GENIE_LIBRETRO_ABI_H
#define GENIE_LIBRETRO_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define RETRO_API __declspec(dllexport)
#else
#define RETRO_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define RETRO_API_VERSION 1

/* Devices: retro_input_state_t's `device` and `id`. */
#define RETRO_DEVICE_JOYPAD 1
#define RETRO_DEVICE_ID_JOYPAD_B 0
#define RETRO_DEVICE_ID_JOYPAD_Y 1
#define RETRO_DEVICE_ID_JOYPAD_SELECT 2
#define RETRO_DEVICE_ID_JOYPAD_START 3
#define RETRO_DEVICE_ID_JOYPAD_UP 4
#define RETRO_DEVICE_ID_JOYPAD_DOWN 5
#define RETRO_DEVICE_ID_JOYPAD_LEFT 6
#define RETRO_DEVICE_ID_JOYPAD_RIGHT 7
#define RETRO_DEVICE_ID_JOYPAD_A 8
#define RETRO_DEVICE_ID_JOYPAD_X 9
#define RETRO_DEVICE_ID_JOYPAD_L 10
#define RETRO_DEVICE_ID_JOYPAD_R 11
#define RETRO_DEVICE_ID_JOYPAD_MASK 256 /* all buttons at once, a bit each */

#define RETRO_REGION_NTSC 0

/* Commands of retro_environment_t, and what `data` points at. */
#define RETRO_ENVIRONMENT_EXPERIMENTAL 0x10000
#define RETRO_ENVIRONMENT_SET_PIXEL_FORMAT 10      /* const enum retro_pixel_format * */
#define RETRO_ENVIRONMENT_SET_INPUT_DESCRIPTORS 11 /* const struct retro_input_descriptor * */
#define RETRO_ENVIRONMENT_GET_VARIABLE 15          /* struct retro_variable * */
#define RETRO_ENVIRONMENT_SET_VARIABLES 16         /* const struct retro_variable * */
#define RETRO_ENVIRONMENT_GET_VARIABLE_UPDATE 17   /* bool * */
#define RETRO_ENVIRONMENT_GET_LOG_INTERFACE 27     /* struct retro_log_callback * */
#define RETRO_ENVIRONMENT_SET_GEOMETRY 37          /* const struct retro_game_geometry * */
#define RETRO_ENVIRONMENT_GET_INPUT_BITMASKS (51 | RETRO_ENVIRONMENT_EXPERIMENTAL) /* bool * or NULL */
#define RETRO_ENVIRONMENT_GET_CORE_OPTIONS_VERSION 52                              /* unsigned * */
#define RETRO_ENVIRONMENT_GET_MESSAGE_INTERFACE_VERSION 59                         /* unsigned * */
#define RETRO_ENVIRONMENT_SET_MESSAGE 6          /* const struct retro_message * */
#define RETRO_ENVIRONMENT_SET_MESSAGE_EXT 60     /* const struct retro_message_ext * */
#define RETRO_ENVIRONMENT_SET_CORE_OPTIONS_V2 67 /* const struct retro_core_options_v2 * */

enum retro_pixel_format { RETRO_PIXEL_FORMAT_XRGB8888 = 1 };

enum retro_log_level { RETRO_LOG_DEBUG = 0, RETRO_LOG_INFO, RETRO_LOG_WARN, RETRO_LOG_ERROR };
typedef void (*retro_log_printf_t)(enum retro_log_level level, const char* format, ...);
struct retro_log_callback {
  retro_log_printf_t log;
};

struct retro_message {
  const char* msg;
  unsigned frames;
};

enum retro_message_target {
  RETRO_MESSAGE_TARGET_ALL = 0,
  RETRO_MESSAGE_TARGET_OSD,
  RETRO_MESSAGE_TARGET_LOG
};
enum retro_message_type { RETRO_MESSAGE_TYPE_NOTIFICATION = 0 };
struct retro_message_ext {
  const char* msg;
  unsigned duration; /* milliseconds */
  unsigned priority;
  enum retro_log_level level;
  enum retro_message_target target;
  enum retro_message_type type;
  int8_t progress; /* -1: none */
};

struct retro_system_info {
  const char* library_name;
  const char* library_version;
  const char* valid_extensions; /* "a|b" */
  bool need_fullpath;
  bool block_extract;
};

struct retro_game_geometry {
  unsigned base_width, base_height, max_width, max_height;
  float aspect_ratio;
};
struct retro_system_timing {
  double fps, sample_rate;
};
struct retro_system_av_info {
  struct retro_game_geometry geometry;
  struct retro_system_timing timing;
};

struct retro_game_info {
  const char* path;
  const void* data;
  size_t size;
  const char* meta;
};

struct retro_input_descriptor {
  unsigned port, device, index, id;
  const char* description; /* NULL in the last one */
};

struct retro_variable {
  const char* key;
  const char* value; /* SET_VARIABLES: "Description; default|other|..." */
};

#define RETRO_NUM_CORE_OPTION_VALUES_MAX 128
struct retro_core_option_value {
  const char* value; /* NULL in the last one */
  const char* label; /* NULL: the value */
};
struct retro_core_option_v2_category {
  const char *key, *desc, *info;
};
struct retro_core_option_v2_definition {
  const char* key; /* NULL in the last one */
  const char *desc, *desc_categorized, *info, *info_categorized, *category_key;
  struct retro_core_option_value values[RETRO_NUM_CORE_OPTION_VALUES_MAX];
  const char* default_value;
};
struct retro_core_options_v2 {
  struct retro_core_option_v2_category* categories;
  struct retro_core_option_v2_definition* definitions;
};

/* What the frontend gives. */
typedef bool (*retro_environment_t)(unsigned command, void* data);
typedef void (*retro_video_refresh_t)(const void* data, unsigned width, unsigned height, size_t pitch);
typedef void (*retro_audio_sample_t)(int16_t left, int16_t right);
typedef size_t (*retro_audio_sample_batch_t)(const int16_t* data, size_t frames);
typedef void (*retro_input_poll_t)(void);
typedef int16_t (*retro_input_state_t)(unsigned port, unsigned device, unsigned index, unsigned id);

/* What a core exports. */
RETRO_API void retro_set_environment(retro_environment_t callback);
RETRO_API void retro_set_video_refresh(retro_video_refresh_t callback);
RETRO_API void retro_set_audio_sample(retro_audio_sample_t callback);
RETRO_API void retro_set_audio_sample_batch(retro_audio_sample_batch_t callback);
RETRO_API void retro_set_input_poll(retro_input_poll_t callback);
RETRO_API void retro_set_input_state(retro_input_state_t callback);
RETRO_API void retro_init(void);
RETRO_API void retro_deinit(void);
RETRO_API unsigned retro_api_version(void);
RETRO_API void retro_get_system_info(struct retro_system_info* info);
RETRO_API void retro_get_system_av_info(struct retro_system_av_info* info);
RETRO_API void retro_set_controller_port_device(unsigned port, unsigned device);
RETRO_API void retro_reset(void);
RETRO_API void retro_run(void);
RETRO_API size_t retro_serialize_size(void);
RETRO_API bool retro_serialize(void* data, size_t size);
RETRO_API bool retro_unserialize(const void* data, size_t size);
RETRO_API void retro_cheat_reset(void);
RETRO_API void retro_cheat_set(unsigned index, bool enabled, const char* code);
RETRO_API bool retro_load_game(const struct retro_game_info* game);
RETRO_API bool retro_load_game_special(unsigned type, const struct retro_game_info* info, size_t count);
RETRO_API void retro_unload_game(void);
RETRO_API unsigned retro_get_region(void);
RETRO_API void* retro_get_memory_data(unsigned id);
RETRO_API size_t retro_get_memory_size(unsigned id);

#ifdef __cplusplus
}
#endif

#endif /* GENIE_LIBRETRO_ABI_H */
