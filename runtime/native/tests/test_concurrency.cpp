// Sessions in many threads, frames in the background, and two threads where there should be one. Run it with
// ThreadSanitizer.

#include <chrono>
#include <thread>

#include "api_fixture.hpp"

namespace grt::test {
namespace {

const TinyFiles* tiny_files;

grt_world* load(int32_t num_threads, Hooks* hooks = nullptr) {
  grt_world_params params;
  grt_world_params_init(&params);
  params.num_threads = num_threads;
  if (hooks != nullptr) params.allocator = &hooks->hooks;
  return tiny_files->load(&params);
}

// What a session gives that nobody disturbs.
std::vector<uint64_t> expected_of(grt_world* world, uint64_t seed, int32_t num_steps) {
  grt_session* session = start(world, seed);
  std::vector<uint64_t> digests;
  for (int32_t i = 0; i < num_steps; i++) {
    step(session, i % kActions);
    digests.push_back(digest_of(session));
  }
  grt_session_free(session);
  return digests;
}

// Threads play sessions of one world in all ways and share a snapshot; the world's handle goes first.
void test_sessions_in_threads() {
  constexpr uint64_t kThreads = 4;
  constexpr int32_t kSteps = 60;
  Hooks hooks;
  grt_world* world = load(2, &hooks);
  std::vector<uint64_t> expected[kThreads];
  for (uint64_t t = 0; t < kThreads; t++) expected[t] = expected_of(world, t, kSteps);
  grt_session* origin = start(world, 99);
  for (int i = 0; i < 5; i++) step(origin, 1);
  grt_snapshot* shared = nullptr;
  GRT_CHECK_STATUS(grt_session_snapshot(origin, &shared, nullptr), GRT_OK);
  const std::vector<uint64_t> of_shared = future_of(origin);
  grt_session* sessions[kThreads];
  for (uint64_t t = 0; t < kThreads; t++) sessions[t] = start(world, t);
  grt_world_free(world);

  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; t++) {
    threads.emplace_back([&, t] {
      grt_session* session = sessions[t];
      for (int32_t i = 0; i < kSteps; i++) {
        const int32_t all[] = {0, 1};
        int32_t done = 0;
        if (i % 5 == 1) GRT_CHECK_STATUS(grt_session_peek(session, all, 2, nullptr, nullptr), GRT_OK);
        if (i % 5 == 2) GRT_CHECK_STATUS(grt_session_commit(session, nullptr), GRT_OK);
        if (i % 5 == 3) {  // somewhere else and back
          grt_snapshot* here = nullptr;
          GRT_CHECK_STATUS(grt_session_snapshot(session, &here, nullptr), GRT_OK);
          GRT_CHECK_STATUS(grt_session_restore(session, shared, nullptr), GRT_OK);
          GRT_CHECK(future_of(session) == of_shared);
          step(session, 0);
          GRT_CHECK_STATUS(grt_session_restore(session, here, nullptr), GRT_OK);
          grt_snapshot_free(here);
        }
        if (i % 5 == 4) {
          GRT_CHECK_STATUS(grt_session_submit(session, i % kActions, nullptr), GRT_OK);
          GRT_CHECK_STATUS(grt_session_poll(session, -1, &done, nullptr, nullptr, nullptr), GRT_OK);
          GRT_CHECK_EQ(done, 1);
        } else {
          step(session, i % kActions);
        }
        GRT_CHECK_EQ(digest_of(session), expected[t][static_cast<size_t>(i)]);
      }
      grt_session_free(session);
    });
  }
  for (std::thread& thread : threads) thread.join();
  GRT_CHECK(future_of(origin) == of_shared);
  grt_session_free(origin);
  grt_snapshot_free(shared);
  GRT_CHECK_EQ(hooks.live(), 0);
  GRT_CHECK_EQ(hooks.num_wrong(), 0);
}

void run_in_threads(void*, int32_t count, grt_task task, void* context) {
  std::vector<std::thread> threads;
  for (int32_t i = 0; i < count; i++) threads.emplace_back([=] { task(context, i); });
  for (std::thread& thread : threads) thread.join();
}

// Many sessions in one call give what each gives alone, with few and many threads, and with a job system.
void test_step_many() {
  constexpr size_t kSessions = 5;
  for (const int32_t num_threads : {1, 3, 8, -3}) {
    grt_world_params params;
    grt_world_params_init(&params);
    params.num_threads = num_threads < 0 ? -num_threads : num_threads;
    if (num_threads < 0) params.parallel_for = run_in_threads;
    grt_world* world = tiny_files->load(&params);
    grt_session *sessions[kSessions], *alone[kSessions];
    for (size_t i = 0; i < kSessions; i++) {
      sessions[i] = start(world, i);
      alone[i] = start(world, i);
    }
    for (int32_t round = 0; round < 8; round++) {
      Frame frames[kSessions], frame;
      grt_image images[kSessions];
      grt_step_stats stats[kSessions];
      grt_status statuses[kSessions];
      int32_t actions[kSessions];
      for (size_t i = 0; i < kSessions; i++) {
        images[i] = frames[i].image;
        grt_step_stats_init(&stats[i]);
        actions[i] = static_cast<int32_t>(i + static_cast<size_t>(round)) % kActions;
      }
      GRT_CHECK_STATUS(grt_step_many(sessions, actions, kSessions, images, stats, statuses, nullptr), GRT_OK);
      for (size_t i = 0; i < kSessions; i++) {
        step(alone[i], actions[i], &frame);
        GRT_CHECK(frame == frames[i]);
        GRT_CHECK_EQ(digest_of(alone[i]), digest_of(sessions[i]));
        GRT_CHECK_STATUS(statuses[i], GRT_OK);
        GRT_CHECK_EQ(stats[i].frame_index, round + 1);
      }
    }
    for (size_t i = 0; i < kSessions; i++) {
      grt_session_free(sessions[i]);
      grt_session_free(alone[i]);
    }
    grt_world_free(world);
  }
}

void wait_until_computing(int count = 1) {
  while (fake::knobs.num_waiting < count) std::this_thread::yield();
}

void test_frames_in_the_background() {
  grt_world* world = load(2);
  const std::vector<uint64_t> expected = expected_of(world, 7, 12);
  grt_session* session = start(world, 7);
  int32_t done = 0;
  Frame frame, last;
  for (int32_t i = 0; i < 12; i++) {
    grt_step_stats stats;
    grt_step_stats_init(&stats);
    fake::knobs.is_closed = true;
    GRT_CHECK_STATUS(grt_session_submit(session, i % kActions, nullptr), GRT_OK);
    wait_until_computing();
    done = 5;
    GRT_CHECK_STATUS(grt_session_poll(session, i % 2 == 0 ? 0 : 0.5, &done, &frame.image, &stats, nullptr),
                     GRT_OK);
    GRT_CHECK_EQ(done, 0);
    GRT_CHECK_EQ(stats.passes, 0);
    GRT_CHECK_STATUS(grt_session_submit(session, 0, nullptr), GRT_ERROR_BUSY);
    fake::knobs.is_closed = false;
    while (done == 0) {
      GRT_CHECK_STATUS(grt_session_poll(session, 5, &done, &frame.image, &stats, nullptr), GRT_OK);
    }
    GRT_CHECK_EQ(stats.frame_index, i + 1);
    GRT_CHECK_EQ(digest_of(session), expected[static_cast<size_t>(i)]);
    GRT_CHECK_STATUS(grt_session_get_frame(session, &last.image, nullptr), GRT_OK);
    GRT_CHECK(last == frame);
  }
  // A frame that was peeked at is there at once, and may be cancelled as well.
  const int32_t action = 1;
  GRT_CHECK_STATUS(grt_session_peek(session, &action, 1, &frame.image, nullptr), GRT_OK);
  const std::vector<uint64_t> before = future_of(session);
  GRT_CHECK_STATUS(grt_session_submit(session, 1, nullptr), GRT_OK);
  GRT_CHECK_STATUS(grt_session_cancel(session, nullptr), GRT_OK);
  GRT_CHECK(future_of(session) == before);
  GRT_CHECK_STATUS(grt_session_submit(session, 1, nullptr), GRT_OK);
  grt_step_stats stats;
  grt_step_stats_init(&stats);
  GRT_CHECK_STATUS(grt_session_poll(session, 0, &done, &last.image, &stats, nullptr), GRT_OK);
  GRT_CHECK(done == 1 && stats.from_peek == 1 && last == frame);
  grt_session_free(session);
  grt_world_free(world);
}

void test_cancel() {
  grt_world* world = load(2);
  grt_session* session = start(world, 7);
  for (int i = 0; i < 6; i++) step(session, 1);
  const std::vector<uint64_t> before = future_of(session);
  for (int32_t i = 0; i < 20; i++) {
    fake::knobs.is_closed = i % 2 == 0;  // cancelled within the frame, or just before or after
    GRT_CHECK_STATUS(grt_session_submit(session, i % kActions, nullptr), GRT_OK);
    if (i % 2 == 0) wait_until_computing();
    GRT_CHECK_STATUS(grt_session_cancel(session, nullptr), GRT_OK);
    fake::knobs.is_closed = false;
    GRT_CHECK(future_of(session) == before);
  }
  step(session, 1);
  GRT_CHECK_EQ(digest_of(session), [&] {
    grt_session* other = start(world, 7);
    for (int i = 0; i < 7; i++) step(other, 1);
    const uint64_t digest = digest_of(other);
    grt_session_free(other);
    return digest;
  }());
  // A session may be freed while it computes, and with a frame that nobody fetched.
  fake::knobs.is_closed = true;
  GRT_CHECK_STATUS(grt_session_submit(session, 0, nullptr), GRT_OK);
  wait_until_computing();
  grt_session_free(session);
  fake::knobs.is_closed = false;
  session = start(world, 7);
  GRT_CHECK_STATUS(grt_session_submit(session, 0, nullptr), GRT_OK);
  grt_session_free(session);
  grt_world_free(world);
}

// While a call is in a session, every other call from another thread is told so.
void test_two_threads_in_a_session() {
  grt_world* world = load(1);
  grt_session* session = start(world, 7);
  step(session, 0);
  grt_snapshot *snapshot = nullptr, *made = nullptr;
  GRT_CHECK_STATUS(grt_session_snapshot(session, &snapshot, nullptr), GRT_OK);
  fake::knobs.is_closed = true;
  std::thread other([&] { step(session, 1); });
  wait_until_computing();
  grt_error error;
  grt_error_init(&error);
  const int32_t action = 0;
  int32_t done = 0;
  grt_status status = GRT_OK;
  GRT_CHECK_STATUS(grt_session_step(session, 0, nullptr, nullptr, &error), GRT_ERROR_BUSY);
  GRT_CHECK_CONTAINS(error.message, "one thread at a time");
  GRT_CHECK_STATUS(grt_session_commit(session, nullptr), GRT_ERROR_BUSY);
  GRT_CHECK_STATUS(grt_session_reset_prompt(session, 0, 1, nullptr, nullptr), GRT_ERROR_BUSY);
  GRT_CHECK_STATUS(grt_session_restore(session, snapshot, nullptr), GRT_ERROR_BUSY);
  GRT_CHECK_STATUS(grt_session_snapshot(session, &made, nullptr), GRT_ERROR_BUSY);
  GRT_CHECK_STATUS(grt_session_submit(session, 0, nullptr), GRT_ERROR_BUSY);
  GRT_CHECK_STATUS(grt_session_poll(session, 0, &done, nullptr, nullptr, nullptr), GRT_ERROR_BUSY);
  GRT_CHECK_STATUS(grt_session_cancel(session, nullptr), GRT_ERROR_BUSY);
  GRT_CHECK_STATUS(grt_step_many(&session, &action, 1, nullptr, nullptr, &status, nullptr), GRT_ERROR_BUSY);
  GRT_CHECK_STATUS(status, GRT_ERROR_BUSY);
  // Others of the same world go on.
  fake::knobs.is_closed = false;
  other.join();
  step(session, 2);
  GRT_CHECK_EQ(state_of(session).frame_index, 3);

  // Two threads step as they please: each frame is one that was computed whole.
  std::atomic<int> num_done{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; t++) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; i++) {
        const grt_status found = grt_session_step(session, 0, nullptr, nullptr, nullptr);
        GRT_CHECK(found == GRT_OK || found == GRT_ERROR_BUSY);
        num_done += found == GRT_OK;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  GRT_CHECK_EQ(state_of(session).frame_index, 3 + num_done);
  grt_session* alone = start(world, 7);
  for (const int32_t first : {0, 1, 2}) step(alone, first);
  for (int i = 0; i < num_done; i++) step(alone, 0);
  GRT_CHECK_EQ(digest_of(alone), digest_of(session));
  grt_snapshot_free(snapshot);
  grt_session_free(alone);
  grt_session_free(session);
  grt_world_free(world);
}

// Worlds, sessions and snapshots are made and freed in several threads at once.
void test_comings_and_goings() {
  Hooks hooks;
  grt_world* world = load(1, &hooks);
  const int64_t live = hooks.live();
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      grt_session_params params;
      grt_session_params_init(&params);
      params.num_snapshots = static_cast<int32_t>(t);
      for (int i = 0; i < 40; i++) {
        grt_session *session = start(world, t, &params), *fork = nullptr;
        grt_snapshot* snapshots[3] = {};
        for (grt_snapshot*& snapshot : snapshots) {
          step(session, i % kActions);
          GRT_CHECK_STATUS(grt_session_snapshot(session, &snapshot, nullptr), GRT_OK);
        }
        GRT_CHECK_STATUS(grt_session_fork(session, &fork, nullptr), GRT_OK);
        for (int j = 0; j < 5; j++) step(fork, j % kActions);
        grt_session_free(session);
        for (grt_snapshot* snapshot : snapshots) grt_snapshot_free(snapshot);
        grt_session_free(fork);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  GRT_CHECK_EQ(hooks.live(), live);
  grt_world_free(world);
  GRT_CHECK_EQ(hooks.live(), 0);
}

}  // namespace
}  // namespace grt::test

int main() {
  using namespace grt::test;
  const TinyFiles files;
  tiny_files = &files;
  test_sessions_in_threads();
  test_step_many();
  test_frames_in_the_background();
  test_cancel();
  test_two_threads_in_a_session();
  test_comings_and_goings();
  return failures();
}
