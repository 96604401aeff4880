/* What a frame costs: from the action to its picture.
 *
 *     bench --bundle FOLDER [--plan NAME] [--precision fp32|int8] [--threads N] [--instructions NAME]
 *           [--frames N] [--warm-up N] [--json]
 *
 * first_frame_ms runs from before this program is started anew to the first picture after a step: the start
 * of the process, loading, reset, one step; -1 where it cannot be started anew. resident_bytes is the process
 * after the last frame. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#if defined(__linux__)
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(_WIN32)
#include <malloc.h>
#endif

#include "genie_rt.h"

typedef struct flags {
  const char *bundle, *plan;
  grt_precision precision;
  grt_instructions instructions;
  int threads, frames, warm_up, json;
  double started_ms; /* set in the process that measures the first frame */
} flags;

typedef struct counts {
  long allocations, bytes;
} counts;

typedef struct player {
  counts memory;
  grt_world* world;
  grt_session* session;
  grt_world_info info;
  unsigned char* pixels;
  grt_image frame;
  grt_error error;
} player;

typedef struct results {
  double p50, p90, p99, max, mean;
  double overhead_us; /* median of what a step took besides what it says it took */
  double first_frame_ms;
  long allocations, resident_bytes;
  int passes;
} results;

static const char* const instruction_names[] = {"auto",   "scalar", "sse4",     "avx2",
                                                "avx512", "neon",   "neon-dot", "wasm"};

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* ---- Memory ---------------------------------------------------------------------------------------------
 */

static void* count_allocate(void* user, size_t size, size_t alignment) {
  void* memory = NULL;
  counts* memory_counts = user;
  __atomic_add_fetch(&memory_counts->allocations, 1, __ATOMIC_RELAXED);
  __atomic_add_fetch(&memory_counts->bytes, (long)size, __ATOMIC_RELAXED);
#if defined(_WIN32)
  memory = _aligned_malloc(size, alignment);
#else
  if (posix_memalign(&memory, alignment < sizeof(void*) ? sizeof(void*) : alignment, size) != 0) return NULL;
#endif
  return memory;
}

static void count_release(void* user, void* memory, size_t size) {
  counts* memory_counts = user;
  __atomic_sub_fetch(&memory_counts->bytes, (long)size, __ATOMIC_RELAXED);
#if defined(_WIN32)
  _aligned_free(memory);
#else
  free(memory);
#endif
}

/* What the process holds in memory, or -1 where nobody says. */
static long resident_bytes(void) {
#if defined(__linux__)
  long total = 0, resident = -1;
  FILE* file = fopen("/proc/self/statm", "r");
  if (file == NULL) return -1;
  if (fscanf(file, "%ld %ld", &total, &resident) != 2) resident = -1;
  fclose(file);
  return resident < 0 ? -1 : resident * sysconf(_SC_PAGESIZE);
#else
  return -1;
#endif
}

/* ---- Playing --------------------------------------------------------------------------------------------
 */

static grt_status load(player* me, const flags* given) {
  grt_world_params params;
  grt_session_params session_params;
  grt_allocator allocator;
  grt_plan plan;
  grt_status status;
  size_t size;
  grt_error_init(&me->error);
  grt_world_params_init(&params);
  grt_session_params_init(&session_params);
  grt_allocator_init(&allocator);
  grt_plan_init(&plan);
  grt_world_info_init(&me->info);
  allocator.allocate = count_allocate;
  allocator.release = count_release;
  allocator.user = &me->memory;
  params.allocator = &allocator;
  params.precision = given->precision;
  params.instructions = given->instructions;
  params.num_threads = given->threads;
  session_params.plan = &plan;
  session_params.most_peeks = 1;
  status = grt_world_load(given->bundle, &params, &me->world, &me->error);
  if (status == GRT_OK) status = grt_world_get_info(me->world, &me->info, &me->error);
  if (status == GRT_OK) status = grt_world_get_plan(me->world, given->plan, &plan, &me->error);
  if (status == GRT_OK) status = grt_session_create(me->world, &session_params, &me->session, &me->error);
  if (status != GRT_OK) return status;
  size = (size_t)me->info.frame_width * (size_t)me->info.frame_height * 4;
  me->pixels = malloc(size);
  grt_image_init(&me->frame, me->pixels, size, GRT_FORMAT_RGBA8);
  return grt_session_reset_prompt(me->session, 0, 0, &me->frame, &me->error);
}

static void unload(player* me) {
  grt_session_free(me->session);
  grt_world_free(me->world);
  free(me->pixels);
}

static int32_t action_of(const player* me, int frame) { return frame / 8 % me->info.num_actions; }

static int by_value(const void* a, const void* b) {
  const double first = *(const double*)a, second = *(const double*)b;
  return (first > second) - (first < second);
}

/* The smallest value that at least `percent` of all values do not exceed. */
static double percentile(const double* sorted, int count, int percent) {
  const int rank = (count * percent + 99) / 100;
  return sorted[rank > 0 ? rank - 1 : 0];
}

static grt_status measure(player* me, const flags* given, results* found) {
  double* times = malloc(sizeof(double) * (size_t)given->frames);
  double* besides = malloc(sizeof(double) * (size_t)given->frames);
  grt_step_stats stats;
  grt_status status = times != NULL && besides != NULL ? GRT_OK : GRT_ERROR_OUT_OF_MEMORY;
  long before = 0;
  int frame;
  grt_step_stats_init(&stats);
  for (frame = 0; status == GRT_OK && frame < given->warm_up + given->frames; frame++) {
    const double start = now_ms();
    if (frame == given->warm_up) before = me->memory.allocations;
    status = grt_session_step(me->session, action_of(me, frame), &me->frame, &stats, &me->error);
    if (frame < given->warm_up) continue;
    times[frame - given->warm_up] = now_ms() - start;
    besides[frame - given->warm_up] = times[frame - given->warm_up] - stats.total_ms;
    found->mean += times[frame - given->warm_up] / given->frames;
  }
  if (status == GRT_OK) {
    found->allocations = me->memory.allocations - before;
    found->resident_bytes = resident_bytes();
    found->passes = stats.passes;
    qsort(times, (size_t)given->frames, sizeof *times, by_value);
    qsort(besides, (size_t)given->frames, sizeof *besides, by_value);
    found->p50 = percentile(times, given->frames, 50);
    found->p90 = percentile(times, given->frames, 90);
    found->p99 = percentile(times, given->frames, 99);
    found->max = percentile(times, given->frames, 100);
    found->overhead_us = percentile(besides, given->frames, 50) * 1e3;
  }
  free(times);
  free(besides);
  return status;
}

/* Starts this program anew, which prints how long it took to its first frame; -1 where that cannot be done.
 */
static double measure_first_frame(int argc, char** argv) {
#if defined(__linux__)
  char started[64], text[64] = "";
  char** arguments = calloc((size_t)argc + 3, sizeof *arguments);
  int ends[2], i, status = 1;
  ssize_t size;
  pid_t child;
  if (arguments == NULL || pipe(ends) != 0) return -1;
  for (i = 0; i < argc; i++) arguments[i] = argv[i];
  arguments[argc] = "--started-ms";
  arguments[argc + 1] = started;
  snprintf(started, sizeof started, "%.6f", now_ms());
  child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execv("/proc/self/exe", arguments);
    _exit(127);
  }
  close(ends[1]);
  size = read(ends[0], text, sizeof text - 1);
  close(ends[0]);
  free(arguments);
  if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0 || size <= 0) return -1;
  return atof(text);
#else
  (void)argc;
  (void)argv;
  return -1;
#endif
}

/* ---- Telling --------------------------------------------------------------------------------------------
 */

static void print_results(const player* me, const flags* given, const results* found) {
  const char* precision = me->info.precision == GRT_PRECISION_INT8 ? "int8" : "fp32";
  const char* instructions = instruction_names[me->info.instructions];
  if (given->json) {
    printf(
        "{\"world\": \"%s\", \"plan\": \"%s\", \"passes\": %d, \"precision\": \"%s\", \"instructions\": "
        "\"%s\", ",
        me->info.name, given->plan, found->passes, precision, instructions);
    printf("\"threads\": %d, \"frames\": %d, \"warm_up\": %d, \"mean_ms\": %.4f, \"p50_ms\": %.4f, ",
           (int)me->info.num_threads, given->frames, given->warm_up, found->mean, found->p50);
    printf("\"p90_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f, \"first_frame_ms\": %.2f, ", found->p90,
           found->p99, found->max, found->first_frame_ms);
    printf(
        "\"api_overhead_us\": %.2f, \"allocations_in_steps\": %ld, \"held_bytes\": %ld, \"resident_bytes\": "
        "%ld}\n",
        found->overhead_us, found->allocations, me->memory.bytes, found->resident_bytes);
    return;
  }
  printf("%s, plan %s (%d passes), %s, %s, %d threads, %d frames\n", me->info.name, given->plan,
         found->passes, precision, instructions, (int)me->info.num_threads, given->frames);
  printf("  a frame      p50 %.3f ms   p90 %.3f   p99 %.3f   max %.3f   mean %.3f\n", found->p50, found->p90,
         found->p99, found->max, found->mean);
  if (found->first_frame_ms >= 0) {
    printf("  first frame  %.1f ms after the start of the process\n", found->first_frame_ms);
  }
  printf("  API          %.2f us a step besides the frame's own time\n", found->overhead_us);
  printf("  memory       %ld allocations in steps, %.1f MB held, %.1f MB resident\n", found->allocations,
         (double)me->memory.bytes / 1e6, (double)found->resident_bytes / 1e6);
}

static int usage(void) {
  fprintf(stderr,
          "usage: bench --bundle FOLDER [--plan NAME] [--precision fp32|int8] [--threads N]\n"
          "             [--instructions auto|scalar|sse4|avx2|avx512|neon|neon-dot|wasm] [--frames N] "
          "[--warm-up N]"
          " [--json]\n");
  return 2;
}

static int parse(int argc, char** argv, flags* given) {
  int i, k;
  for (i = 1; i < argc; i++) {
    const char* flag = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (strcmp(flag, "--json") == 0) {
      given->json = 1;
      continue;
    }
    if (strcmp(flag, "--bundle") == 0) {
      given->bundle = value;
    } else if (strcmp(flag, "--plan") == 0) {
      given->plan = value;
    } else if (strcmp(flag, "--precision") == 0) {
      given->precision = strcmp(value, "int8") == 0 ? GRT_PRECISION_INT8 : GRT_PRECISION_FLOAT32;
      if (given->precision == GRT_PRECISION_FLOAT32 && strcmp(value, "fp32") != 0) return 0;
    } else if (strcmp(flag, "--threads") == 0) {
      given->threads = atoi(value);
    } else if (strcmp(flag, "--instructions") == 0) {
      for (k = 0; k < 8 && strcmp(value, instruction_names[k]) != 0; k++) {
      }
      if (k == 8) return 0;
      given->instructions = (grt_instructions)k;
    } else if (strcmp(flag, "--frames") == 0) {
      given->frames = atoi(value);
    } else if (strcmp(flag, "--warm-up") == 0) {
      given->warm_up = atoi(value);
    } else if (strcmp(flag, "--started-ms") == 0) {
      given->started_ms = atof(value);
    } else {
      return 0;
    }
    i++;
  }
  return given->bundle != NULL && given->frames > 0 && given->warm_up >= 0;
}

int main(int argc, char** argv) {
  flags given = {NULL, "default", GRT_PRECISION_AUTO, GRT_INSTRUCTIONS_AUTO, 0, 300, 30, 0, 0};
  player me;
  results found;
  grt_status status;
  memset(&me, 0, sizeof me);
  memset(&found, 0, sizeof found);
  if (!parse(argc, argv, &given)) return usage();
  if (given.started_ms <= 0) found.first_frame_ms = measure_first_frame(argc, argv);
  status = load(&me, &given);
  if (status == GRT_OK && given.started_ms > 0) {
    status = grt_session_step(me.session, 0, &me.frame, NULL, &me.error);
    if (status == GRT_OK) printf("%.6f\n", now_ms() - given.started_ms);
  } else if (status == GRT_OK) {
    status = measure(&me, &given, &found);
    if (status == GRT_OK) print_results(&me, &given, &found);
  }
  if (status != GRT_OK) fprintf(stderr, "%s: %s\n", grt_status_name(status), me.error.message);
  unload(&me);
  return status == GRT_OK ? 0 : 1;
}
