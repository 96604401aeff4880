// The engine of ONNX Runtime behind the C header, on the CPU provider: what a session can do, and what is
// refused. That frames are those of Python is tested there: tests/runtime/native/test_onnxruntime_engine.py.
//
//     test_onnxruntime BUNDLE [LIBRARY]
//
// Skips without the library of ONNX Runtime.
#include <atomic>
#include <cstring>

#include "check.hpp"
#include "genie_rt.h"
#include "support/memory.hpp"
#include "support/threads.hpp"

// ThreadSanitizer does not see how ONNX Runtime, which is not built with it, keeps its own threads apart.
extern "C" [[gnu::visibility("default")]] const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:libonnxruntime.so\n"; }

namespace {

constexpr size_t kPixels = 64 * 64 * 3;

struct Picture {
  uint8_t pixels[kPixels];
  grt_image image;

  Picture() {
    std::memset(pixels, 0, sizeof pixels);
    grt_image_init(&image, pixels, sizeof pixels, GRT_FORMAT_RGB8);
  }
  bool operator==(const Picture& other) const { return std::memcmp(pixels, other.pixels, kPixels) == 0; }
};

struct Counts {
  std::atomic<int> allocated{0}, released{0};
};

void* allocate(void* user, size_t size, size_t) {
  static_cast<Counts*>(user)->allocated++;
  return grt::Allocator().allocate(size);
}

void release(void* user, void* memory, size_t size) {
  static_cast<Counts*>(user)->released++;
  grt::Allocator().release(memory, size);
}

class Test {
 public:
  Test(const char* bundle, const char* library) : bundle_(bundle) {
    grt_world_params_init(&params_);
    grt_allocator_init(&allocator_);
    allocator_.allocate = allocate;
    allocator_.release = release;
    allocator_.user = &counts_;
    params_.engine = GRT_ENGINE_ONNXRUNTIME;
    params_.precision = GRT_PRECISION_FLOAT32;
    params_.num_threads = 1;
    params_.allocator = &allocator_;
    params_.onnxruntime_library = library;
    grt_error_init(&error_);
  }

  void run() {
    play();
    refuse();
    GRT_CHECK_EQ(counts_.allocated.load(), counts_.released.load());
  }

 private:
  void play() {
    grt_world* world = nullptr;
    GRT_REQUIRE(ok(grt_world_load(bundle_, &params_, &world, &error_)));
    grt_world_info info;
    grt_world_info_init(&info);
    GRT_CHECK(ok(grt_world_get_info(world, &info, &error_)));
    GRT_CHECK_EQ(info.precision, GRT_PRECISION_FLOAT32);
    GRT_CHECK_EQ(info.frame_width * info.frame_height * 3, static_cast<int>(kPixels));
    whole_frames(world);
    passes(world);
    two_threads(world);
    grt_world_free(world);
  }

  grt_session* make_session(grt_world* world, const char* order, uint64_t seed) {
    grt_session_params params;
    grt_session_params_init(&params);
    grt_plan plan;
    grt_plan_init(&plan);
    if (!GRT_CHECK(ok(grt_world_get_plan(world, nullptr, &plan, &error_)))) return nullptr;
    if (std::strcmp(order, "pass by pass") == 0) plan.passes = 3;
    if (std::strcmp(order, "reuse") == 0) {
      plan.order = GRT_ORDER_HALTON;
      plan.reuse = GRT_REUSE_PASSES;
    }
    params.plan = &plan;
    params.num_snapshots = 1;
    grt_session* session = nullptr;
    GRT_CHECK(ok(grt_session_create(world, &params, &session, &error_)));
    GRT_CHECK(ok(grt_session_reset_prompt(session, 0, seed, nullptr, &error_)));
    return session;
  }

  uint64_t digest(grt_session* session) {
    grt_session_state state;
    grt_session_state_init(&state);
    GRT_CHECK(ok(grt_session_get_state(session, &state, &error_)));
    return state.digest;
  }

  void steps(grt_session* session, int count, Picture& last) {
    for (int i = 0; i < count; i++)
      GRT_CHECK(ok(grt_session_step(session, i % 3, &last.image, nullptr, &error_)));
  }

  void whole_frames(grt_world* world) {
    grt_session *one = make_session(world, "default", 5), *other = make_session(world, "default", 5);
    Picture a, b, c;
    steps(one, 3, a);
    steps(other, 3, b);
    GRT_CHECK(a == b);
    GRT_CHECK_EQ(digest(one), digest(other));

    // A commit ahead changes nothing where the graph of a frame has it in it.
    GRT_CHECK(ok(grt_session_commit(one, &error_)));
    grt_snapshot* snapshot = nullptr;
    GRT_CHECK(ok(grt_session_snapshot(one, &snapshot, &error_)));
    const int before = counts_.allocated.load();
    steps(one, 3, a);
    GRT_CHECK_EQ(counts_.allocated.load(), before);  // no step allocates
    steps(other, 3, b);
    GRT_CHECK(a == b);
    GRT_CHECK(ok(grt_session_restore(one, snapshot, &error_)));
    steps(one, 3, c);
    GRT_CHECK(a == c);
    grt_snapshot_free(snapshot);

    const uint64_t stood = digest(one);
    GRT_CHECK(ok(grt_session_submit(one, 1, &error_)));
    GRT_CHECK(ok(grt_session_cancel(one, &error_)));
    GRT_CHECK_EQ(digest(one), stood);
    grt_session_free(one);
    grt_session_free(other);
  }

  void passes(grt_world* world) {
    for (const char* order : {"pass by pass", "reuse"}) {
      grt_session* session = make_session(world, order, 6);
      grt_step_stats stats;
      grt_step_stats_init(&stats);
      Picture picture;
      steps(session, 1, picture);
      const int before = counts_.allocated.load();
      GRT_CHECK(ok(grt_session_step(session, 1, &picture.image, &stats, &error_)));
      GRT_CHECK_EQ(counts_.allocated.load(), before);
      GRT_CHECK(stats.commit_ms > 0 && stats.passes_ms > 0 && stats.decode_ms > 0);
      GRT_CHECK_EQ(stats.passes, std::strcmp(order, "reuse") == 0 ? 2 : 3);
      const uint64_t stood = digest(session);
      GRT_CHECK(ok(grt_session_submit(session, 1, &error_)));
      GRT_CHECK(ok(grt_session_cancel(session, &error_)));
      GRT_CHECK_EQ(digest(session), stood);
      grt_session_free(session);
    }
  }

  struct Player {
    Test* test;
    grt_session* session;
    Picture picture;
    grt_status status = GRT_OK;
  };

  static void play_in_thread(void* context) {
    auto* player = static_cast<Player*>(context);
    for (int i = 0; i < 4 && player->status == GRT_OK; i++)
      player->status = grt_session_step(player->session, i % 3, &player->picture.image, nullptr, nullptr);
  }

  // Sessions of one world in two threads at once play what they play alone.
  void two_threads(grt_world* world) {
    Player players[2];
    grt::Thread threads[2];
    grt::Error error;
    for (int i = 0; i < 2; i++) {
      players[i].test = this;
      players[i].session = make_session(world, i == 0 ? "default" : "pass by pass", 9);
    }
    for (int i = 0; i < 2; i++) GRT_REQUIRE(threads[i].start(play_in_thread, &players[i], error));
    for (grt::Thread& thread : threads) thread.join();
    for (int i = 0; i < 2; i++) {
      GRT_CHECK_STATUS(players[i].status, GRT_OK);
      grt_session* alone = make_session(world, i == 0 ? "default" : "pass by pass", 9);
      Picture picture;
      steps(alone, 4, picture);
      GRT_CHECK(picture == players[i].picture);
      grt_session_free(alone);
      grt_session_free(players[i].session);
    }
  }

  void refuse() {
    const char* library = params_.onnxruntime_library;
    params_.onnxruntime_library = "/nowhere/libonnxruntime.so";
    refuse_as(GRT_ERROR_UNSUPPORTED, "expected the library of ONNX Runtime at '/nowhere/libonnxruntime.so'");
    params_.onnxruntime_library = library;
    params_.onnxruntime_provider = "NoSuchThing";
    refuse_as(GRT_ERROR_UNSUPPORTED, "with the provider NoSuchThing, found ");
    params_.onnxruntime_plugin = "/nowhere/plug-in.so";
    refuse_as(GRT_ERROR_UNSUPPORTED, "/nowhere/plug-in.so: expected a plug-in of ONNX Runtime");
    params_.onnxruntime_provider = nullptr;
    refuse_as(GRT_ERROR_INPUT, "onnxruntime_provider: expected the name of the provider");
    params_.onnxruntime_plugin = nullptr;
    params_.parallel_for = [](void*, int32_t, grt_task, void*) {};
    refuse_as(GRT_ERROR_UNSUPPORTED, "parallel_for: expected none");
    params_.parallel_for = nullptr;
  }

  void refuse_as(grt_status status, const char* message) {
    grt_world* world = nullptr;
    GRT_CHECK_STATUS(grt_world_load(bundle_, &params_, &world, &error_), status);
    GRT_CHECK_CONTAINS(error_.message, message);
    GRT_CHECK(world == nullptr);
  }

  bool ok(grt_status status) {
    if (status != GRT_OK) std::fprintf(stderr, "%s: %s\n", grt_status_name(status), error_.message);
    return status == GRT_OK;
  }

  const char* bundle_;
  grt_world_params params_;
  grt_allocator allocator_;
  grt_error error_;
  Counts counts_;
};

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr,
                 "skipped: no library of ONNX Runtime was found when this was configured; set "
                 "GRT_ONNXRUNTIME_LIBRARY\n");
    return 77;
  }
  Test(arguments[1], arguments[2]).run();
  return grt::test::failures();
}
