// Steps allocate nothing, whatever goes on around them, and memory stays flat.
//
//     test_no_allocation [steps]

#include <cstdlib>

#include "api_fixture.hpp"

namespace grt::test {
namespace {

const TinyFiles* tiny_files;

// Plays with everything that plays: steps, commits, peeks, submitted frames, snapshots from the shelf.
class Player {
 public:
  Player(grt_world* world, uint64_t seed, grt_reuse reuse) {
    const grt_plan plan = make_plan(GRT_ORDER_MASKGIT, reuse, 2);
    grt_session_params params;
    grt_session_params_init(&params);
    params.plan = &plan;
    params.num_snapshots = kSnapshots;
    session = start(world, seed, &params);
    // The first submitted frame makes the thread.
    int32_t done = 0;
    GRT_CHECK_STATUS(grt_session_submit(session, 0, nullptr), GRT_OK);
    GRT_CHECK_STATUS(grt_session_poll(session, -1, &done, nullptr, nullptr, nullptr), GRT_OK);
  }
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;
  ~Player() {
    for (grt_snapshot* snapshot : snapshots) grt_snapshot_free(snapshot);
    grt_session_free(session);
  }

  void play(uint32_t draw) {
    const auto action = static_cast<int32_t>(draw % kActions);
    const int32_t all[] = {0, 1};
    int32_t done = 0;
    switch (draw / kActions % 8) {
      case 0:
        GRT_CHECK_STATUS(grt_session_commit(session, nullptr), GRT_OK);
        break;
      case 1:
        GRT_CHECK_STATUS(grt_session_peek(session, all, 1 + draw % 2, nullptr, nullptr), GRT_OK);
        break;
      case 2:
        GRT_CHECK_STATUS(grt_session_submit(session, action, nullptr), GRT_OK);
        GRT_CHECK_STATUS(grt_session_poll(session, -1, &done, nullptr, nullptr, nullptr), GRT_OK);
        break;
      case 3:
        GRT_CHECK_STATUS(grt_session_submit(session, action, nullptr), GRT_OK);
        GRT_CHECK_STATUS(grt_session_cancel(session, nullptr), GRT_OK);
        break;
      case 4:
        if (snapshots[kSnapshots - 1] != nullptr) roll_back(draw / 64 % kSnapshots, action);
        break;
      default:
        break;
    }
    advance(action);
  }

  // A snapshot of every frame, in place of the oldest, as netplay keeps them.
  void advance(int32_t action) {
    grt_snapshot*& oldest = snapshots[next++ % kSnapshots];
    grt_snapshot_free(oldest);
    GRT_CHECK_STATUS(grt_session_snapshot(session, &oldest, nullptr), GRT_OK);
    GRT_CHECK_STATUS(grt_session_step(session, action, &frame.image, nullptr, nullptr), GRT_OK);
  }

  // Goes back some frames and plays them again with other actions.
  void roll_back(uint32_t frames, int32_t action) {
    next -= frames + 1;
    GRT_CHECK_STATUS(grt_session_restore(session, snapshots[next % kSnapshots], nullptr), GRT_OK);
    for (uint32_t i = 0; i <= frames; i++) advance(action);
  }

  static constexpr uint32_t kSnapshots = 4;
  grt_session* session = nullptr;

 private:
  grt_snapshot* snapshots[kSnapshots] = {};
  uint32_t next = 0;
  Frame frame;
};

void test_steps_allocate_nothing(int64_t num_steps) {
  Hooks hooks;
  grt_world_params params;
  grt_world_params_init(&params);
  params.allocator = &hooks.hooks;
  params.num_threads = 1;
  grt_world* world = tiny_files->load(&params);
  const int64_t of_world = hooks.live();
  for (const bool ahead : {true, false}) {
    fake::knobs.commits_ahead = ahead;
    Player a(world, 1, GRT_REUSE_NONE), b(world, 2, GRT_REUSE_FRAMES);
    uint32_t random = 7;
    const auto play = [&](int64_t count) {
      for (int64_t i = 0; i < count; i++) {
        random = random * 1664525u + 1013904223u;
        (random >> 31 == 0 ? a : b).play(random >> 8 & 0xFFFFF);
      }
    };
    const int64_t live = hooks.live(), bytes = hooks.live_bytes();
    hooks.restart();
    play(2000);
    grt_session* sessions[] = {a.session, b.session};
    const int32_t actions[] = {1, 2};
    GRT_CHECK_STATUS(grt_step_many(sessions, actions, 2, nullptr, nullptr, nullptr, nullptr), GRT_OK);
    GRT_CHECK_EQ(hooks.num_calls(), 0);
    play(num_steps / 2);
    GRT_CHECK_EQ(hooks.num_calls(), 0);
    GRT_CHECK_EQ(hooks.live(), live);
    GRT_CHECK_EQ(hooks.live_bytes(), bytes);
  }
  fake::knobs.commits_ahead = true;
  GRT_CHECK_EQ(hooks.live(), of_world);
  grt_world_free(world);
  GRT_CHECK_EQ(hooks.live(), 0);
  GRT_CHECK_EQ(hooks.num_wrong(), 0);
}

// Sessions, forks, snapshots and resets that come and go leave nothing behind.
void test_memory_is_flat() {
  Hooks hooks;
  grt_world_params params;
  grt_world_params_init(&params);
  params.allocator = &hooks.hooks;
  params.num_threads = 1;
  grt_world* world = tiny_files->load(&params);
  const int64_t bytes = hooks.live_bytes();
  std::vector<grt_session*> sessions;
  std::vector<grt_snapshot*> snapshots;
  uint32_t random = 3;
  const auto draw = [&](size_t below) {
    random = random * 1664525u + 1013904223u;
    return (random >> 8) % below;
  };
  int64_t most = 0;
  for (int i = 0; i < 20000; i++) {
    if (sessions.empty()) sessions.push_back(start(world, draw(10)));
    grt_session* session = sessions[draw(sessions.size())];
    switch (draw(12)) {
      case 0:
        if (sessions.size() < 6) sessions.push_back(start(world, draw(10)));
        break;
      case 1:
        if (sessions.size() < 6) {
          grt_session* fork = nullptr;
          GRT_CHECK_STATUS(grt_session_fork(session, &fork, nullptr), GRT_OK);
          sessions.push_back(fork);
        }
        break;
      case 2: {
        const size_t which = draw(sessions.size());
        grt_session_free(sessions[which]);
        sessions.erase(sessions.begin() + static_cast<long>(which));
        continue;
      }
      case 3:
        if (snapshots.size() < 10) {
          grt_snapshot* snapshot = nullptr;
          GRT_CHECK_STATUS(grt_session_snapshot(session, &snapshot, nullptr), GRT_OK);
          snapshots.push_back(snapshot);
        }
        break;
      case 4:
        if (!snapshots.empty()) {
          const size_t which = draw(snapshots.size());
          grt_snapshot_free(snapshots[which]);
          snapshots.erase(snapshots.begin() + static_cast<long>(which));
        }
        break;
      case 5:
        if (!snapshots.empty()) {
          const grt_snapshot* snapshot = snapshots[draw(snapshots.size())];
          GRT_CHECK_STATUS(grt_session_restore(session, snapshot, nullptr), GRT_OK);
        }
        break;
      case 6:
        GRT_CHECK_STATUS(grt_session_reset_prompt(session, 1, draw(5), nullptr, nullptr), GRT_OK);
        break;
      case 7: {
        const grt_plan plan =
            make_plan(GRT_ORDER_MASKGIT, draw(2) == 0 ? GRT_REUSE_NONE : GRT_REUSE_FRAMES, 2);
        GRT_CHECK_STATUS(grt_session_set_plan(session, &plan, nullptr), GRT_OK);
        break;
      }
      default: {
        hooks.restart();
        step(session, static_cast<int32_t>(draw(kActions)));
        GRT_CHECK_EQ(hooks.num_calls(), 0);
      }
    }
    if (i < 10000 && hooks.live_bytes() > most) most = hooks.live_bytes();
    if (i >= 10000) GRT_CHECK(hooks.live_bytes() <= most + most / 4);
  }
  for (grt_session* session : sessions) grt_session_free(session);
  for (grt_snapshot* snapshot : snapshots) grt_snapshot_free(snapshot);
  GRT_CHECK_EQ(hooks.live_bytes(), bytes);
  grt_world_free(world);
  GRT_CHECK_EQ(hooks.live(), 0);
}

}  // namespace
}  // namespace grt::test

int main(int argc, char** argv) {
  using namespace grt::test;
  const TinyFiles files;
  tiny_files = &files;
  test_steps_allocate_nothing(argc > 1 ? std::atoll(argv[1]) : 4000);
  test_memory_is_flat();
  return failures();
}
