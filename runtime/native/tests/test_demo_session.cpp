// The demo through the C API with the native engine: whatever way a frame is reached, in int8 it is the same,
// and no step allocates.

#include "api_fixture.hpp"

namespace grt::test {
namespace {

constexpr int32_t kSteps = 6;

struct Case {
  const char* name;
  grt_order order;
  grt_reuse reuse;
  int32_t passes;
};

constexpr Case kCases[] = {
    {"maskgit", GRT_ORDER_MASKGIT, GRT_REUSE_NONE, 2},  {"adaptive", GRT_ORDER_ADAPTIVE, GRT_REUSE_NONE, 4},
    {"random", GRT_ORDER_RANDOM, GRT_REUSE_NONE, 2},    {"halton", GRT_ORDER_HALTON, GRT_REUSE_PASSES, 4},
    {"frames", GRT_ORDER_MASKGIT, GRT_REUSE_FRAMES, 2},
};

struct Pixels {
  Pixels() { grt_image_init(&image, bytes, sizeof bytes, GRT_FORMAT_RGB8); }
  uint8_t bytes[3 * 64 * 64];
  grt_image image;
};

grt_session* start_demo(grt_world* world, const grt_plan& plan) {
  grt_session* session = nullptr;
  grt_session_params params;
  grt_session_params_init(&params);
  params.plan = &plan;
  params.num_snapshots = 2;
  GRT_CHECK_STATUS(grt_session_create(world, &params, &session, nullptr), GRT_OK);
  GRT_CHECK_STATUS(grt_session_reset_prompt(session, 2, 11, nullptr, nullptr), GRT_OK);
  return session;
}

void test_case(grt_world* world, Hooks& hooks, const Case& one) {
  grt_plan plan;
  grt_plan_init(&plan);
  GRT_CHECK_STATUS(grt_world_get_plan(world, nullptr, &plan, nullptr), GRT_OK);
  plan.order = one.order;
  plan.reuse = one.reuse;
  plan.passes = one.passes;
  grt_session *plain = start_demo(world, plan), *session = start_demo(world, plan);
  grt_session *other = start_demo(world, plan), *forced = start_demo(world, plan);
  std::vector<uint8_t> bytes(8 << 20);
  int32_t tokens[256], done = 0;
  size_t written = 0;
  // The first frame makes the thread.
  GRT_CHECK_STATUS(grt_session_submit(session, 0, nullptr), GRT_OK);
  GRT_CHECK_STATUS(grt_session_cancel(session, nullptr), GRT_OK);
  hooks.restart();
  for (int32_t i = 0; i < kSteps; i++) {
    const int32_t action = (3 * i + 1) % 8, peeked[] = {action, 2};
    Pixels expected, found;
    step(plain, action);
    GRT_CHECK_STATUS(grt_session_get_frame(plain, &expected.image, nullptr), GRT_OK);
    const uint64_t digest = digest_of(plain);
    grt_snapshot* snapshot = nullptr;
    switch (i % 6) {
      case 1:
        GRT_CHECK_STATUS(grt_session_commit(session, nullptr), GRT_OK);
        break;
      case 2:
        GRT_CHECK_STATUS(grt_session_peek(session, peeked, 2, nullptr, nullptr), GRT_OK);
        break;
      case 3:  // elsewhere and back
        GRT_CHECK_STATUS(grt_session_snapshot(session, &snapshot, nullptr), GRT_OK);
        step(session, 2);
        step(session, 3);
        GRT_CHECK_STATUS(grt_session_restore(session, snapshot, nullptr), GRT_OK);
        break;
      case 4:  // saved, and loaded by a session that is somewhere else
        GRT_CHECK_STATUS(grt_session_save(session, bytes.data(), bytes.size(), &written, nullptr), GRT_OK);
        step(other, 1);
        GRT_CHECK_STATUS(grt_session_load(other, bytes.data(), written, nullptr), GRT_OK);
        step(other, action);
        GRT_CHECK_EQ(digest_of(other), digest);
        break;
      default:
        break;
    }
    if (i % 2 == 0) {
      GRT_CHECK_STATUS(grt_session_step(session, action, &found.image, nullptr, nullptr), GRT_OK);
    } else {
      GRT_CHECK_STATUS(grt_session_submit(session, action, nullptr), GRT_OK);
      GRT_CHECK_STATUS(grt_session_poll(session, -1, &done, &found.image, nullptr, nullptr), GRT_OK);
    }
    GRT_CHECK_EQ(digest_of(session), digest);
    GRT_CHECK(std::memcmp(expected.bytes, found.bytes, sizeof found.bytes) == 0);
    grt_snapshot_free(snapshot);
    GRT_CHECK_STATUS(grt_session_get_tokens(plain, tokens, 256, nullptr), GRT_OK);
    GRT_CHECK_STATUS(grt_session_force(forced, action, tokens, 256, nullptr, nullptr), GRT_OK);
    GRT_CHECK_EQ(digest_of(forced), digest);
  }
  if (!GRT_CHECK_EQ(hooks.num_calls(), 0)) std::fprintf(stderr, "    %s\n", one.name);
  grt_session* fork = nullptr;
  GRT_CHECK_STATUS(grt_session_fork(plain, &fork, nullptr), GRT_OK);
  grt_session* both[] = {plain, session};
  const int32_t actions[] = {5, 5};
  GRT_CHECK_STATUS(grt_step_many(both, actions, 2, nullptr, nullptr, nullptr, nullptr), GRT_OK);
  step(fork, 5);
  GRT_CHECK(digest_of(plain) == digest_of(fork) && digest_of(session) == digest_of(fork));
  for (grt_session* each : {plain, session, other, forced, fork}) grt_session_free(each);
}

void test_demo() {
  Hooks hooks;
  grt_world_params params;
  grt_world_params_init(&params);
  params.allocator = &hooks.hooks;
  params.num_threads = 2;
  params.precision = GRT_PRECISION_INT8;
  grt_world* world = nullptr;
  grt_error error;
  grt_error_init(&error);
  if (!GRT_CHECK_STATUS(grt_world_load("runtime/bundles/demo", &params, &world, &error), GRT_OK)) {
    std::fprintf(stderr, "    %s\n", error.message);
    return;
  }
  const int64_t bytes = hooks.live_bytes();
  for (const Case& one : kCases) test_case(world, hooks, one);
  GRT_CHECK_EQ(hooks.live_bytes(), bytes);
  grt_world_free(world);
  GRT_CHECK_EQ(hooks.live(), 0);
  GRT_CHECK_EQ(hooks.num_wrong(), 0);

  // A set that this processor lacks.
  grt_world_params_init(&params);
#if defined(__x86_64__)
  params.instructions = GRT_INSTRUCTIONS_NEON;
#else
  params.instructions = GRT_INSTRUCTIONS_AVX2;
#endif
  GRT_CHECK_STATUS(grt_world_load("runtime/bundles/demo", &params, &world, &error), GRT_ERROR_UNSUPPORTED);
  GRT_CHECK_CONTAINS(error.message, "instructions");
}

}  // namespace
}  // namespace grt::test

int main() {
  grt::test::test_demo();
  return grt::test::failures();
}
