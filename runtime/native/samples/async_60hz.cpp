// A loop of 60 Hz over a world that may be slower: the loop never waits for a frame. Prints how even it ran.
//
//     async_60hz BUNDLE [--passes N] [--world-hz N] [--policy repeat|drop] [--ticks N]
//
// Where a frame is late, the last picture is shown again. What becomes of the world's time is the policy:
//   repeat  no step is left out: the world's clock stands still until the frame is there (slow motion)
//   drop    the world's clock goes on: steps that were due meanwhile are left out (jumps, but in time)
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "genie_rt.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLoopHz = 60;

struct Flags {
  const char* bundle = nullptr;
  int passes = 0;  // 0: as the bundle's plan says
  double world_hz = 30;
  bool drops = false;
  int ticks = 300;
};

struct Counts {
  int shown = 0;     // ticks that showed a new frame
  int repeated = 0;  // ticks that showed the last one again
  int late = 0;      // of these: the world's next step was due, but its last one not done
  int dropped = 0;   // steps that were left out
};

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

Clock::duration seconds(double value) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(value));
}

double percentile(std::vector<double> values, double percent) {  // nearest rank
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(percent / 100 * static_cast<double>(values.size()));
  return values[static_cast<size_t>(std::max(1.0, rank)) - 1];
}

void print_times(const char* name, const std::vector<double>& values) {
  std::printf("%-12s p50 %7.3f ms   p99 %7.3f ms   max %7.3f ms\n", name, percentile(values, 50),
              percentile(values, 99), percentile(values, 100));
}

bool parse(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; i++) {
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (argv[i][0] != '-') {
      flags.bundle = argv[i];
      continue;
    }
    if (std::strcmp(argv[i], "--passes") == 0) {
      flags.passes = std::atoi(value);
    } else if (std::strcmp(argv[i], "--world-hz") == 0) {
      flags.world_hz = std::atof(value);
    } else if (std::strcmp(argv[i], "--ticks") == 0) {
      flags.ticks = std::atoi(value);
    } else if (std::strcmp(argv[i], "--policy") == 0) {
      flags.drops = std::strcmp(value, "drop") == 0;
      if (!flags.drops && std::strcmp(value, "repeat") != 0) return false;
    } else {
      return false;
    }
    i++;
  }
  return flags.bundle != nullptr && flags.world_hz > 0 && flags.ticks > 1 && flags.passes >= 0;
}

struct Game {
  grt_world* world = nullptr;
  grt_session* session = nullptr;
  std::vector<unsigned char> pixels, screen;
  grt_image frame{};
  grt_error error;
  int32_t actions[2] = {0, 0};

  Game() { grt_error_init(&error); }
  Game(const Game&) = delete;
  Game& operator=(const Game&) = delete;
  ~Game() {
    grt_session_free(session);
    grt_world_free(world);
  }

  bool load(const Flags& flags) {
    grt_world_info info;
    grt_plan plan;
    grt_world_info_init(&info);
    grt_plan_init(&plan);
    if (grt_world_load(flags.bundle, nullptr, &world, &error) != GRT_OK) return false;
    if (grt_world_get_info(world, &info, &error) != GRT_OK) return false;
    if (grt_session_create(world, nullptr, &session, &error) != GRT_OK) return false;
    if (grt_session_get_plan(session, &plan, &error) != GRT_OK) return false;
    if (flags.passes > 0) plan.passes = flags.passes;
    if (grt_session_set_plan(session, &plan, &error) != GRT_OK) return false;
    pixels.resize(static_cast<size_t>(info.frame_width) * static_cast<size_t>(info.frame_height) * 4);
    screen = pixels;
    grt_image_init(&frame, pixels.data(), pixels.size(), GRT_FORMAT_RGBA8);
    if (grt_world_find_action(world, "right", &actions[0], nullptr) != GRT_OK)
      actions[0] = info.default_action;
    if (grt_world_find_action(world, "right+jump", &actions[1], nullptr) != GRT_OK) actions[1] = actions[0];
    return grt_session_reset_prompt(session, 0, 0, &frame, &error) == GRT_OK;
  }
};

// Plays, and times each turn of the loop (`periods`) and what the calls of the library took in it (`calls`).
bool play(const Flags& flags, Game& game, Counts& counts, std::vector<double>& periods,
          std::vector<double>& calls) {
  const auto world_period = seconds(1 / flags.world_hz);
  const auto start = Clock::now();
  auto due = start;  // of the world's next step
  auto last = start;
  bool is_computing = false;
  for (int tick = 1; tick <= flags.ticks; tick++) {
    std::this_thread::sleep_until(start + seconds(tick / kLoopHz));
    if (tick > 1) periods.push_back(ms_since(last));
    last = Clock::now();

    int32_t done = 0;
    if (is_computing &&
        grt_session_poll(game.session, 0, &done, &game.frame, nullptr, &game.error) != GRT_OK) {
      return false;
    }
    if (done) is_computing = false;
    if (last >= due && is_computing) {
      counts.late++;
    } else if (last >= due) {
      const int32_t action = game.actions[tick / 20 % 2];
      if (grt_session_submit(game.session, action, &game.error) != GRT_OK) return false;
      is_computing = true;
      due += world_period;
      while (flags.drops && due <= last) {
        due += world_period;
        counts.dropped++;
      }
      if (!flags.drops) due = std::max(due, last);
    }
    calls.push_back(ms_since(last));

    if (done) {
      std::copy(game.pixels.begin(), game.pixels.end(), game.screen.begin());  // a game draws here
      counts.shown++;
    } else {
      counts.repeated++;
    }
  }
  return grt_session_cancel(game.session, &game.error) == GRT_OK;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  if (!parse(argc, argv, flags)) {
    std::fprintf(stderr,
                 "usage: async_60hz BUNDLE [--passes N] [--world-hz N] [--policy repeat|drop] [--ticks N]\n");
    return 2;
  }
  Game game;
  Counts counts;
  std::vector<double> periods, calls;
  if (!game.load(flags) || !play(flags, game, counts, periods, calls)) {
    std::fprintf(stderr, "%s\n", game.error.message);
    return 1;
  }
  print_times("loop", periods);
  print_times("calls", calls);
  std::printf("frames shown %d, repeated %d, late %d, steps dropped %d, policy %s\n", counts.shown,
              counts.repeated, counts.late, counts.dropped, flags.drops ? "drop" : "repeat");
  return counts.shown > 0 ? 0 : 1;
}
