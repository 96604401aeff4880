// Plays a world with every kind of plan through the C header, and prints hashes of what came out:
//
//     determinism BUNDLE [--precision int8|float32] [--instructions NAME] [--threads N] [--frames N] [--plans
//     N]
//
// Each line has the bundle's name, precision, plan, seed, a number of frames, and the 64-bit FNV-1a hash of
// their pictures and tokens. determinism.py compares them with the table that is kept, determinism.txt. Exit
// status 77: this build or processor lacks the instructions.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "genie_rt.h"

namespace {

constexpr int kUnsupported = 77;
constexpr int32_t kCheckpoints[] = {4, 32, 256};  // slow machines compare the first frames alone
constexpr uint64_t kSeeds[] = {1, 0x9E3779B97F4A7C15};

struct NamedPlan {
  const char* name;
  grt_order order;
  grt_reuse reuse;
  int32_t passes;
};

// Every order and all that may be reused; the first two are the quick test.
constexpr NamedPlan kPlans[] = {
    {"maskgit-2", GRT_ORDER_MASKGIT, GRT_REUSE_NONE, 2},
    {"halton-4-passes", GRT_ORDER_HALTON, GRT_REUSE_PASSES, 4},
    {"adaptive-4", GRT_ORDER_ADAPTIVE, GRT_REUSE_NONE, 4},
    {"random-2", GRT_ORDER_RANDOM, GRT_REUSE_NONE, 2},
    {"halton-2", GRT_ORDER_HALTON, GRT_REUSE_NONE, 2},
    {"maskgit-1", GRT_ORDER_MASKGIT, GRT_REUSE_NONE, 1},
    {"random-4-passes", GRT_ORDER_RANDOM, GRT_REUSE_PASSES, 4},
    {"maskgit-2-frames", GRT_ORDER_MASKGIT, GRT_REUSE_FRAMES, 2},
};
constexpr int32_t kNumPlans = sizeof kPlans / sizeof kPlans[0];

constexpr const char* kInstructions[] = {"auto",   "scalar", "sse4",     "avx2",
                                         "avx512", "neon",   "neon_dot", "wasm"};

struct Options {
  const char* bundle = nullptr;
  grt_precision precision = GRT_PRECISION_INT8;
  grt_instructions instructions = GRT_INSTRUCTIONS_AUTO;
  int32_t threads = 1, frames = 256, plans = kNumPlans;
};

class Hash {
 public:
  void add(const void* bytes, size_t size) {
    const auto* at = static_cast<const unsigned char*>(bytes);
    for (size_t i = 0; i < size; i++) value_ = (value_ ^ at[i]) * 0x100000001B3;
  }
  // Little-endian, whatever the machine is.
  void add_tokens(const int32_t* tokens, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
      const auto token = static_cast<uint32_t>(tokens[i]);
      const unsigned char bytes[] = {
          static_cast<unsigned char>(token), static_cast<unsigned char>(token >> 8),
          static_cast<unsigned char>(token >> 16), static_cast<unsigned char>(token >> 24)};
      add(bytes, sizeof bytes);
    }
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xCBF29CE484222325;
};

// Keys are held for a few frames, as players do.
class Keys {
 public:
  Keys(uint64_t seed, int32_t num_actions) : state_(seed), num_actions_(num_actions) {}

  int32_t next() {
    if (left_ == 0) {
      state_ = state_ * 6364136223846793005 + 1442695040888963407;
      action_ = static_cast<int32_t>((state_ >> 33) % static_cast<uint64_t>(num_actions_));
      left_ = 1 + static_cast<int32_t>((state_ >> 20) % 5);
    }
    left_--;
    return action_;
  }

 private:
  uint64_t state_;
  int32_t num_actions_, action_ = 0, left_ = 0;
};

// A frame and its tokens, in memory of their own.
struct Frame {
  grt_world_info info;
  unsigned char* pixels = nullptr;
  int32_t* tokens = nullptr;

  explicit Frame(const grt_world_info& of) : info(of) {
    pixels = static_cast<unsigned char*>(std::calloc(size(), 1));
    tokens = static_cast<int32_t*>(std::calloc(static_cast<size_t>(info.num_tokens), sizeof *tokens));
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  ~Frame() {
    std::free(pixels);
    std::free(tokens);
  }
  size_t size() const {
    return static_cast<size_t>(info.frame_width) * static_cast<size_t>(info.frame_height) * 3;
  }
};

bool add_to(Hash& hash, const grt_session* session, Frame& frame, grt_error& error) {
  const auto num_tokens = static_cast<size_t>(frame.info.num_tokens);
  if (grt_session_get_tokens(session, frame.tokens, num_tokens, &error) != GRT_OK) return false;
  hash.add(frame.pixels, frame.size());
  hash.add_tokens(frame.tokens, frame.info.num_tokens);
  return true;
}

bool play(grt_session* session, const Options& options, const NamedPlan& named, uint64_t seed, Frame& frame,
          grt_error& error) {
  grt_plan plan;
  grt_plan_init(&plan);
  if (grt_session_get_plan(session, &plan, &error) != GRT_OK) return false;
  plan.order = named.order;
  plan.reuse = named.reuse;
  plan.passes = named.passes;
  if (grt_session_set_plan(session, &plan, &error) != GRT_OK) return false;

  grt_image image;
  grt_image_init(&image, frame.pixels, frame.size(), GRT_FORMAT_RGB8);
  Hash hash;
  Keys keys(seed, frame.info.num_actions);
  const auto prompt = static_cast<int32_t>(seed % static_cast<uint64_t>(frame.info.num_prompts));
  if (grt_session_reset_prompt(session, prompt, seed, &image, &error) != GRT_OK) return false;
  if (!add_to(hash, session, frame, error)) return false;

  const int32_t* checkpoint = kCheckpoints;
  for (int32_t i = 1; i <= options.frames; i++) {
    if (grt_session_step(session, keys.next(), &image, nullptr, &error) != GRT_OK) return false;
    if (!add_to(hash, session, frame, error)) return false;
    // Committing early or with the next pass is to make no difference.
    if (i % 3 == 0 && grt_session_commit(session, &error) != GRT_OK) return false;
    if (i == *checkpoint) {
      std::printf("%s %s %s %016llx %d %016llx\n", frame.info.name,
                  options.precision == GRT_PRECISION_INT8 ? "int8" : "float32", named.name,
                  static_cast<unsigned long long>(seed), static_cast<int>(i),
                  static_cast<unsigned long long>(hash.value()));
      std::fflush(stdout);
      if (checkpoint + 1 < kCheckpoints + sizeof kCheckpoints / sizeof *kCheckpoints) checkpoint++;
    }
  }
  return true;
}

int play_all(const Options& options) {
  grt_error error;
  grt_error_init(&error);
  grt_world_params params;
  grt_world_params_init(&params);
  params.precision = options.precision;
  params.instructions = options.instructions;
  params.num_threads = options.threads;
  grt_world* world = nullptr;
  grt_session* session = nullptr;
  grt_world_info info;
  grt_world_info_init(&info);
  grt_session_params session_params;
  grt_session_params_init(&session_params);

  int result = 1;
  const grt_status loaded = grt_world_load(options.bundle, &params, &world, &error);
  if (loaded == GRT_ERROR_UNSUPPORTED) {
    result = kUnsupported;
  } else if (loaded == GRT_OK && grt_world_get_info(world, &info, &error) == GRT_OK &&
             grt_session_create(world, &session_params, &session, &error) == GRT_OK) {
    std::fprintf(stderr, "%s: %s, %d threads\n", info.name, kInstructions[info.instructions],
                 static_cast<int>(info.num_threads));
    Frame frame(info);
    bool good = frame.pixels != nullptr && frame.tokens != nullptr;
    for (int32_t plan = 0; good && plan < options.plans; plan++) {
      for (uint64_t seed : kSeeds) {
        good = good && play(session, options, kPlans[plan], seed, frame, error);
      }
    }
    result = good ? 0 : 1;
  }
  if (result != 0) std::fprintf(stderr, "determinism: %s\n", error.message);
  grt_session_free(session);
  grt_world_free(world);
  return result;
}

bool read(int argc, char** argv, Options& options) {
  if (argc < 2 || argc % 2 != 0) return false;
  options.bundle = argv[1];
  for (int i = 2; i < argc; i += 2) {
    const char *flag = argv[i], *value = argv[i + 1];
    if (std::strcmp(flag, "--precision") == 0) {
      options.precision = std::strcmp(value, "float32") == 0 ? GRT_PRECISION_FLOAT32 : GRT_PRECISION_INT8;
    } else if (std::strcmp(flag, "--instructions") == 0) {
      int32_t found = 0;
      while (found < 8 && std::strcmp(kInstructions[found], value) != 0) found++;
      if (found == 8) return false;
      options.instructions = static_cast<grt_instructions>(found);
    } else {
      int32_t* number = std::strcmp(flag, "--threads") == 0  ? &options.threads
                        : std::strcmp(flag, "--frames") == 0 ? &options.frames
                        : std::strcmp(flag, "--plans") == 0  ? &options.plans
                                                             : nullptr;
      if (number == nullptr) return false;
      *number = static_cast<int32_t>(std::strtol(value, nullptr, 10));
    }
  }
  return options.plans >= 1 && options.plans <= kNumPlans;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!read(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: determinism BUNDLE [--precision int8|float32] [--instructions NAME] [--threads N] "
                 "[--frames N] [--plans 1..%d]\n",
                 static_cast<int>(kNumPlans));
    return 2;
  }
  return play_all(options);
}
