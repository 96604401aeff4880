// genie_rt.hpp, compiled twice: with exceptions and without.

#include "genie_rt.hpp"

#include "api_fixture.hpp"

namespace grt::test {
namespace {

using genie_rt::Picture;
using genie_rt::Session;
using genie_rt::Snapshot;
using genie_rt::Status;
using genie_rt::World;

// What a call came to, whichever way it says so.
template <typename Call>
grt_status status_of(Call call, const char* part = "") {
#if defined(GRT_NO_EXCEPTIONS)
  const Status status = call();
  GRT_CHECK_CONTAINS(status.message(), part);
  GRT_CHECK_EQ(status.ok(), static_cast<bool>(status));
  return status.code();
#else
  try {
    const Status status = call();
    GRT_CHECK(status.ok() && status.message()[0] == 0);
    return status.code();
  } catch (const genie_rt::Error& error) {
    GRT_CHECK_CONTAINS(error.what(), part);
    return error.code();
  }
#endif
}

#define OK(call) GRT_CHECK_STATUS(status_of([&] { return call; }), GRT_OK)
#define FAILS(call, status, part) GRT_CHECK_STATUS(status_of([&] { return call; }, part), status)

void test_wrapper(const TinyFiles& files) {
  World world;
  GRT_CHECK(!world);
  FAILS(world.load("no/such/bundle"), GRT_ERROR_BUNDLE, "no/such/bundle");
  FAILS(world.load(nullptr), GRT_ERROR_INPUT, "folder");
  OK(world.load_memory(files.files));
  GRT_CHECK(static_cast<bool>(world));
  grt_world* const loaded = world.get();
  FAILS(world.load("no/such/bundle"), GRT_ERROR_BUNDLE, "");
  GRT_CHECK(world.get() == loaded);  // the old one stays
  GRT_CHECK_TEXT(world.info().name, "tiny");
  GRT_CHECK_TEXT(world.action_name(1), "stay");
  GRT_CHECK_TEXT(world.prompt_name(0), "prompts/000.png");
  GRT_CHECK(world.plan_name(7) == nullptr);
  int32_t action = 0;
  OK(world.find_action("right", action));
  GRT_CHECK_EQ(action, 2);
  genie_rt::Plan plan;
  OK(world.get_plan("fast", plan));
  GRT_CHECK_EQ(plan.passes, 1);
  GRT_CHECK_EQ(genie_rt::version().major, GRT_VERSION_MAJOR);
  genie_rt::WorldInfo info;
  OK(genie_rt::inspect("runtime/bundles/demo", info));
  GRT_CHECK_TEXT(info.name, "demo");

  Session session;
  OK(session.create(world));
  Picture frame = world.make_frame(GRT_FORMAT_RGB8), prompt = world.make_prompt();
  GRT_CHECK_EQ(frame.pixels.size(), kFrameBytes);
  FAILS(session.step(0), GRT_ERROR_STATE, "never reset");
  OK(session.reset_prompt(0, 5, &frame));
  OK(world.get_prompt(0, &prompt));
  Session other;
  OK(other.create(world));
  OK(other.reset(prompt.image(), 5));
  GRT_CHECK_EQ(session.state().digest, other.state().digest);
  OK(other.reset({prompt.image(), prompt.image()}, {1}, 5));
  FAILS(other.reset({prompt.image(), prompt.image()}, {}, 5), GRT_ERROR_INPUT, "actions");
  OK(other.reset(prompt.image(), 5, nullptr));

  genie_rt::StepStats stats;
  OK(session.step(1, &frame, &stats));
  GRT_CHECK_EQ(stats.frame_index, 1);
  OK(session.commit());
  bool done = false;
  OK(other.submit(1));
  FAILS(other.step(1), GRT_ERROR_BUSY, "");
  Picture fetched(kWidth, kHeight, GRT_FORMAT_RGB8);
  genie_rt::Image view(fetched.pixels.data(), kWidth, kHeight, GRT_FORMAT_RGB8);
  OK(other.poll(-1, done, &view));
  GRT_CHECK(done && fetched.pixels == frame.pixels);
  OK(other.submit(1));
  OK(other.cancel());
  std::vector<Picture> frames(2, Picture(kWidth, kHeight, GRT_FORMAT_RGB8));
  OK(session.peek({0, 1}, frames));
  OK(session.step(1, &frame));
  GRT_CHECK(frame.pixels == frames[1].pixels && frame.pixels != frames[0].pixels);
  OK(session.get_frame(&fetched));
  GRT_CHECK(fetched.pixels == frame.pixels);
  frames.pop_back();
  FAILS(session.peek({0, 1}, frames), GRT_ERROR_INPUT, "frames");
  std::vector<Picture> none;
  OK(session.peek({0, 1}, none));

  plan = genie_rt::Plan();
  plan.passes = 3;
  OK(session.set_plan(plan));
  OK(session.set_deadline(0));
  plan.passes = 0;
  OK(session.get_plan(plan));
  GRT_CHECK_EQ(plan.passes, 3);

  Snapshot snapshot;
  Session fork;
  OK(session.snapshot(snapshot));
  OK(session.snapshot(snapshot));  // in place of the first
  OK(session.fork(fork));
  const uint64_t digest = session.state().digest;
  OK(session.step(0));
  GRT_CHECK(session.state().digest != digest);
  OK(session.restore(snapshot));
  GRT_CHECK_EQ(session.state().digest, digest);
  GRT_CHECK_EQ(fork.state().digest, digest);
  size_t size = 0, written = 0;
  OK(world.save_size(size));
  std::vector<uint8_t> bytes(size);
  OK(session.save(bytes.data(), size, written));
  OK(other.load(bytes.data(), written));
  GRT_CHECK_EQ(other.state().digest, digest);

  // Moved objects own what the others did.
  Session moved = std::move(session);
  GRT_CHECK(moved && !session);
  FAILS(session.step(0), GRT_ERROR_INPUT, "NULL");
  session = std::move(moved);
  World kept = std::move(world);
  GRT_CHECK(kept && !world);
  Snapshot other_snapshot = std::move(snapshot);
  FAILS(session.restore(snapshot), GRT_ERROR_INPUT, "NULL");
  OK(session.restore(other_snapshot));
  kept = World();  // the sessions keep what they need
  OK(session.step(0));

#if !defined(GRT_NO_EXCEPTIONS)
  const World by_constructor("runtime/bundles/demo");
  const Session made(by_constructor);
  GRT_CHECK_EQ(made.state().frame_index, -1);
  bool thrown = false;
  try {
    const World broken("no/such/bundle");
  } catch (const std::exception& error) {
    thrown = std::strstr(error.what(), "no/such/bundle") != nullptr;
  }
  GRT_CHECK(thrown);
#endif
}

}  // namespace
}  // namespace grt::test

int main() {
  const grt::test::TinyFiles files;
  grt::test::test_wrapper(files);
  return grt::test::failures();
}
