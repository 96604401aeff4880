// Kinds of misuse of sessions, steps and states: each gives its status and a message, and changes nothing.

#include <cfloat>
#include <cmath>

#include "misuse.hpp"

namespace grt::test {
namespace {

// Every call that takes a session: without one, before its first reset, while another call is in it.
void misuse_of_sessions() {
  Wrong wrong;
  grt_world* world = tiny_files->load();
  grt_session *session = start(world), *empty = nullptr, *fork = nullptr;
  grt_snapshot *snapshot = nullptr, *made = nullptr;
  GRT_CHECK_STATUS(grt_session_create(world, nullptr, &empty, nullptr), GRT_OK);
  GRT_CHECK_STATUS(grt_session_snapshot(session, &snapshot, nullptr), GRT_OK);
  Frame frame;
  grt_image picture;
  uint8_t pixels[3 * kPromptWidth * kPromptHeight] = {};
  grt_image_init(&picture, pixels, sizeof pixels, GRT_FORMAT_RGB8);
  std::vector<uint8_t> bytes(1 << 16);
  size_t written = 0;
  int32_t tokens[kTokens] = {}, done = 0;
  const int32_t action = 0;
  grt_plan plan = make_plan(GRT_ORDER_MASKGIT, GRT_REUSE_NONE, 2);
  grt_session_state state;
  grt_session_state_init(&state);
  GRT_CHECK_STATUS(grt_session_save(session, bytes.data(), bytes.size(), &written, nullptr), GRT_OK);

  // `status` is that of calls which need a picture to go on from.
  const auto calls_that_need_a_frame = [&](grt_session* s, grt_status status, const char* part) {
    WRONG(grt_session_step(s, 0, nullptr, nullptr, &wrong), status, part);
    WRONG(grt_session_commit(s, &wrong), status, part);
    WRONG(grt_session_peek(s, &action, 1, nullptr, &wrong), status, part);
    WRONG(grt_session_submit(s, 0, &wrong), status, part);
    WRONG(grt_session_get_frame(s, &frame.image, &wrong), status, part);
    WRONG(grt_session_snapshot(s, &made, &wrong), status, part);
    WRONG(grt_session_fork(s, &fork, &wrong), status, part);
    WRONG(grt_session_save(s, bytes.data(), bytes.size(), &written, &wrong), status, part);
    WRONG(grt_session_get_tokens(s, tokens, kTokens, &wrong), status, part);
    WRONG(grt_session_probe(s, 0, tokens, kTokens, 0, nullptr, nullptr, &wrong), status, part);
    GRT_CHECK(made == nullptr && fork == nullptr);
  };
  const auto other_calls = [&](grt_session* s, grt_status status, const char* part) {
    WRONG(grt_session_reset(s, &picture, 1, nullptr, 1, nullptr, &wrong), status, part);
    WRONG(grt_session_reset_prompt(s, 0, 1, nullptr, &wrong), status, part);
    WRONG(grt_session_set_plan(s, &plan, &wrong), status, part);
    WRONG(grt_session_get_plan(s, &plan, &wrong), status, part);
    WRONG(grt_session_set_deadline(s, 0, 0, &wrong), status, part);
    WRONG(grt_session_restore(s, snapshot, &wrong), status, part);
    WRONG(grt_session_load(s, bytes.data(), written, &wrong), status, part);
    WRONG(grt_session_get_state(s, &state, &wrong), status, part);
    WRONG(grt_session_force(s, 0, tokens, kTokens, nullptr, &wrong), status, part);
  };
  calls_that_need_a_frame(nullptr, GRT_ERROR_INPUT, "session: expected a grt_session, found NULL");
  other_calls(nullptr, GRT_ERROR_INPUT, "found NULL");
  WRONG(grt_session_poll(nullptr, 0, &done, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "session");
  WRONG(grt_session_cancel(nullptr, &wrong), GRT_ERROR_INPUT, "session");
  calls_that_need_a_frame(empty, GRT_ERROR_STATE, "never reset");
  WRONG(grt_step_many(&empty, &action, 1, nullptr, nullptr, nullptr, &wrong), GRT_ERROR_STATE, "never reset");
  WRONG(grt_session_poll(session, 0, &done, nullptr, nullptr, &wrong), GRT_ERROR_STATE, "grt_session_submit");
  GRT_CHECK_STATUS(grt_session_cancel(session, nullptr), GRT_OK);

  const uint64_t before = digest_of(session);
  fake::knobs.is_closed = true;
  GRT_CHECK_STATUS(grt_session_submit(session, 1, nullptr), GRT_OK);
  calls_that_need_a_frame(session, GRT_ERROR_BUSY, "grt_session_poll");
  other_calls(session, GRT_ERROR_BUSY, "grt_session_cancel");
  WRONG(grt_step_many(&session, &action, 1, nullptr, nullptr, nullptr, &wrong), GRT_ERROR_BUSY,
        "sessions[0]");
  fake::knobs.is_closed = false;
  // It stays so until the frame is fetched, which a wrong poll does not do.
  GRT_CHECK_STATUS(grt_session_poll(session, -1, &done, nullptr, nullptr, nullptr), GRT_OK);
  GRT_CHECK_EQ(done, 1);
  GRT_CHECK(digest_of(session) != before);
  GRT_CHECK_STATUS(grt_session_submit(session, 1, nullptr), GRT_OK);
  grt_image small = frame.image;
  small.size--;
  grt_step_stats stats;
  grt_step_stats_init(&stats);
  stats.struct_size = 4;
  done = 5;
  WRONG(grt_session_poll(session, -1, &done, &small, nullptr, &wrong), GRT_ERROR_INPUT, "frame");
  WRONG(grt_session_poll(session, -1, &done, nullptr, &stats, &wrong), GRT_ERROR_INPUT,
        "grt_step_stats_init");
  WRONG(grt_session_poll(session, -1, nullptr, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "done");
  WRONG(grt_session_poll(session, std::nan(""), &done, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "NaN");
  GRT_CHECK_EQ(done, 5);
  GRT_CHECK_STATUS(grt_session_poll(session, -1, &done, &frame.image, nullptr, nullptr), GRT_OK);
  GRT_CHECK_EQ(done, 1);
  for (grt_session* one : {session, empty}) grt_session_free(one);
  grt_snapshot_free(snapshot);
  grt_world_free(world);
}

void misuse_of_steps() {
  Wrong wrong;
  grt_world *world = tiny_files->load(), *other_world = tiny_files->load();
  grt_session *session = start(world), *second = start(world), *foreign = start(other_world);
  step(session, 1);
  const std::vector<uint64_t> before = future_of(session);
  Frame frame;
  grt_step_stats stats;
  grt_step_stats_init(&stats);
  for (const int32_t action : {-1, kActions, INT32_MIN, INT32_MAX}) {
    WRONG(grt_session_step(session, action, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "0 to 2");
    WRONG(grt_session_submit(session, action, &wrong), GRT_ERROR_INPUT, "0 to 2");
    WRONG(grt_session_peek(session, &action, 1, nullptr, &wrong), GRT_ERROR_INPUT, "0 to 2");
    const int32_t tokens[kTokens] = {};
    WRONG(grt_session_force(session, action, tokens, kTokens, nullptr, &wrong), GRT_ERROR_INPUT, "0 to 2");
    WRONG(grt_session_probe(session, action, tokens, kTokens, 0, nullptr, nullptr, &wrong), GRT_ERROR_INPUT,
          "0 to 2");
    WRONG(grt_step_many(&session, &action, 1, nullptr, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "0 to 2");
  }
  grt_image image = frame.image;
  image.size = kFrameBytes - 1;
  WRONG(grt_session_step(session, 0, &image, nullptr, &wrong), GRT_ERROR_INPUT, "frame");
  WRONG(grt_session_get_frame(session, &image, &wrong), GRT_ERROR_INPUT, "frame");
  WRONG(grt_session_get_frame(session, nullptr, &wrong), GRT_ERROR_INPUT, "frame");
  WRONG(grt_session_reset_prompt(session, 0, 1, &image, &wrong), GRT_ERROR_INPUT, "frame");
  stats.struct_size = sizeof stats - 8;
  WRONG(grt_session_step(session, 0, nullptr, &stats, &wrong), GRT_ERROR_INPUT, "grt_step_stats_init");
  WRONG(grt_session_reset_prompt(session, 2, 1, nullptr, &wrong), GRT_ERROR_INPUT, "0 to 1");
  WRONG(grt_session_reset_prompt(session, -1, 1, nullptr, &wrong), GRT_ERROR_INPUT, "found -1");

  uint8_t pixels[3 * kPromptWidth * kPromptHeight] = {};
  grt_image pictures[2];
  for (grt_image& picture : pictures) grt_image_init(&picture, pixels, sizeof pixels, GRT_FORMAT_RGB8);
  int32_t actions[2] = {3, 0};
  const auto reset = [&](size_t count, const int32_t* led_by) {
    return grt_session_reset(session, pictures, count, led_by, 1, nullptr, &wrong);
  };
  WRONG(grt_session_reset(session, nullptr, 1, nullptr, 1, nullptr, &wrong), GRT_ERROR_INPUT, "pictures");
  WRONG(reset(0, nullptr), GRT_ERROR_INPUT, "at least one picture");
  WRONG(reset(2, nullptr), GRT_ERROR_INPUT, "actions");
  WRONG(reset(2, actions), GRT_ERROR_INPUT, "0 to 2, found 3");
  actions[0] = 0;
  pictures[1].size--;
  WRONG(reset(2, actions), GRT_ERROR_INPUT, "pictures[1]");
  pictures[1].size++;
  pictures[1].struct_size += 8;
  WRONG(reset(2, actions), GRT_ERROR_INPUT, "pictures[1]");
  pictures[0].struct_size = 5;
  WRONG(reset(2, actions), GRT_ERROR_INPUT, "grt_image_init");

  grt_image images[2] = {frame.image, frame.image};
  WRONG(grt_session_peek(session, nullptr, 2, nullptr, &wrong), GRT_ERROR_INPUT, "actions");
  images[1].size = 3;
  WRONG(grt_session_peek(session, actions, 2, images, &wrong), GRT_ERROR_INPUT, "frames[1]");
  images[1] = frame.image;
  images[1].struct_size = 0;
  WRONG(grt_session_peek(session, actions, 2, images, &wrong), GRT_ERROR_INPUT, "frames");
  GRT_CHECK_STATUS(grt_session_peek(session, nullptr, 0, nullptr, nullptr), GRT_OK);

  grt_session* sessions[2] = {session, session};
  grt_status statuses[2] = {GRT_ERROR_DEVICE, GRT_ERROR_DEVICE};
  const auto many = [&] { return grt_step_many(sessions, actions, 2, nullptr, nullptr, statuses, &wrong); };
  WRONG(many(), GRT_ERROR_INPUT, "sessions[1]: expected every session once");
  sessions[1] = nullptr;
  WRONG(many(), GRT_ERROR_INPUT, "sessions[1]");
  sessions[1] = foreign;
  WRONG(many(), GRT_ERROR_INPUT, "world");
  sessions[1] = second;
  WRONG(grt_step_many(nullptr, actions, 2, nullptr, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "sessions");
  WRONG(grt_step_many(sessions, nullptr, 2, nullptr, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "actions");
  WRONG(grt_step_many(sessions, actions, SIZE_MAX, nullptr, nullptr, nullptr, &wrong), GRT_ERROR_INPUT,
        "num_sessions");
  WRONG(grt_step_many(sessions, actions, 2, images, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "frames");
  images[1] = frame.image;
  images[1].pixels = nullptr;
  WRONG(grt_step_many(sessions, actions, 2, images, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "frames[1]");
  grt_step_stats both[2];
  grt_step_stats_init(&both[0]);
  both[1].struct_size = 0;
  WRONG(grt_step_many(sessions, actions, 2, nullptr, both, nullptr, &wrong), GRT_ERROR_INPUT, "stats");
  GRT_CHECK_STATUS(statuses[0], GRT_ERROR_DEVICE);  // nothing was stepped
  GRT_CHECK_STATUS(grt_step_many(nullptr, nullptr, 0, nullptr, nullptr, nullptr, nullptr), GRT_OK);
  GRT_CHECK(future_of(session) == before);

  // One wrong action stops nobody else.
  actions[0] = 9;
  const uint64_t digest = digest_of(second);
  WRONG(many(), GRT_ERROR_INPUT, "sessions[0]: action");
  GRT_CHECK_STATUS(statuses[0], GRT_ERROR_INPUT);
  GRT_CHECK_STATUS(statuses[1], GRT_OK);
  GRT_CHECK(digest_of(second) != digest);
  GRT_CHECK(future_of(session) == before);
  for (grt_session* one : {session, second, foreign}) grt_session_free(one);
  grt_world_free(world);
  grt_world_free(other_world);
}

void misuse_of_states() {
  Wrong wrong;
  grt_world *world = tiny_files->load(), *other_world = tiny_files->load();
  grt_session *session = start(world), *foreign = start(other_world);
  grt_snapshot* snapshot = nullptr;
  GRT_CHECK_STATUS(grt_session_snapshot(foreign, &snapshot, nullptr), GRT_OK);
  WRONG(grt_session_snapshot(session, nullptr, &wrong), GRT_ERROR_INPUT, "snapshot");
  WRONG(grt_session_restore(session, nullptr, &wrong), GRT_ERROR_INPUT, "snapshot");
  WRONG(grt_session_restore(session, snapshot, &wrong), GRT_ERROR_INPUT, "loaded elsewhere");
  WRONG(grt_session_fork(session, nullptr, &wrong), GRT_ERROR_INPUT, "fork");
  uint8_t bytes[64] = {};
  size_t written = 5;
  WRONG(grt_session_save(session, nullptr, 100000, &written, &wrong), GRT_ERROR_INPUT, "buffer");
  WRONG(grt_session_save(session, bytes, sizeof bytes, nullptr, &wrong), GRT_ERROR_INPUT, "written");
  WRONG(grt_session_save(session, bytes, sizeof bytes, &written, &wrong), GRT_ERROR_INPUT,
        "grt_world_save_size");
  GRT_CHECK_EQ(written, 5u);
  WRONG(grt_session_load(session, nullptr, 100, &wrong), GRT_ERROR_INPUT, "buffer");
  WRONG(grt_session_load(session, bytes, sizeof bytes, &wrong), GRT_ERROR_INPUT, "120 bytes or more");
  WRONG(grt_session_load(session, bytes, 0, &wrong), GRT_ERROR_INPUT, "found 0");
  grt_session_state state;
  grt_session_state_init(&state);
  WRONG(grt_session_get_state(session, nullptr, &wrong), GRT_ERROR_INPUT, "state");
  state.struct_size = 7;
  WRONG(grt_session_get_state(session, &state, &wrong), GRT_ERROR_INPUT, "grt_session_state_init");
  int32_t tokens[kTokens + 1] = {};
  WRONG(grt_session_get_tokens(session, nullptr, kTokens, &wrong), GRT_ERROR_INPUT, "NULL for 12");
  WRONG(grt_session_get_tokens(session, tokens, kTokens - 1, &wrong), GRT_ERROR_INPUT,
        "room for 12, found 11");
  WRONG(grt_session_force(session, 0, nullptr, kTokens, nullptr, &wrong), GRT_ERROR_INPUT, "tokens");
  WRONG(grt_session_force(session, 0, tokens, kTokens + 1, nullptr, &wrong), GRT_ERROR_INPUT, "12 of them");
  tokens[7] = kCodes;
  WRONG(grt_session_force(session, 0, tokens, kTokens, nullptr, &wrong), GRT_ERROR_INPUT, "tokens[7]");
  WRONG(grt_session_probe(session, 0, tokens, kTokens, 0, nullptr, nullptr, &wrong), GRT_ERROR_INPUT,
        "found 8");
  tokens[7] = -1;
  WRONG(grt_session_force(session, 0, tokens, kTokens, nullptr, &wrong), GRT_ERROR_INPUT,
        "from 0 to 7, found -1");
  tokens[7] = -2;
  WRONG(grt_session_probe(session, 0, tokens, kTokens, 0, nullptr, nullptr, &wrong), GRT_ERROR_INPUT,
        "found -2");
  tokens[7] = -1;
  WRONG(grt_session_probe(session, 0, tokens, kTokens, -1, nullptr, nullptr, &wrong), GRT_ERROR_INPUT,
        "pass");
  WRONG(grt_session_probe(session, 0, tokens, kTokens, 4096, nullptr, nullptr, &wrong), GRT_ERROR_INPUT,
        "pass");
  WRONG(grt_session_probe(session, 0, tokens, 0, 0, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "tokens");
  grt_session_free(session);
  grt_session_free(foreign);
  grt_snapshot_free(snapshot);
  grt_world_free(world);
  grt_world_free(other_world);
}

}  // namespace
}  // namespace grt::test

int main() {
  using namespace grt::test;
  const TinyFiles files;
  tiny_files = &files;
  misuse_of_sessions();
  misuse_of_steps();
  misuse_of_states();
  GRT_CHECK(num_kinds >= 125);
  std::fprintf(stderr, "%d wrong calls\n", num_kinds);
  return failures();
}
