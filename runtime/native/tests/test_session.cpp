// What sessions promise, with an engine whose every picture depends on all that a session is made of.

#include "api_fixture.hpp"

namespace grt::test {
namespace {

const TinyFiles* tiny_files;

grt_world* load() { return tiny_files->load(); }

void test_info() {
  grt_world* world = load();
  grt_world_info info;
  grt_world_info_init(&info);
  GRT_CHECK_STATUS(grt_world_get_info(world, &info, nullptr), GRT_OK);
  GRT_CHECK_TEXT(info.name, "tiny");
  GRT_CHECK_EQ(info.frame_width, kWidth);
  GRT_CHECK_EQ(info.frame_height, kHeight);
  GRT_CHECK_EQ(info.prompt_width, kPromptWidth);
  GRT_CHECK_EQ(info.prompt_height, kPromptHeight);
  GRT_CHECK_EQ(info.num_actions, kActions);
  GRT_CHECK_EQ(info.default_action, 1);
  GRT_CHECK_EQ(info.num_plans, 2);
  GRT_CHECK_EQ(info.num_prompts, 2);
  GRT_CHECK_EQ(info.num_tokens, kTokens);
  GRT_CHECK_EQ(info.codebook_size, kCodes);
  GRT_CHECK_EQ(info.window, 4);
  GRT_CHECK_EQ(info.has_int8, 1);
  GRT_CHECK_EQ(static_cast<int>(info.precision), static_cast<int>(GRT_PRECISION_INT8));
  GRT_CHECK_EQ(info.weight_bytes, 1000u);
  GRT_CHECK(info.session_bytes > 100 && info.page_bytes > 0);
  GRT_CHECK_TEXT(grt_world_action_name(world, 0), "left");
  GRT_CHECK_TEXT(grt_world_action_name(world, 2), "right");
  GRT_CHECK(grt_world_action_name(world, 3) == nullptr && grt_world_action_name(world, -1) == nullptr);
  GRT_CHECK_TEXT(grt_world_prompt_name(world, 1), "prompts/001.png");
  GRT_CHECK(grt_world_plan_name(world, 1) != nullptr && grt_world_plan_name(world, 2) == nullptr);
  int32_t action = -7;
  GRT_CHECK_STATUS(grt_world_find_action(world, "right", &action, nullptr), GRT_OK);
  GRT_CHECK_EQ(action, 2);
  grt_plan plan;
  grt_plan_init(&plan);
  GRT_CHECK_STATUS(grt_world_get_plan(world, "fast", &plan, nullptr), GRT_OK);
  GRT_CHECK(plan.order == GRT_ORDER_HALTON && plan.reuse == GRT_REUSE_PASSES && plan.passes == 1);
  GRT_CHECK_STATUS(grt_world_get_plan(world, nullptr, &plan, nullptr), GRT_OK);
  GRT_CHECK(plan.order == GRT_ORDER_MASKGIT && plan.passes == 4 && plan.temperature == 0.4);
  grt_world_free(world);
}

// Loading tells how far it is, says in the log what was loaded, and needs the files no longer.
void test_loading() {
  struct Told {
    int num_calls = 0, num_messages = 0;
    uint64_t done = 0, total = 0;
    bool is_steady = true;
    std::string message;
  } told;
  grt_world_params params;
  grt_world_params_init(&params);
  params.progress_user = params.log_user = &told;
  params.progress = [](void* user, uint64_t done, uint64_t total) -> int32_t {
    Told& t = *static_cast<Told*>(user);
    t.is_steady &= done >= t.done && done <= total && (t.num_calls == 0 || total == t.total);
    t.done = done;
    t.total = total;
    t.num_calls++;
    return 0;
  };
  params.log = [](void* user, grt_log_level level, const char* message) {
    Told& t = *static_cast<Told*>(user);
    if (level == GRT_LOG_INFO) t.message = message;
    t.num_messages++;
  };
  grt_world* world = nullptr;
  {
    TinyFiles files;
    world = files.load(&params);
    for (auto& [name, data] : files.bundle.files) std::memset(data.data(), 0, data.size());
  }
  GRT_CHECK(told.is_steady && told.num_calls > 0 && told.done == told.total && told.total > 1000);
  GRT_CHECK_EQ(told.num_messages, 1);
  GRT_CHECK_CONTAINS(told.message.c_str(), "tiny: int8");
  grt_world* other = load();
  grt_session *a = start(world), *b = start(other);
  GRT_CHECK(future_of(a) == future_of(b));
  for (grt_session* session : {a, b}) grt_session_free(session);
  grt_world_free(world);
  grt_world_free(other);

  grt_version version;
  grt_version_init(&version);
  GRT_CHECK_STATUS(grt_get_version(&version, nullptr), GRT_OK);
  GRT_CHECK(version.major == GRT_VERSION_MAJOR && version.minor == GRT_VERSION_MINOR &&
            version.patch == GRT_VERSION_PATCH && version.snapshot_version == 1);
  GRT_CHECK_CONTAINS(version.build, "scalar");
}

void test_formats_and_pitches() {
  grt_world* world = load();
  uint8_t rgb[kPromptHeight][kPromptWidth][3];
  grt_image image;
  grt_image_init(&image, rgb, sizeof rgb, GRT_FORMAT_RGB8);
  GRT_CHECK_STATUS(grt_world_get_prompt(world, 0, &image, nullptr), GRT_OK);
  for (const grt_format format : {GRT_FORMAT_RGB8, GRT_FORMAT_RGBA8, GRT_FORMAT_BGRA8}) {
    const size_t bytes = format == GRT_FORMAT_RGB8 ? 3 : 4, row = bytes * kPromptWidth, pitch = row + 5;
    uint8_t padded[(4 * kPromptWidth + 5) * kPromptHeight];
    std::memset(padded, 77, sizeof padded);
    grt_image_init(&image, padded, pitch * (kPromptHeight - 1) + row, format);
    image.pitch = pitch;
    GRT_CHECK_STATUS(grt_world_get_prompt(world, 0, &image, nullptr), GRT_OK);
    bool same = true, gaps = true;
    for (size_t y = 0; y < kPromptHeight; y++) {
      const uint8_t* line = padded + y * pitch;
      for (size_t x = 0; x < kPromptWidth; x++) {
        const size_t red = format == GRT_FORMAT_BGRA8 ? 2 : 0;
        same &= line[x * bytes + red] == rgb[y][x][0] && line[x * bytes + 1] == rgb[y][x][1] &&
                line[x * bytes + 2 - red] == rgb[y][x][2] && (bytes == 3 || line[x * bytes + 3] == 255);
      }
      for (size_t x = row; x < pitch && y * pitch + x < sizeof padded; x++) gaps &= line[x] == 77;
    }
    GRT_CHECK(same);
    GRT_CHECK(gaps);
    // Whatever the format and alpha, a session sees the same picture.
    if (bytes == 4) {
      for (size_t y = 0; y < kPromptHeight; y++) {
        for (size_t x = 0; x < kPromptWidth; x++) padded[y * pitch + x * 4 + 3] = static_cast<uint8_t>(x);
      }
    }
    grt_session* of_prompt = start(world, 9);
    grt_session* of_image = nullptr;
    GRT_CHECK_STATUS(grt_session_create(world, nullptr, &of_image, nullptr), GRT_OK);
    GRT_CHECK_STATUS(grt_session_reset(of_image, &image, 1, nullptr, 9, nullptr, nullptr), GRT_OK);
    GRT_CHECK(future_of(of_prompt) == future_of(of_image));
    grt_session_free(of_prompt);
    grt_session_free(of_image);
  }
  grt_world_free(world);
}

void test_steps_repeat() {
  grt_world* world = load();
  grt_session *a = start(world, 5), *b = start(world, 5), *other = start(world, 6);
  GRT_CHECK_EQ(state_of(a).frame_index, 0);
  GRT_CHECK_EQ(state_of(a).action, -1);
  GRT_CHECK_EQ(state_of(a).seed, 5u);
  Frame of_a, of_b, again;
  for (int32_t i = 0; i < 20; i++) {
    grt_step_stats stats;
    grt_step_stats_init(&stats);
    step(a, i % 3, &of_a, &stats);
    if (i % 2 == 0) GRT_CHECK_STATUS(grt_session_commit(b, nullptr), GRT_OK);
    GRT_CHECK_EQ(state_of(b).pending, i % 2);
    step(b, i % 3, &of_b);
    step(other, i % 3);
    GRT_CHECK(of_a == of_b);
    GRT_CHECK_EQ(digest_of(a), digest_of(b));
    GRT_CHECK(digest_of(a) != digest_of(other));
    GRT_CHECK_EQ(stats.passes, 4);
    GRT_CHECK_EQ(stats.tokens, 4 * kTokens);
    GRT_CHECK_EQ(stats.frame_index, i + 1);
    GRT_CHECK_EQ(stats.late + stats.from_peek, 0);
    GRT_CHECK(stats.total_ms > 0);
    GRT_CHECK_EQ(state_of(a).action, i % 3);
    GRT_CHECK_STATUS(grt_session_get_frame(a, &again.image, nullptr), GRT_OK);
    GRT_CHECK(again == of_a);
  }
  // A reset forgets everything.
  GRT_CHECK_STATUS(grt_session_reset_prompt(a, 0, 5, nullptr, nullptr), GRT_OK);
  grt_session* fresh = start(world, 5);
  GRT_CHECK(future_of(a) == future_of(fresh));
  for (grt_session* session : {a, b, other, fresh}) grt_session_free(session);
  grt_world_free(world);
}

void test_actions_of_one_code() {
  grt_world* world = load();
  grt_session *a = start(world), *b = start(world);
  step(a, 0);
  step(b, 2);
  GRT_CHECK_EQ(digest_of(a), digest_of(b));
  GRT_CHECK_EQ(state_of(a).action, 0);
  GRT_CHECK_EQ(state_of(b).action, 2);
  step(b, 1);
  step(a, 0);
  GRT_CHECK(digest_of(a) != digest_of(b));
  grt_session_free(a);
  grt_session_free(b);
  grt_world_free(world);
}

void test_prompts_of_several_pictures() {
  grt_world* world = load();
  std::vector<uint8_t> pixels(8 * 3 * kPromptWidth * kPromptHeight);
  for (size_t i = 0; i < pixels.size(); i++) pixels[i] = static_cast<uint8_t>(i * i >> 3);
  std::vector<grt_image> pictures(8);
  for (size_t i = 0; i < 8; i++) {
    grt_image_init(&pictures[i], pixels.data() + i * pixels.size() / 8, pixels.size() / 8, GRT_FORMAT_RGB8);
  }
  const int32_t actions[] = {0, 1, 2, 1, 0, 1, 1};
  grt_session* session = start(world);
  for (size_t count = 1; count <= 8; count++) {
    Frame frame, again;
    GRT_CHECK_STATUS(grt_session_reset(session, pictures.data(), count, actions, 3, &frame.image, nullptr),
                     GRT_OK);
    GRT_CHECK_EQ(state_of(session).frame_index, static_cast<int64_t>(count) - 1);
    GRT_CHECK_EQ(state_of(session).action, count == 1 ? -1 : actions[count - 2]);
    GRT_CHECK_STATUS(grt_session_get_frame(session, &again.image, nullptr), GRT_OK);
    GRT_CHECK(frame == again);
    for (int i = 0; i < 5; i++) step(session, 1);
  }
  grt_session_free(session);
  grt_world_free(world);
}

void test_peeks() {
  grt_world* world = load();
  for (const bool ahead : {true, false}) {
    for (const grt_reuse reuse : {GRT_REUSE_NONE, GRT_REUSE_FRAMES}) {
      fake::knobs.commits_ahead = ahead;
      grt_plan plan = make_plan(GRT_ORDER_MASKGIT, reuse, 3);
      grt_session *plain = start(world), *peeking = start(world);
      GRT_CHECK_STATUS(grt_session_set_plan(plain, &plan, nullptr), GRT_OK);
      GRT_CHECK_STATUS(grt_session_set_plan(peeking, &plan, nullptr), GRT_OK);
      for (int32_t i = 0; i < 12; i++) {
        const int32_t actions[] = {1, 2, 0, 1};
        Frame frames[4], frame, expected;
        grt_image images[4];
        for (int32_t j = 0; j < 4; j++) images[j] = frames[j].image;
        // Only what is not known yet is computed: 0 and 2 are one action of the dynamics.
        const int before = fake::knobs.num_frames;
        const uint64_t digest = digest_of(peeking);
        if (i % 3 > 0) {
          GRT_CHECK_STATUS(grt_session_peek(peeking, actions, 1, nullptr, nullptr), GRT_OK);
          GRT_CHECK_EQ(fake::knobs.num_frames, before + 1);
        }
        if (i % 3 != 1) {
          GRT_CHECK_STATUS(grt_session_peek(peeking, actions, 4, images, nullptr), GRT_OK);
          GRT_CHECK_EQ(fake::knobs.num_frames, before + 2);
          GRT_CHECK(frames[0] == frames[3] && frames[1] == frames[2] && !(frames[0] == frames[1]));
        }
        GRT_CHECK_EQ(digest_of(peeking), digest);
        if (i % 4 == 3) GRT_CHECK_STATUS(grt_session_commit(peeking, nullptr), GRT_OK);
        grt_step_stats stats;
        grt_step_stats_init(&stats);
        step(peeking, i % 3, &frame, &stats);
        step(plain, i % 3, &expected);
        GRT_CHECK(frame == expected);
        GRT_CHECK_EQ(stats.from_peek, 1);
        GRT_CHECK_EQ(stats.passes, 3);
        GRT_CHECK_EQ(state_of(peeking).action, i % 3);
        if (i % 3 != 1) GRT_CHECK(frame == frames[i % 3 == 0 ? 2 : 1]);
      }
      GRT_CHECK(future_of(plain) == future_of(peeking));
      grt_session_free(plain);
      grt_session_free(peeking);
    }
  }
  fake::knobs.commits_ahead = true;
  grt_world_free(world);
}

void test_peeks_are_dropped() {
  grt_world* world = load();
  grt_session* session = start(world);
  const int32_t actions[] = {0, 1};
  grt_step_stats stats;
  grt_step_stats_init(&stats);
  const auto peeked = [&] {
    step(session, 0, nullptr, &stats);
    return stats.from_peek;
  };
  const auto peek = [&] {
    GRT_CHECK_STATUS(grt_session_peek(session, actions, 2, nullptr, nullptr), GRT_OK);
  };
  peek();
  GRT_CHECK_EQ(peeked(), 1);
  GRT_CHECK_EQ(peeked(), 0);
  peek();
  grt_plan plan = make_plan(GRT_ORDER_MASKGIT, GRT_REUSE_NONE, 2);
  GRT_CHECK_STATUS(grt_session_set_plan(session, &plan, nullptr), GRT_OK);
  GRT_CHECK_EQ(peeked(), 0);
  peek();
  GRT_CHECK_STATUS(grt_session_set_plan(session, &plan, nullptr), GRT_OK);  // the same again
  GRT_CHECK_EQ(peeked(), 1);
  peek();
  GRT_CHECK_STATUS(grt_session_reset_prompt(session, 1, 4, nullptr, nullptr), GRT_OK);
  GRT_CHECK_EQ(peeked(), 0);
  grt_snapshot* snapshot = nullptr;
  GRT_CHECK_STATUS(grt_session_snapshot(session, &snapshot, nullptr), GRT_OK);
  peek();
  GRT_CHECK_STATUS(grt_session_restore(session, snapshot, nullptr), GRT_OK);
  GRT_CHECK_EQ(peeked(), 0);
  peek();
  fake::knobs.status = GRT_ERROR_DEVICE;  // a step that fails leaves them
  GRT_CHECK_STATUS(grt_session_reset_prompt(session, 1, 4, nullptr, nullptr), GRT_ERROR_DEVICE);
  fake::knobs.status = GRT_OK;
  GRT_CHECK_EQ(peeked(), 1);
  // A deadline that takes other passes drops them; one that takes the same does not.
  peek();
  GRT_CHECK_STATUS(grt_session_set_deadline(session, 1000, 1, nullptr), GRT_OK);
  GRT_CHECK_EQ(peeked(), 1);
  grt_snapshot_free(snapshot);
  grt_session_free(session);

  // Fewer places than actions: the oldest that nobody asks for makes room.
  grt_session_params params;
  grt_session_params_init(&params);
  params.most_peeks = 1;
  session = start(world, 1, &params);
  GRT_CHECK_STATUS(grt_session_peek(session, actions, 2, nullptr, nullptr), GRT_ERROR_INPUT);
  GRT_CHECK_STATUS(grt_session_peek(session, actions, 1, nullptr, nullptr), GRT_OK);
  GRT_CHECK_STATUS(grt_session_peek(session, actions + 1, 1, nullptr, nullptr), GRT_OK);
  GRT_CHECK_EQ(peeked(), 0);
  grt_session_free(session);
  grt_world_free(world);
}

void test_failed_calls_change_nothing() {
  grt_world* world = load();
  for (const grt_reuse reuse : {GRT_REUSE_NONE, GRT_REUSE_FRAMES}) {
    for (const bool committed : {false, true}) {
      grt_plan plan = make_plan(GRT_ORDER_MASKGIT, reuse, 3);
      grt_session* session = start(world);
      GRT_CHECK_STATUS(grt_session_set_plan(session, &plan, nullptr), GRT_OK);
      for (int i = 0; i < 7; i++) step(session, 1);
      if (committed) GRT_CHECK_STATUS(grt_session_commit(session, nullptr), GRT_OK);
      const std::vector<uint64_t> before = future_of(session);
      const int32_t pending = state_of(session).pending;
      const int32_t tokens[kTokens] = {1, 2, 3}, actions[] = {0, 1};
      for (int round = 0; round < 10; round++) {  // pages would run out
        fake::knobs.status = GRT_ERROR_DEVICE;
        GRT_CHECK_STATUS(grt_session_step(session, 0, nullptr, nullptr, nullptr), GRT_ERROR_DEVICE);
        if (!committed) GRT_CHECK_STATUS(grt_session_commit(session, nullptr), GRT_ERROR_DEVICE);
        GRT_CHECK_STATUS(grt_session_peek(session, actions, 2, nullptr, nullptr), GRT_ERROR_DEVICE);
        GRT_CHECK_STATUS(grt_session_force(session, 0, tokens, kTokens, nullptr, nullptr), GRT_ERROR_DEVICE);
        GRT_CHECK_STATUS(grt_session_probe(session, 0, tokens, kTokens, 0, nullptr, nullptr, nullptr),
                         GRT_ERROR_DEVICE);
        GRT_CHECK_STATUS(grt_session_reset_prompt(session, 0, 1, nullptr, nullptr), GRT_ERROR_DEVICE);
        grt_status status = GRT_OK;
        GRT_CHECK_STATUS(grt_step_many(&session, actions, 1, nullptr, nullptr, &status, nullptr),
                         GRT_ERROR_DEVICE);
        GRT_CHECK_STATUS(status, GRT_ERROR_DEVICE);
        GRT_CHECK_STATUS(grt_session_submit(session, 0, nullptr), GRT_OK);
        int32_t done = 5;
        GRT_CHECK_STATUS(grt_session_poll(session, -1, &done, nullptr, nullptr, nullptr), GRT_ERROR_DEVICE);
        GRT_CHECK_EQ(done, 5);
        fake::knobs.status = GRT_OK;
        GRT_CHECK_EQ(state_of(session).pending, pending);
        GRT_CHECK(future_of(session) == before);
      }
      grt_session_free(session);
    }
  }
  grt_world_free(world);
}

void test_snapshots_and_forks() {
  grt_world* world = load();
  for (const grt_reuse reuse : {GRT_REUSE_NONE, GRT_REUSE_FRAMES}) {
    grt_plan plan = make_plan(GRT_ORDER_MASKGIT, reuse, 3);
    grt_session_params params;
    grt_session_params_init(&params);
    params.plan = &plan;
    grt_session *session = start(world, 8, &params), *other = start(world, 9, &params);
    std::vector<grt_snapshot*> snapshots;
    std::vector<std::vector<uint64_t>> futures;
    for (int32_t i = 0; i < 12; i++) {
      grt_snapshot* snapshot = nullptr;
      GRT_CHECK_STATUS(grt_session_snapshot(session, &snapshot, nullptr), GRT_OK);
      snapshots.push_back(snapshot);
      futures.push_back(future_of(session));
      if (i % 2 == 0) GRT_CHECK_STATUS(grt_session_commit(session, nullptr), GRT_OK);
      step(session, i % 3);
    }
    const std::vector<uint64_t> end = future_of(session);
    for (size_t i : {3u, 0u, 11u, 5u, 5u, 1u, 7u}) {
      Frame frame;
      GRT_CHECK_STATUS(grt_session_restore(other, snapshots[i], nullptr), GRT_OK);
      GRT_CHECK(future_of(other) == futures[i]);
      GRT_CHECK_STATUS(grt_session_get_frame(other, &frame.image, nullptr), GRT_OK);
      for (int32_t j = 0; j < static_cast<int32_t>(i); j++) step(other, j % 3);
    }
    GRT_CHECK(future_of(session) == end);
    // Snapshots outlive the session and the world.
    grt_session_free(session);
    grt_session_free(other);
    for (size_t i = 1; i < snapshots.size(); i++) grt_snapshot_free(snapshots[i]);
    session = start(world, 1, &params);
    GRT_CHECK_STATUS(grt_session_restore(session, snapshots[0], nullptr), GRT_OK);
    GRT_CHECK(future_of(session) == futures[0]);
    grt_session_free(session);
    grt_snapshot_free(snapshots[0]);
  }
  grt_session* session = start(world);
  grt_snapshot* snapshot = nullptr;
  GRT_CHECK_STATUS(grt_session_snapshot(session, &snapshot, nullptr), GRT_OK);
  grt_world_free(world);
  step(session, 1);
  grt_session_free(session);
  grt_snapshot_free(snapshot);
}

}  // namespace
}  // namespace grt::test

int main() {
  using namespace grt::test;
  const TinyFiles files;
  tiny_files = &files;
  test_info();
  test_loading();
  test_formats_and_pitches();
  test_steps_repeat();
  test_actions_of_one_code();
  test_prompts_of_several_pictures();
  test_peeks();
  test_peeks_are_dropped();
  test_failed_calls_change_nothing();
  test_snapshots_and_forks();
  return failures();
}
