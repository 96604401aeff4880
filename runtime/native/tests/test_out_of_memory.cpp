// Every allocation of every call fails once: the call says so, loses nothing and changes nothing, and the
// next try succeeds.

#include <functional>

#include "api_fixture.hpp"

namespace grt::test {
namespace {

const TinyFiles* tiny_files;
int64_t num_denied = 0;

// Calls `call` with its 0th, 1st, 2nd ... allocation failing, until there is none left to fail. `undo` takes
// back what it did when it succeeded; `check_state` compares with before after each failure.
void fail_each(Hooks& hooks, const std::function<grt_status(grt_error*)>& call,
               const std::function<void()>& check_state, const char* what) {
  for (int64_t n = 0;; n++) {
    const int64_t live = hooks.live();
    grt_error error;
    grt_error_init(&error);
    hooks.restart();
    hooks.fail_at = n;
    const grt_status status = call(&error);
    hooks.fail_at = -1;
    if (status == GRT_OK) {
      GRT_CHECK(hooks.num_calls() <= n);  // it did without
      return;
    }
    num_denied++;
    const bool is_status = GRT_CHECK_STATUS(status, GRT_ERROR_OUT_OF_MEMORY);
    const bool is_told = GRT_CHECK_CONTAINS(error.message, "memory");
    const bool is_released = GRT_CHECK_EQ(hooks.live(), live);
    if (!is_status || !is_told || !is_released) {
      std::fprintf(stderr, "    %s, allocation %lld: %s\n", what, static_cast<long long>(n), error.message);
      return;
    }
    check_state();
  }
}

void test_load() {
  Hooks hooks;
  grt_world* world = nullptr;
  grt_world_params params;
  grt_world_params_init(&params);
  params.allocator = &hooks.hooks;
  params.num_threads = 2;
  fail_each(
      hooks,
      [&](grt_error* error) {
        return grt_world_load_memory(tiny_files->files.data(), tiny_files->files.size(), &params, &world,
                                     error);
      },
      [&] { GRT_CHECK(world == nullptr); }, "load");
  GRT_CHECK(world != nullptr);
  grt_world_free(world);
  GRT_CHECK_EQ(hooks.live(), 0);
  GRT_CHECK_EQ(hooks.num_wrong(), 0);
}

void test_sessions() {
  Hooks hooks;
  grt_world_params world_params;
  grt_world_params_init(&world_params);
  world_params.allocator = &hooks.hooks;
  world_params.num_threads = 1;
  grt_world* world = tiny_files->load(&world_params);

  grt_session* session = nullptr;
  grt_session_params params;
  grt_session_params_init(&params);
  grt_plan plan = make_plan(GRT_ORDER_MASKGIT, GRT_REUSE_NONE, 3);
  params.plan = &plan;
  params.num_snapshots = 3;
  fail_each(
      hooks, [&](grt_error* error) { return grt_session_create(world, &params, &session, error); },
      [&] { GRT_CHECK(session == nullptr); }, "create");
  grt_session_free(session);
  const int64_t of_world = hooks.live();
  params.num_snapshots = 0;
  GRT_CHECK_STATUS(grt_session_create(world, &params, &session, nullptr), GRT_OK);

  // The first reset finds all it needs, but for the pictures' copy.
  uint8_t pixels[3 * kPromptWidth * kPromptHeight] = {};
  grt_image pictures[6];
  const int32_t actions[] = {0, 1, 2, 0, 1};
  for (grt_image& picture : pictures) grt_image_init(&picture, pixels, sizeof pixels, GRT_FORMAT_RGB8);
  hooks.restart();
  GRT_CHECK_STATUS(grt_session_reset_prompt(session, 0, 1, nullptr, nullptr), GRT_OK);
  GRT_CHECK_EQ(hooks.num_calls(), 0);
  for (int i = 0; i < 6; i++) step(session, i % 3);
  GRT_CHECK_EQ(hooks.num_calls(), 0);

  // A session in the middle of a game, with peeks.
  const int32_t peeked[] = {0, 1};
  std::vector<uint64_t> before;
  const auto remember = [&] {
    GRT_CHECK_STATUS(grt_session_peek(session, peeked, 2, nullptr, nullptr), GRT_OK);
    before = future_of(session);
  };
  const auto unchanged = [&] { GRT_CHECK(future_of(session) == before); };
  remember();
  fail_each(
      hooks,
      [&](grt_error* error) { return grt_session_reset(session, pictures, 6, actions, 2, nullptr, error); },
      unchanged, "reset");
  for (int i = 0; i < 6; i++) step(session, i % 3);

  remember();
  grt_snapshot *snapshot = nullptr, *second = nullptr;
  fail_each(
      hooks, [&](grt_error* error) { return grt_session_snapshot(session, &snapshot, error); },
      [&] {
        GRT_CHECK(snapshot == nullptr);
        unchanged();
      },
      "snapshot");
  unchanged();
  for (int i = 0; i < 3; i++) step(session, 2);

  remember();
  hooks.restart();
  GRT_CHECK_STATUS(grt_session_restore(session, snapshot, nullptr), GRT_OK);  // allocates nothing at all
  GRT_CHECK_EQ(hooks.num_calls(), 0);
  GRT_CHECK_STATUS(grt_session_snapshot(session, &second, nullptr), GRT_OK);

  remember();
  grt_session* fork = nullptr;
  fail_each(
      hooks, [&](grt_error* error) { return grt_session_fork(session, &fork, error); },
      [&] {
        GRT_CHECK(fork == nullptr);
        unchanged();
      },
      "fork");
  GRT_CHECK(future_of(fork) == before);

  // A plan that needs more pages.
  plan = make_plan(GRT_ORDER_MASKGIT, GRT_REUSE_FRAMES, 3);
  remember();
  fail_each(
      hooks, [&](grt_error* error) { return grt_session_set_plan(session, &plan, error); }, unchanged,
      "plan");
  hooks.restart();
  GRT_CHECK_STATUS(grt_session_set_plan(fork, &plan, nullptr), GRT_OK);
  for (int i = 0; i < 6; i++) step(session, i % 3);

  // A state with a spatial page, for a plan without.
  std::vector<uint8_t> bytes(1 << 16);
  size_t written = 0;
  GRT_CHECK_STATUS(grt_session_save(session, bytes.data(), bytes.size(), &written, nullptr), GRT_OK);
  grt_session* plain = start(world);
  for (int i = 0; i < 6; i++) step(plain, i % 3);
  before = future_of(plain);
  fail_each(
      hooks, [&](grt_error* error) { return grt_session_load(plain, bytes.data(), written, error); },
      [&] { GRT_CHECK(future_of(plain) == before); }, "load a state");
  for (int i = 0; i < 6; i++) step(plain, i % 3);

  for (grt_session* one : {session, fork, plain}) grt_session_free(one);
  grt_snapshot_free(snapshot);
  grt_snapshot_free(second);
  GRT_CHECK_EQ(hooks.live(), of_world);
  grt_world_free(world);
  GRT_CHECK_EQ(hooks.live(), 0);
  GRT_CHECK_EQ(hooks.num_wrong(), 0);
}

}  // namespace
}  // namespace grt::test

int main() {
  using namespace grt::test;
  const TinyFiles files;
  tiny_files = &files;
  test_load();
  test_sessions();
  GRT_CHECK(num_denied > 100);
  std::fprintf(stderr, "%lld allocations failed\n", static_cast<long long>(num_denied));
  return failures();
}
