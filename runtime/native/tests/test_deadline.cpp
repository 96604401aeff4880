// The deadline decides as the Python class does: data/deadlines.txt has what that decided in 120 runs.

#include <cstdlib>
#include <initializer_list>

#include "check.hpp"
#include "engine/deadline.hpp"

namespace grt::test {
namespace {

constexpr int32_t kFrames = 3000;  // NUM_FRAMES of make_deadlines.py

// As `run` in make_deadlines.py.
struct Run {
  long seed, target, most, least, fixed, unit, jitter, spikes, slow_from, slow_by, adaptive, limit_at,
      limit_most;
};

long number(char*& text) { return std::strtol(text, &text, 10); }

void check_run(char* line, int32_t index) {
  Run run;
  for (long* field :
       {&run.seed, &run.target, &run.most, &run.least, &run.fixed, &run.unit, &run.jitter, &run.spikes,
        &run.slow_from, &run.slow_by, &run.adaptive, &run.limit_at, &run.limit_most}) {
    *field = number(line);
  }
  Deadline deadline;
  deadline.start(static_cast<double>(run.target) / 1000.0, static_cast<int32_t>(run.most),
                 static_cast<int32_t>(run.least));
  auto state = static_cast<uint32_t>(run.seed);
  long passes = 0, left = 0;
  for (int32_t frame = 0; frame < kFrames; frame++) {
    if (frame == run.limit_at) {
      deadline.limit(static_cast<int32_t>(run.limit_most),
                     static_cast<int32_t>(run.least < run.limit_most ? run.least : run.limit_most));
    }
    if (left == 0) {
      line++;                    // a comma
      if (*line == ':') line++;  // or the colon before the first
      passes = number(line);
      left = number(line);
    }
    left--;
    if (!GRT_CHECK_EQ(deadline.passes(), passes)) {
      std::fprintf(stderr, "    run %d, frame %d\n", index, frame);
      return;
    }
    state = 1664525u * state + 1013904223u;
    const uint32_t draw = state >> 8;
    const auto allowed = static_cast<uint32_t>(deadline.passes());
    const uint32_t used = run.adaptive != 0 ? 1 + draw % allowed : allowed;
    double ms = (static_cast<double>(run.fixed) / 1000.0 + static_cast<double>(run.unit) / 1000.0 * used) *
                (1.0 + draw / 16777216.0 * (static_cast<double>(run.jitter) / 1000.0));
    if (run.spikes != 0 && draw % static_cast<uint32_t>(run.spikes) == 0) ms = ms * 4.0;
    if (frame >= run.slow_from && frame < run.slow_from + 700) {
      ms = ms * (1.0 + static_cast<double>(run.slow_by) / 1000.0);
    }
    deadline.feed(static_cast<int32_t>(used), ms);
  }
  GRT_CHECK_EQ(left, 0);
}

void test_decides_as_python() {
  std::FILE* file = std::fopen("runtime/native/tests/data/deadlines.txt", "r");
  GRT_REQUIRE(file != nullptr);
  static char line[1 << 16];
  int32_t num_runs = 0;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (line[0] != '#') check_run(line, num_runs++);
  }
  std::fclose(file);
  GRT_CHECK_EQ(num_runs, 120);
}

}  // namespace
}  // namespace grt::test

int main() {
  grt::test::test_decides_as_python();
  return grt::test::failures();
}
