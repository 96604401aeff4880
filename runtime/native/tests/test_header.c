/*
 * The binary interface, in numbers: a change of one of them breaks programs that were built before. New
 * members go to the end of a struct, and new values to the end of an enum.
 */
#include <stdio.h>

#include "genie_rt.h"

typedef struct expectation {
  const char* what;
  unsigned long found, with_64_bits, with_32_bits; /* of a pointer */
} expectation;

#define SIZE(type, with_64_bits, with_32_bits) \
  { "sizeof(" #type ")", (unsigned long)sizeof(type), with_64_bits, with_32_bits }
#define OFFSET(type, member, with_64_bits, with_32_bits) \
  { "offsetof(" #type ", " #member ")", (unsigned long)offsetof(type, member), with_64_bits, with_32_bits }
#define VALUE(name, value) \
  { #name, (unsigned long)(name), value, value }

/* clang-format off: one a line */
static const expectation expectations[] = {
    SIZE(grt_error, 520, 516),
    OFFSET(grt_error, struct_size, 0, 0),
    OFFSET(grt_error, message, 8, 4),
    SIZE(grt_version, 32, 24),
    OFFSET(grt_version, struct_size, 0, 0),
    OFFSET(grt_version, major, 8, 4),
    OFFSET(grt_version, minor, 12, 8),
    OFFSET(grt_version, patch, 16, 12),
    OFFSET(grt_version, snapshot_version, 20, 16),
    OFFSET(grt_version, build, 24, 20),
    SIZE(grt_allocator, 32, 16),
    OFFSET(grt_allocator, struct_size, 0, 0),
    OFFSET(grt_allocator, allocate, 8, 4),
    OFFSET(grt_allocator, release, 16, 8),
    OFFSET(grt_allocator, user, 24, 12),
    SIZE(grt_world_params, 104, 60),
    OFFSET(grt_world_params, struct_size, 0, 0),
    OFFSET(grt_world_params, precision, 8, 4),
    OFFSET(grt_world_params, instructions, 12, 8),
    OFFSET(grt_world_params, engine, 16, 12),
    OFFSET(grt_world_params, num_threads, 20, 16),
    OFFSET(grt_world_params, parallel_for, 24, 20),
    OFFSET(grt_world_params, parallel_for_user, 32, 24),
    OFFSET(grt_world_params, allocator, 40, 28),
    OFFSET(grt_world_params, progress, 48, 32),
    OFFSET(grt_world_params, progress_user, 56, 36),
    OFFSET(grt_world_params, log, 64, 40),
    OFFSET(grt_world_params, log_user, 72, 44),
    OFFSET(grt_world_params, onnxruntime_library, 80, 48),
    OFFSET(grt_world_params, onnxruntime_provider, 88, 52),
    OFFSET(grt_world_params, onnxruntime_plugin, 96, 56),
    SIZE(grt_world_info, 168, 160),
    OFFSET(grt_world_info, struct_size, 0, 0),
    OFFSET(grt_world_info, name, 8, 4),
    OFFSET(grt_world_info, prompt_width, 80, 76),
    OFFSET(grt_world_info, prompt_height, 84, 80),
    OFFSET(grt_world_info, frame_width, 88, 84),
    OFFSET(grt_world_info, frame_height, 92, 88),
    OFFSET(grt_world_info, num_actions, 96, 92),
    OFFSET(grt_world_info, default_action, 100, 96),
    OFFSET(grt_world_info, num_plans, 104, 100),
    OFFSET(grt_world_info, num_prompts, 108, 104),
    OFFSET(grt_world_info, num_tokens, 112, 108),
    OFFSET(grt_world_info, codebook_size, 116, 112),
    OFFSET(grt_world_info, window, 120, 116),
    OFFSET(grt_world_info, has_int8, 124, 120),
    OFFSET(grt_world_info, precision, 128, 124),
    OFFSET(grt_world_info, instructions, 132, 128),
    OFFSET(grt_world_info, num_threads, 136, 132),
    OFFSET(grt_world_info, weight_bytes, 144, 136),
    OFFSET(grt_world_info, session_bytes, 152, 144),
    OFFSET(grt_world_info, page_bytes, 160, 152),
    SIZE(grt_file, 24, 12),
    OFFSET(grt_file, name, 0, 0),
    OFFSET(grt_file, data, 8, 4),
    OFFSET(grt_file, size, 16, 8),
    SIZE(grt_plan, 56, 48),
    OFFSET(grt_plan, struct_size, 0, 0),
    OFFSET(grt_plan, order, 8, 4),
    OFFSET(grt_plan, reuse, 12, 8),
    OFFSET(grt_plan, passes, 16, 12),
    OFFSET(grt_plan, temperature, 24, 16),
    OFFSET(grt_plan, noise, 32, 24),
    OFFSET(grt_plan, threshold, 40, 32),
    OFFSET(grt_plan, fresh, 48, 40),
    SIZE(grt_image, 40, 20),
    OFFSET(grt_image, struct_size, 0, 0),
    OFFSET(grt_image, pixels, 8, 4),
    OFFSET(grt_image, size, 16, 8),
    OFFSET(grt_image, pitch, 24, 12),
    OFFSET(grt_image, format, 32, 16),
    SIZE(grt_session_params, 24, 16),
    OFFSET(grt_session_params, struct_size, 0, 0),
    OFFSET(grt_session_params, plan, 8, 4),
    OFFSET(grt_session_params, num_snapshots, 16, 8),
    OFFSET(grt_session_params, most_peeks, 20, 12),
    SIZE(grt_step_stats, 64, 64),
    OFFSET(grt_step_stats, struct_size, 0, 0),
    OFFSET(grt_step_stats, passes, 8, 4),
    OFFSET(grt_step_stats, tokens, 12, 8),
    OFFSET(grt_step_stats, from_peek, 16, 12),
    OFFSET(grt_step_stats, late, 20, 16),
    OFFSET(grt_step_stats, frame_index, 24, 24),
    OFFSET(grt_step_stats, total_ms, 32, 32),
    OFFSET(grt_step_stats, commit_ms, 40, 40),
    OFFSET(grt_step_stats, passes_ms, 48, 48),
    OFFSET(grt_step_stats, decode_ms, 56, 56),
    SIZE(grt_session_state, 40, 40),
    OFFSET(grt_session_state, struct_size, 0, 0),
    OFFSET(grt_session_state, seed, 8, 8),
    OFFSET(grt_session_state, frame_index, 16, 16),
    OFFSET(grt_session_state, action, 24, 24),
    OFFSET(grt_session_state, pending, 28, 28),
    OFFSET(grt_session_state, digest, 32, 32),
    VALUE(GRT_OK, 0),
    VALUE(GRT_ERROR_CONFIG, 1),
    VALUE(GRT_ERROR_BUNDLE, 2),
    VALUE(GRT_ERROR_UNSUPPORTED, 3),
    VALUE(GRT_ERROR_STATE, 4),
    VALUE(GRT_ERROR_DEVICE, 5),
    VALUE(GRT_ERROR_INPUT, 6),
    VALUE(GRT_ERROR_OUT_OF_MEMORY, 7),
    VALUE(GRT_ERROR_CANCELLED, 8),
    VALUE(GRT_ERROR_BUSY, 9),
    VALUE(GRT_PRECISION_AUTO, 0),
    VALUE(GRT_PRECISION_FLOAT32, 1),
    VALUE(GRT_PRECISION_INT8, 2),
    VALUE(GRT_INSTRUCTIONS_AUTO, 0),
    VALUE(GRT_INSTRUCTIONS_SCALAR, 1),
    VALUE(GRT_INSTRUCTIONS_SSE4, 2),
    VALUE(GRT_INSTRUCTIONS_AVX2, 3),
    VALUE(GRT_INSTRUCTIONS_AVX512, 4),
    VALUE(GRT_INSTRUCTIONS_NEON, 5),
    VALUE(GRT_INSTRUCTIONS_NEON_DOT, 6),
    VALUE(GRT_INSTRUCTIONS_WASM, 7),
    VALUE(GRT_ENGINE_NATIVE, 0),
    VALUE(GRT_ENGINE_ONNXRUNTIME, 1),
    VALUE(GRT_LOG_INFO, 1),
    VALUE(GRT_LOG_WARNING, 2),
    VALUE(GRT_ORDER_MASKGIT, 0),
    VALUE(GRT_ORDER_ADAPTIVE, 1),
    VALUE(GRT_ORDER_RANDOM, 2),
    VALUE(GRT_ORDER_HALTON, 3),
    VALUE(GRT_REUSE_NONE, 0),
    VALUE(GRT_REUSE_PASSES, 1),
    VALUE(GRT_REUSE_FRAMES, 2),
    VALUE(GRT_FORMAT_RGB8, 0),
    VALUE(GRT_FORMAT_RGBA8, 1),
    VALUE(GRT_FORMAT_BGRA8, 2),
    VALUE(sizeof(grt_status), 4),
    VALUE(GRT_MESSAGE_BYTES, 512),
    VALUE(GRT_VERSION_MAJOR, 0),
    VALUE(GRT_VERSION_MINOR, 1),
    VALUE(GRT_VERSION_PATCH, 0),
};
/* clang-format on */

int main(void) {
  size_t i;
  int failed = 0;
  for (i = 0; i < sizeof expectations / sizeof expectations[0]; i++) {
    const expectation* each = &expectations[i];
    const unsigned long expected = sizeof(void*) == 8 ? each->with_64_bits : each->with_32_bits;
    if (each->found != expected) {
      fprintf(stderr, "%s: expected %lu, found %lu\n", each->what, expected, each->found);
      failed = 1;
    }
  }
  return failed;
}
