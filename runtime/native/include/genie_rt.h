/*
 * genie-rt: interactive world models in a game. One picture and a stream of actions in, one frame an action
 * out.
 *
 *     #include <genie_rt.h>
 *
 *     grt_error error;
 *     grt_world *world = NULL;
 *     grt_session *session = NULL;
 *     grt_image frame;
 *
 *     grt_error_init(&error);
 *     if (grt_world_load("bundles/demo", NULL, &world, &error) != GRT_OK) { puts(error.message); return 1; }
 *     grt_session_create(world, NULL, &session, &error);
 *     grt_image_init(&frame, pixels, sizeof pixels, GRT_FORMAT_RGBA8);
 *     grt_session_reset_prompt(session, 0, seed, &frame, &error);
 *     while (playing) { grt_session_step(session, action, &frame, NULL, &error); draw(pixels); }
 *     grt_session_free(session);
 *     grt_world_free(world);
 *
 * Rules that hold for all of this header:
 *
 * - Results. Every call that can fail returns a grt_status; GRT_OK is 0. Its last parameter takes the
 * message: what was expected, what came and what to do. It may be NULL. There is no other place where errors
 * are kept, so nothing needs to be read before another call, or on the same thread.
 * - After a failure the out-parameters are as they were, except that *handle parameters are set to NULL, and
 *   the session is as it was before the call: it can go on. A frame buffer may be partly written.
 * - Ownership. Handles that a call makes belong to the caller, who frees each once; freeing NULL does
 * nothing. Sessions and snapshots keep what they need of their world: the world may be freed first. Buffers,
 * strings and structs that are passed in are read or written during the call only. Strings that come back
 * belong to the object that they were asked of and live as long as it.
 * - Threads. A world never changes: use it from any number of threads. A session is one player: one thread at
 * a time. Sessions of one world may run at once in different threads. A snapshot never changes.
 * - Structs begin with `struct_size`, set by the _init function beside each. All other members are 0 then,
 * and 0 always means the default. A newer library accepts the smaller structs of older programs.
 * - Strings are UTF-8, paths too, also on Windows.
 * - The library allocates nothing in a step, prints nothing, never exits, installs no signal handler, keeps
 * no global state and leaves the floating-point environment alone. No C++ exception crosses this boundary.
 * - Determinism. In GRT_PRECISION_INT8 equal calls give equal frames, bit for bit, on every processor,
 * compiler, operating system and number of threads. See docs/embedding.md for how this is checked.
 */
#ifndef GENIE_RT_H
#define GENIE_RT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(GRT_STATIC)
#define GRT_API
#elif defined(_WIN32)
#if defined(GRT_BUILD)
#define GRT_API __declspec(dllexport)
#else
#define GRT_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define GRT_API __attribute__((visibility("default")))
#else
#define GRT_API
#endif

/* The version of this header. Minor versions only add; grt_get_version says what the library is. */
#define GRT_VERSION_MAJOR 0
#define GRT_VERSION_MINOR 1
#define GRT_VERSION_PATCH 0

/* ---- Statuses --------------------------------------------------------------------------------------------
 */

typedef enum grt_status {
  GRT_OK = 0,
  GRT_ERROR_CONFIG = 1,        /* a plan or parameter has no such value */
  GRT_ERROR_BUNDLE = 2,        /* the bundle is missing or broken */
  GRT_ERROR_UNSUPPORTED = 3,   /* this machine, library or bundle cannot do it */
  GRT_ERROR_STATE = 4,         /* not now: a step before a reset, say */
  GRT_ERROR_DEVICE = 5,        /* the model gave NaN or Inf, or a provider failed */
  GRT_ERROR_INPUT = 6,         /* a wrong argument: NULL, out of range, too small a buffer */
  GRT_ERROR_OUT_OF_MEMORY = 7, /* the allocator gave nothing */
  GRT_ERROR_CANCELLED = 8,     /* a progress callback or grt_session_cancel asked to stop */
  GRT_ERROR_BUSY = 9           /* a frame of this session is being computed: poll or cancel first */
} grt_status;

#define GRT_MESSAGE_BYTES 512

typedef struct grt_error {
  size_t struct_size;
  char message[GRT_MESSAGE_BYTES]; /* ends with NUL; empty after GRT_OK */
} grt_error;

static inline void grt_error_init(grt_error* error) {
  memset(error, 0, sizeof *error);
  error->struct_size = sizeof *error;
}

/* A status as a word, such as "GRT_ERROR_BUNDLE". Never NULL. */
GRT_API const char* grt_status_name(grt_status status);

typedef struct grt_version {
  size_t struct_size;
  int32_t major, minor, patch;
  int32_t snapshot_version; /* of the bytes that grt_session_save writes */
  const char* build;        /* compiler and instruction sets, for bug reports; lives for ever */
} grt_version;

static inline void grt_version_init(grt_version* version) {
  memset(version, 0, sizeof *version);
  version->struct_size = sizeof *version;
}

GRT_API grt_status grt_get_version(grt_version* version, grt_error* error);

/* ---- What a world is made with ---------------------------------------------------------------------------
 */

typedef struct grt_world grt_world;
typedef struct grt_session grt_session;
typedef struct grt_snapshot grt_snapshot;

typedef enum grt_precision {
  GRT_PRECISION_AUTO = 0, /* int8 where the bundle says how, else fp32 */
  GRT_PRECISION_FLOAT32 = 1,
  GRT_PRECISION_INT8 = 2 /* the bundle's scales; the same bits everywhere */
} grt_precision;

typedef enum grt_instructions {
  GRT_INSTRUCTIONS_AUTO = 0, /* the best that the processor has */
  GRT_INSTRUCTIONS_SCALAR = 1,
  GRT_INSTRUCTIONS_SSE4 = 2,
  GRT_INSTRUCTIONS_AVX2 = 3,
  GRT_INSTRUCTIONS_AVX512 = 4, /* with VNNI */
  GRT_INSTRUCTIONS_NEON = 5,
  GRT_INSTRUCTIONS_NEON_DOT = 6,
  GRT_INSTRUCTIONS_WASM = 7
} grt_instructions;

typedef enum grt_engine {
  GRT_ENGINE_NATIVE = 0,
  GRT_ENGINE_ONNXRUNTIME = 1 /* the bundle's graphs, in a library opened at run time */
} grt_engine;

/* Memory hooks. `allocate` returns `size` bytes aligned to `alignment` (a power of two up to 64), or NULL;
 * `release` gets what `allocate` returned, with the same size. Both may be called from several threads. */
typedef struct grt_allocator {
  size_t struct_size;
  void* (*allocate)(void* user, size_t size, size_t alignment);
  void (*release)(void* user, void* memory, size_t size);
  void* user;
} grt_allocator;

static inline void grt_allocator_init(grt_allocator* allocator) {
  memset(allocator, 0, sizeof *allocator);
  allocator->struct_size = sizeof *allocator;
}

/* Calls task(context, 0) ... task(context, count - 1), in any order and on any threads, and returns when all
 * have returned. A task waits for no other task, so a job system may run them one after the other. */
typedef void (*grt_task)(void* context, int32_t index);
typedef void (*grt_parallel_for)(void* user, int32_t count, grt_task task, void* context);

/* `done` of `total` units of loading. Return 0 to go on, anything else to stop with GRT_ERROR_CANCELLED. */
typedef int32_t (*grt_progress)(void* user, uint64_t done, uint64_t total);

typedef enum grt_log_level { GRT_LOG_INFO = 1, GRT_LOG_WARNING = 2 } grt_log_level;
typedef void (*grt_log)(void* user, grt_log_level level, const char* message);

typedef struct grt_world_params {
  size_t struct_size;
  grt_precision precision;
  grt_instructions instructions;
  grt_engine engine;
  int32_t num_threads; /* of the world's own pool, the caller's thread among them; 1: no other thread;
                          0: all processors, at most 8. Sessions that run at once share it */
  grt_parallel_for
      parallel_for; /* in place of the pool: num_threads then says into how many tasks work is cut */
  void* parallel_for_user;
  const grt_allocator* allocator; /* copied; NULL: malloc and free */
  grt_progress progress;
  void* progress_user;
  grt_log log;
  void* log_user;
  const char* onnxruntime_library;  /* GRT_ENGINE_ONNXRUNTIME: file to open; NULL: the system's */
  const char* onnxruntime_provider; /* "CPU", "CUDA", "TensorRT", "WebGPU" or a plug-in's name; NULL: CPU */
  const char* onnxruntime_plugin;   /* file of a plug-in provider; NULL: none */
} grt_world_params;

static inline void grt_world_params_init(grt_world_params* params) {
  memset(params, 0, sizeof *params);
  params->struct_size = sizeof *params;
}

/* ---- Worlds ----------------------------------------------------------------------------------------------
 */

typedef struct grt_world_info {
  size_t struct_size;
  char name[72];
  int32_t prompt_width, prompt_height; /* of pictures that a session is reset to */
  int32_t frame_width, frame_height;   /* of frames that come out */
  int32_t num_actions;
  int32_t default_action; /* the one that is meant when no key is pressed */
  int32_t num_plans, num_prompts;
  int32_t num_tokens, codebook_size; /* of a frame; see docs/model.md */
  int32_t window;                    /* frames that the dynamics looks back over, the current one included */
  int32_t has_int8;                  /* 1 if the bundle can be played in int8 */
  grt_precision precision;           /* what it is played in; AUTO in grt_bundle_inspect */
  grt_instructions instructions;     /* what it computes with; AUTO in grt_bundle_inspect */
  int32_t num_threads;
  uint64_t weight_bytes;  /* held by the world; 0 in grt_bundle_inspect */
  uint64_t session_bytes; /* held by each session with the default plan; 0 in grt_bundle_inspect */
  uint64_t page_bytes;    /* at most, of each further snapshot and frame that is kept */
} grt_world_info;

static inline void grt_world_info_init(grt_world_info* info) {
  memset(info, 0, sizeof *info);
  info->struct_size = sizeof *info;
}

/* A file of a bundle that is already in memory; `name` as bundle.json spells it, such as "prompts/000.png".
 */
typedef struct grt_file {
  const char* name;
  const void* data;
  size_t size;
} grt_file;

/* Reads bundle.json alone: what a bundle is and needs, before it is loaded. */
GRT_API grt_status grt_bundle_inspect(const char* folder, grt_world_info* info, grt_error* error);

/* Loads a bundle from its folder. The new world belongs to the caller; free it with grt_world_free. */
GRT_API grt_status grt_world_load(const char* folder, const grt_world_params* params, grt_world** world,
                                  grt_error* error);

/* The same from files in memory, which need to stay until the call returns. bundle.json, weights.safetensors
 * and the pictures that it lists have to be among them. */
GRT_API grt_status grt_world_load_memory(const grt_file* files, size_t num_files,
                                         const grt_world_params* params, grt_world** world, grt_error* error);

/* Lets go of a world. Its memory is released when its last session and snapshot are freed. */
GRT_API void grt_world_free(grt_world* world);

GRT_API grt_status grt_world_get_info(const grt_world* world, grt_world_info* info, grt_error* error);

/* Names, in the order of their indices; NULL if there is no such index. They belong to the world. */
GRT_API const char* grt_world_action_name(const grt_world* world, int32_t action);
GRT_API const char* grt_world_plan_name(const grt_world* world, int32_t plan);
GRT_API const char* grt_world_prompt_name(const grt_world* world, int32_t prompt);

/* The index of an action of that name. */
GRT_API grt_status grt_world_find_action(const grt_world* world, const char* name, int32_t* action,
                                         grt_error* error);

/* ---- Plans -----------------------------------------------------------------------------------------------
 */

typedef enum grt_order {
  GRT_ORDER_MASKGIT = 0,
  GRT_ORDER_ADAPTIVE = 1,
  GRT_ORDER_RANDOM = 2,
  GRT_ORDER_HALTON = 3
} grt_order;
typedef enum grt_reuse { GRT_REUSE_NONE = 0, GRT_REUSE_PASSES = 1, GRT_REUSE_FRAMES = 2 } grt_reuse;

/* How frames are decoded: docs/plans.md. Get one from the bundle and change it. 0 stands for 25 passes,
 * temperature 1, threshold 0.99 and fresh 0.75; a noise of 0 is none. */
typedef struct grt_plan {
  size_t struct_size;
  grt_order order;
  grt_reuse reuse;
  int32_t passes;
  double temperature, noise, threshold, fresh;
} grt_plan;

static inline void grt_plan_init(grt_plan* plan) {
  memset(plan, 0, sizeof *plan);
  plan->struct_size = sizeof *plan;
}

/* A plan of the bundle by name; NULL: "default". */
GRT_API grt_status grt_world_get_plan(const grt_world* world, const char* name, grt_plan* plan,
                                      grt_error* error);

/* ---- Pictures --------------------------------------------------------------------------------------------
 */

typedef enum grt_format { GRT_FORMAT_RGB8 = 0, GRT_FORMAT_RGBA8 = 1, GRT_FORMAT_BGRA8 = 2 } grt_format;

/* A picture in the caller's memory, the top row first. Alpha is ignored on the way in and 255 on the way out.
 */
typedef struct grt_image {
  size_t struct_size;
  void* pixels; /* read only where a call takes a const grt_image */
  size_t size;  /* bytes at `pixels` */
  size_t pitch; /* bytes from one row to the next; 0: rows follow each other without a gap */
  grt_format format;
} grt_image;

static inline void grt_image_init(grt_image* image, void* pixels, size_t size, grt_format format) {
  memset(image, 0, sizeof *image);
  image->struct_size = sizeof *image;
  image->pixels = pixels;
  image->size = size;
  image->format = format;
}

/* Copies a picture of the bundle, prompt_width by prompt_height. */
GRT_API grt_status grt_world_get_prompt(const grt_world* world, int32_t prompt, grt_image* image,
                                        grt_error* error);

/* ---- Sessions --------------------------------------------------------------------------------------------
 */

typedef struct grt_session_params {
  size_t struct_size;
  const grt_plan* plan;  /* copied; NULL: the bundle's "default" */
  int32_t num_snapshots; /* memory to set aside for so many snapshots of consecutive frames */
  int32_t most_peeks;    /* actions that one grt_session_peek may ask about; 0: all actions of the world */
} grt_session_params;

static inline void grt_session_params_init(grt_session_params* params) {
  memset(params, 0, sizeof *params);
  params->struct_size = sizeof *params;
}

/* What a step took. Times are in milliseconds. */
typedef struct grt_step_stats {
  size_t struct_size;
  int32_t passes;      /* evaluations of the dynamics */
  int32_t tokens;      /* that these computed, together */
  int32_t from_peek;   /* 1 if the frame had been computed by grt_session_peek */
  int32_t late;        /* 1 if there is a deadline and the step was over it */
  int64_t frame_index; /* frames since the reset */
  double total_ms;     /* action to picture */
  double commit_ms, passes_ms,
      decode_ms; /* its parts; commit_ms is 0 where it is fused with the first pass */
} grt_step_stats;

static inline void grt_step_stats_init(grt_step_stats* stats) {
  memset(stats, 0, sizeof *stats);
  stats->struct_size = sizeof *stats;
}

/* A new player. All memory that steps need is taken here. Reset it before its first step. */
GRT_API grt_status grt_session_create(grt_world* world, const grt_session_params* params,
                                      grt_session** session, grt_error* error);

/* Frees a session; a frame that is being computed is cancelled and waited for. */
GRT_API void grt_session_free(grt_session* session);

/* Starts again from pictures that follow each other, prompt_width by prompt_height, oldest first, and the
 * actions between them (num_pictures - 1). `frame`, unless NULL, gets the last one as the model sees it. */
GRT_API grt_status grt_session_reset(grt_session* session, const grt_image* pictures, size_t num_pictures,
                                     const int32_t* actions, uint64_t seed, grt_image* frame,
                                     grt_error* error);

/* Starts again from a picture of the bundle. */
GRT_API grt_status grt_session_reset_prompt(grt_session* session, int32_t prompt, uint64_t seed,
                                            grt_image* frame, grt_error* error);

/* Computes the next frame. `frame` and `stats` may be NULL. */
GRT_API grt_status grt_session_step(grt_session* session, int32_t action, grt_image* frame,
                                    grt_step_stats* stats, grt_error* error);

/* Does now what the next step would begin with and what does not depend on its action: call it once a frame
 * is shown, and the next picture comes sooner. Frames are the same with and without. */
GRT_API grt_status grt_session_commit(grt_session* session, grt_error* error);

/* Steps many sessions of one world, each with its own action, and returns when all are done; the world's
 * threads are shared among them. `frames`, `stats` and `statuses` hold num_sessions each or are NULL. No
 * session twice. Returns the first status that is not GRT_OK; the other sessions have stepped all the same.
 */
GRT_API grt_status grt_step_many(grt_session* const* sessions, const int32_t* actions, size_t num_sessions,
                                 grt_image* frames, grt_step_stats* stats, grt_status* statuses,
                                 grt_error* error);

/* Computes the frames that each of several actions would lead to. The session stays where it is, and a next
 * step that takes one of them costs nothing. `frames` holds num_actions or is NULL. */
GRT_API grt_status grt_session_peek(grt_session* session, const int32_t* actions, size_t num_actions,
                                    grt_image* frames, grt_error* error);

/* Starts computing the next frame on a thread of the session and returns at once; GRT_ERROR_BUSY if it is
 * already computing one. The first call makes the thread; params.parallel_for is called on it too. Until the
 * frame is fetched or cancelled, other calls on this session return GRT_ERROR_BUSY. */
GRT_API grt_status grt_session_submit(grt_session* session, int32_t action, grt_error* error);

/* Waits at most timeout_ms (0: not at all, negative: as long as it takes) for the frame that was submitted.
 * *done is 1 if it is there, and then `frame` and `stats`, unless NULL, have it and the next may be
 * submitted. A failed step returns its status here. GRT_ERROR_STATE if no frame was submitted. */
GRT_API grt_status grt_session_poll(grt_session* session, double timeout_ms, int32_t* done, grt_image* frame,
                                    grt_step_stats* stats, grt_error* error);

/* Drops the frame that was submitted: the session is as if it had not been. Returns once it stands still,
 * which takes at most a layer's time. GRT_OK if nothing was being computed. */
GRT_API grt_status grt_session_cancel(grt_session* session, grt_error* error);

/* Changes how the next frames are decoded. */
GRT_API grt_status grt_session_set_plan(grt_session* session, const grt_plan* plan, grt_error* error);
GRT_API grt_status grt_session_get_plan(const grt_session* session, grt_plan* plan, grt_error* error);

/* Lets the number of passes follow a target: fewer where frames come late, up to those of the plan where
 * there is time, never below least_passes (0 or 1: 1), which may not be above the plan's. target_ms 0 turns
 * it off. Frames then depend on the clock. */
GRT_API grt_status grt_session_set_deadline(grt_session* session, double target_ms, int32_t least_passes,
                                            grt_error* error);

/* Copies the last picture again. */
GRT_API grt_status grt_session_get_frame(const grt_session* session, grt_image* frame, grt_error* error);

/* ---- Save states -----------------------------------------------------------------------------------------
 */

/* Remembers where a session is. Copies no tensor; see page_bytes for what is kept alive. Free it. */
GRT_API grt_status grt_session_snapshot(const grt_session* session, grt_snapshot** snapshot,
                                        grt_error* error);

/* Goes back, or on, to a snapshot of any session of the same world. The plan and the deadline stay. */
GRT_API grt_status grt_session_restore(grt_session* session, const grt_snapshot* snapshot, grt_error* error);

GRT_API void grt_snapshot_free(grt_snapshot* snapshot);

/* A second session in the same state with the same plan. Belongs to the caller. */
GRT_API grt_status grt_session_fork(const grt_session* session, grt_session** fork, grt_error* error);

/* The most bytes that grt_session_save writes for any session of this world. */
GRT_API grt_status grt_world_save_size(const grt_world* world, size_t* size, grt_error* error);

/* Writes a session to bytes, which any session of the same bundle and precision can load, on any machine.
 * *written is how many they are. */
GRT_API grt_status grt_session_save(const grt_session* session, void* buffer, size_t size, size_t* written,
                                    grt_error* error);

/* Loads what grt_session_save wrote; bytes behind that are not looked at. They are untrusted: all of them are
 * checked first. The plan and the deadline stay. */
GRT_API grt_status grt_session_load(grt_session* session, const void* buffer, size_t size, grt_error* error);

/* ---- For tests, netplay and research ---------------------------------------------------------------------
 */

typedef struct grt_session_state {
  size_t struct_size;
  uint64_t seed;
  int64_t frame_index; /* frames since the reset; -1 before the first reset */
  int32_t action;      /* that led to the last frame; -1 after a reset from one picture */
  int32_t pending;     /* 1 if grt_session_commit has something to do */
  uint64_t digest;     /* of seed, frame index, action, tokens and picture: equal states have equal digests */
} grt_session_state;

static inline void grt_session_state_init(grt_session_state* state) {
  memset(state, 0, sizeof *state);
  state->struct_size = sizeof *state;
}

GRT_API grt_status grt_session_get_state(const grt_session* session, grt_session_state* state,
                                         grt_error* error);

/* The tokens of the last frame, num_tokens of them, raster order. */
GRT_API grt_status grt_session_get_tokens(const grt_session* session, int32_t* tokens, size_t num_tokens,
                                          grt_error* error);

/* Takes given tokens as the next frame, as if they had been decided, and decodes them: for comparing engines.
 * In a session that was never reset they are the first frame: its seed is 0, and `action` has to be -1. */
GRT_API grt_status grt_session_force(grt_session* session, int32_t action, const int32_t* tokens,
                                     size_t num_tokens, grt_image* frame, grt_error* error);

/* Evaluates one whole pass over given tokens (-1: masked) and decides nothing: for comparing engines. The
 * session is committed first. `logits`, num_tokens times codebook_size, and `candidates`, num_tokens, may be
 * NULL. */
GRT_API grt_status grt_session_probe(grt_session* session, int32_t action, const int32_t* tokens,
                                     size_t num_tokens, int32_t pass, float* logits, int32_t* candidates,
                                     grt_error* error);

#ifdef __cplusplus
}
#endif

#endif /* GENIE_RT_H */
