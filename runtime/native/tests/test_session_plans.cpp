// What sessions promise of plans, deadlines and the calls of research.

#include "api_fixture.hpp"

namespace grt::test {
namespace {

const TinyFiles* tiny_files;

grt_world* load() { return tiny_files->load(); }

void test_plans() {
  grt_world* world = load();
  grt_session *session = start(world), *other = start(world);
  grt_plan plan, found;
  grt_plan_init(&plan);
  grt_plan_init(&found);
  plan.passes = 2;
  plan.noise = 0.5;
  GRT_CHECK_STATUS(grt_session_set_plan(session, &plan, nullptr), GRT_OK);
  GRT_CHECK_STATUS(grt_session_get_plan(session, &found, nullptr), GRT_OK);
  GRT_CHECK(found.passes == 2 && found.temperature == 1 && found.noise == 0.5 && found.threshold == 0.99 &&
            found.fresh == 0.75);
  step(session, 0);
  step(other, 0);
  GRT_CHECK(digest_of(session) != digest_of(other));
  // Plans with spatial pages and without take turns.
  for (int i = 0; i < 30; i++) {
    plan = make_plan(i % 3 == 0 ? GRT_ORDER_HALTON : GRT_ORDER_MASKGIT,
                     i % 3 == 0   ? GRT_REUSE_PASSES
                     : i % 3 == 1 ? GRT_REUSE_FRAMES
                                  : GRT_REUSE_NONE,
                     2);
    GRT_CHECK_STATUS(grt_session_set_plan(session, &plan, nullptr), GRT_OK);
    for (int j = 0; j < i % 5; j++) step(session, j % 3);
    grt_snapshot* snapshot = nullptr;
    GRT_CHECK_STATUS(grt_session_snapshot(session, &snapshot, nullptr), GRT_OK);
    for (int j = 0; j < i % 4; j++) step(session, j % 3);
    if (i % 2 == 0) GRT_CHECK_STATUS(grt_session_restore(session, snapshot, nullptr), GRT_OK);
    grt_snapshot_free(snapshot);
  }
  // One that the engine cannot play leaves the old one.
  fake::knobs.refuses_adaptive = true;
  grt_plan before, adaptive = make_plan(GRT_ORDER_ADAPTIVE, GRT_REUSE_NONE, 3);
  grt_plan_init(&before);
  GRT_CHECK_STATUS(grt_session_get_plan(session, &before, nullptr), GRT_OK);
  GRT_CHECK_STATUS(grt_session_set_plan(session, &adaptive, nullptr), GRT_ERROR_UNSUPPORTED);
  GRT_CHECK_STATUS(grt_session_get_plan(session, &found, nullptr), GRT_OK);
  GRT_CHECK(std::memcmp(&before, &found, sizeof found) == 0);
  fake::knobs.refuses_adaptive = false;
  grt_session_free(session);
  grt_session_free(other);
  grt_world_free(world);
}

void test_deadline() {
  grt_world* world = load();
  grt_session* session = start(world);
  grt_step_stats stats;
  grt_step_stats_init(&stats);
  const int prepared = fake::knobs.num_prepared;
  GRT_CHECK_STATUS(grt_session_set_deadline(session, 1e-9, 2, nullptr), GRT_OK);
  GRT_CHECK_EQ(fake::knobs.num_prepared, prepared + 3);  // 2, 3 and 4 passes
  step(session, 0, nullptr, &stats);
  GRT_CHECK_EQ(stats.passes, 4);
  GRT_CHECK_EQ(stats.late, 1);
  for (int i = 0; i < 10; i++) step(session, 0, nullptr, &stats);
  GRT_CHECK_EQ(stats.passes, 2);  // no frame is in time, and this is the least
  grt_plan plan = make_plan(GRT_ORDER_MASKGIT, GRT_REUSE_FRAMES, 3);
  GRT_CHECK_STATUS(grt_session_set_plan(session, &plan, nullptr), GRT_OK);
  for (int i = 0; i < 10; i++) step(session, 0, nullptr, &stats);
  GRT_CHECK_EQ(stats.passes, 2);
  GRT_CHECK_STATUS(grt_session_set_deadline(session, 0, 0, nullptr), GRT_OK);
  step(session, 0, nullptr, &stats);
  GRT_CHECK_EQ(stats.passes, 3);
  GRT_CHECK_EQ(stats.late, 0);
  // A frame with fewer passes is the frame of the plan with fewer passes.
  grt_session *late = start(world), *fewer = start(world);
  GRT_CHECK_STATUS(grt_session_set_deadline(late, 1e-9, 1, nullptr), GRT_OK);
  for (int i = 0; i < 12; i++) {
    grt_step_stats_init(&stats);
    step(late, 1, nullptr, &stats);
    plan = make_plan(GRT_ORDER_MASKGIT, GRT_REUSE_NONE, stats.passes);
    GRT_CHECK_STATUS(grt_session_set_plan(fewer, &plan, nullptr), GRT_OK);
    step(fewer, 1);
    GRT_CHECK_EQ(digest_of(late), digest_of(fewer));
  }
  GRT_CHECK_EQ(stats.passes, 1);
  // With time to spare it stays at the most.
  GRT_CHECK_STATUS(grt_session_set_deadline(late, 1e9, 1, nullptr), GRT_OK);
  for (int i = 0; i < 12; i++) step(late, 1, nullptr, &stats);
  GRT_CHECK_EQ(stats.passes, 4);
  for (grt_session* one : {session, late, fewer}) grt_session_free(one);
  grt_world_free(world);
}

void test_research_calls() {
  grt_world* world = load();
  grt_session *session = start(world), *forced = start(world);
  int32_t tokens[kTokens];
  Frame frame, expected;
  for (int i = 0; i < 9; i++) {
    step(session, i % 3, &expected);
    GRT_CHECK_STATUS(grt_session_get_tokens(session, tokens, kTokens, nullptr), GRT_OK);
    GRT_CHECK_STATUS(grt_session_force(forced, i % 3, tokens, kTokens, &frame.image, nullptr), GRT_OK);
    GRT_CHECK(frame == expected);
    GRT_CHECK_EQ(digest_of(session), digest_of(forced));
  }
  // A probe commits and changes nothing else.
  const std::vector<uint64_t> before = future_of(session);
  int32_t masked[kTokens], candidates[kTokens], again[kTokens];
  for (int32_t& token : masked) token = -1;
  std::vector<float> logits(kTokens * kCodes);
  GRT_CHECK_STATUS(grt_session_probe(session, 1, masked, kTokens, 2, logits.data(), candidates, nullptr),
                   GRT_OK);
  GRT_CHECK_STATUS(grt_session_probe(session, 1, masked, kTokens, 2, nullptr, again, nullptr), GRT_OK);
  GRT_CHECK(std::memcmp(candidates, again, sizeof again) == 0);
  GRT_CHECK_EQ(state_of(session).pending, 0);
  GRT_CHECK(future_of(session) == before);
  // Tokens may be a session's first frame.
  grt_session* first = nullptr;
  GRT_CHECK_STATUS(grt_session_create(world, nullptr, &first, nullptr), GRT_OK);
  GRT_CHECK_EQ(state_of(first).frame_index, -1);
  GRT_CHECK_STATUS(grt_session_force(first, 0, tokens, kTokens, nullptr, nullptr), GRT_ERROR_INPUT);
  GRT_CHECK_STATUS(grt_session_force(first, -1, tokens, kTokens, &frame.image, nullptr), GRT_OK);
  GRT_CHECK_EQ(state_of(first).frame_index, 0);
  step(first, 0);
  for (grt_session* one : {session, forced, first}) grt_session_free(one);
  grt_world_free(world);
}

}  // namespace
}  // namespace grt::test

int main() {
  using namespace grt::test;
  const TinyFiles files;
  tiny_files = &files;
  test_plans();
  test_deadline();
  test_research_calls();
  return failures();
}
