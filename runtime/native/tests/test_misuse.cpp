// Kinds of misuse: each gives its status and a message, and changes nothing. Here are those of worlds, plans
// and parameters.

#include <cfloat>
#include <cmath>

#include "api/structs.hpp"
#include "misuse.hpp"
#include "support/utf8.hpp"

namespace grt {
namespace test {

// A struct that has grown since its first version.
struct Grown {
  size_t struct_size;
  int32_t old_member, old_too;
  double new_member;
};

}  // namespace test

template <>
inline constexpr size_t kFirstSize<test::Grown> = offsetof(test::Grown, new_member);

}  // namespace grt

namespace grt::test {
namespace {

void misuse_of_loading() {
  Wrong wrong;
  grt_world* world = nullptr;
  grt_world_params params;
  grt_world_info info;
  const grt_file* files = tiny_files->files.data();
  const size_t count = tiny_files->files.size();
  const auto init = [&] { grt_world_params_init(&params); };
  const auto load = [&] { return grt_world_load_memory(files, count, &params, &world, &wrong); };

  WRONG(grt_world_load(nullptr, nullptr, &world, &wrong), GRT_ERROR_INPUT, "folder");
  WRONG(grt_world_load("", nullptr, &world, &wrong), GRT_ERROR_BUNDLE, "expected");
  WRONG(grt_world_load("no/such/bundle", nullptr, &world, &wrong), GRT_ERROR_BUNDLE, "no/such/bundle");
  WRONG(grt_world_load("README.md", nullptr, &world, &wrong), GRT_ERROR_BUNDLE, "README.md");
  WRONG(grt_world_load("runtime/native", nullptr, &world, &wrong), GRT_ERROR_BUNDLE, "bundle.json");
  WRONG(grt_world_load("runtime/bundles/demo", nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "world");
  WRONG(grt_world_load_memory(nullptr, 3, nullptr, &world, &wrong), GRT_ERROR_INPUT, "files");
  WRONG(grt_world_load_memory(files, 0, nullptr, &world, &wrong), GRT_ERROR_INPUT, "files");
  WRONG(grt_world_load_memory(files, count, nullptr, nullptr, &wrong), GRT_ERROR_INPUT, "world");
  WRONG(grt_world_load_memory(files + 1, count - 1, nullptr, &world, &wrong), GRT_ERROR_BUNDLE,
        "bundle.json");
  WRONG(grt_world_load_memory(files, 1, nullptr, &world, &wrong), GRT_ERROR_BUNDLE, "expected");
  std::vector<grt_file> odd(files, files + count);
  odd[2].name = nullptr;
  WRONG(grt_world_load_memory(odd.data(), count, nullptr, &world, &wrong), GRT_ERROR_INPUT, "files[2]");
  odd[2] = files[2];
  odd[3].data = nullptr;
  WRONG(grt_world_load_memory(odd.data(), count, nullptr, &world, &wrong), GRT_ERROR_INPUT, "files[3]");
  odd[3] = files[3];
  odd[0].size = 10;
  WRONG(grt_world_load_memory(odd.data(), count, nullptr, &world, &wrong), GRT_ERROR_BUNDLE, "bundle.json");

  init();
  params.struct_size = 0;
  WRONG(load(), GRT_ERROR_INPUT, "grt_world_params_init");
  params.struct_size = sizeof params - 8;
  WRONG(load(), GRT_ERROR_INPUT, "struct_size");
  params.struct_size = sizeof params + 3;
  WRONG(load(), GRT_ERROR_INPUT, "struct_size");
  params.struct_size = SIZE_MAX;
  WRONG(load(), GRT_ERROR_INPUT, "struct_size");
  for (const int32_t number : {-1, 3, INT32_MAX}) {
    init();
    set_number(params.precision, number);
    WRONG(load(), GRT_ERROR_INPUT, "precision");
    init();
    set_number(params.instructions, number == 3 ? 8 : number);
    WRONG(load(), GRT_ERROR_INPUT, "instructions");
    init();
    set_number(params.engine, number);
    WRONG(load(), GRT_ERROR_INPUT, "engine");
  }
  init();
  params.num_threads = -1;
  WRONG(load(), GRT_ERROR_INPUT, "num_threads");
  params.num_threads = INT32_MAX;
  WRONG(load(), GRT_ERROR_INPUT, "num_threads");
  init();
  grt_allocator hooks;
  grt_allocator_init(&hooks);
  params.allocator = &hooks;
  WRONG(load(), GRT_ERROR_INPUT, "allocate NULL");
  hooks.allocate = [](void*, size_t, size_t) -> void* { return nullptr; };
  WRONG(load(), GRT_ERROR_INPUT, "release NULL");
  hooks.release = [](void*, void*, size_t) {};
  WRONG(load(), GRT_ERROR_OUT_OF_MEMORY, "memory");
  hooks.struct_size = 1;
  WRONG(load(), GRT_ERROR_INPUT, "grt_allocator_init");
  init();
  params.progress = [](void*, uint64_t, uint64_t) -> int32_t { return 1; };
  WRONG(load(), GRT_ERROR_CANCELLED, "");
  params.progress = [](void*, uint64_t done, uint64_t total) -> int32_t { return done == total; };
  WRONG(load(), GRT_ERROR_CANCELLED, "");
  GRT_CHECK(world == nullptr);

  // A bundle that says nothing of int8.
  tiny::Bundle plain = tiny::make();
  const size_t at = plain.manifest.find(", \"int8\": {\"limits\"");
  GRT_CHECK(at != std::string::npos);
  plain.manifest.erase(at, plain.manifest.rfind('}') - at);
  const TinyFiles without(plain);
  init();
  params.precision = GRT_PRECISION_INT8;
  WRONG(grt_world_load_memory(without.files.data(), without.files.size(), &params, &world, &wrong),
        GRT_ERROR_UNSUPPORTED, "int8");
  grt_world* in_float = without.load();
  grt_world_info_init(&info);
  GRT_CHECK_STATUS(grt_world_get_info(in_float, &info, nullptr), GRT_OK);
  GRT_CHECK_EQ(static_cast<int>(info.precision), static_cast<int>(GRT_PRECISION_FLOAT32));
  grt_world_free(in_float);

  grt_world_info_init(&info);
  WRONG(grt_bundle_inspect(nullptr, &info, &wrong), GRT_ERROR_INPUT, "folder");
  WRONG(grt_bundle_inspect("no/such/bundle", &info, &wrong), GRT_ERROR_BUNDLE, "no/such/bundle");
  WRONG(grt_bundle_inspect("runtime/bundles/demo", nullptr, &wrong), GRT_ERROR_INPUT, "info");
  info.struct_size = 8;
  WRONG(grt_bundle_inspect("runtime/bundles/demo", &info, &wrong), GRT_ERROR_INPUT, "grt_world_info_init");
}

void misuse_of_worlds() {
  Wrong wrong;
  grt_world* world = tiny_files->load();
  grt_world_info info;
  grt_version version;
  grt_plan plan;
  uint8_t pixels[4 * kPromptWidth * kPromptHeight];
  grt_image image;
  int32_t action = -7;
  size_t size = 0;
  grt_world_info_init(&info);
  grt_version_init(&version);
  grt_plan_init(&plan);
  const auto init = [&] { grt_image_init(&image, pixels, sizeof pixels, GRT_FORMAT_RGBA8); };

  WRONG(grt_get_version(nullptr, &wrong), GRT_ERROR_INPUT, "version");
  version.struct_size = 1;
  WRONG(grt_get_version(&version, &wrong), GRT_ERROR_INPUT, "grt_version_init");
  WRONG(grt_world_get_info(nullptr, &info, &wrong), GRT_ERROR_INPUT, "world");
  WRONG(grt_world_get_info(world, nullptr, &wrong), GRT_ERROR_INPUT, "info");
  info.struct_size = sizeof info - 8;
  WRONG(grt_world_get_info(world, &info, &wrong), GRT_ERROR_INPUT, "struct_size");
  GRT_CHECK(grt_world_action_name(nullptr, 0) == nullptr && grt_world_plan_name(nullptr, 0) == nullptr &&
            grt_world_prompt_name(nullptr, 0) == nullptr && grt_world_plan_name(world, INT32_MIN) == nullptr);
  WRONG(grt_world_find_action(nullptr, "stay", &action, &wrong), GRT_ERROR_INPUT, "world");
  WRONG(grt_world_find_action(world, nullptr, &action, &wrong), GRT_ERROR_INPUT, "name");
  WRONG(grt_world_find_action(world, "stay", nullptr, &wrong), GRT_ERROR_INPUT, "action");
  WRONG(grt_world_find_action(world, "fly", &action, &wrong), GRT_ERROR_INPUT,
        "left, stay, right; found \"fly\"");
  WRONG(grt_world_find_action(world, "", &action, &wrong), GRT_ERROR_INPUT, "stay");
  GRT_CHECK_EQ(action, -7);
  const std::string long_name(100000, 'x');
  WRONG(grt_world_find_action(world, long_name.c_str(), &action, &wrong), GRT_ERROR_INPUT, "xxx");
  WRONG(grt_world_get_plan(nullptr, "fast", &plan, &wrong), GRT_ERROR_INPUT, "world");
  WRONG(grt_world_get_plan(world, "fast", nullptr, &wrong), GRT_ERROR_INPUT, "plan");
  WRONG(grt_world_get_plan(world, "faster", &plan, &wrong), GRT_ERROR_CONFIG, "fast");
  plan.struct_size = 16;
  WRONG(grt_world_get_plan(world, "fast", &plan, &wrong), GRT_ERROR_INPUT, "grt_plan_init");

  init();
  WRONG(grt_world_get_prompt(nullptr, 0, &image, &wrong), GRT_ERROR_INPUT, "world");
  WRONG(grt_world_get_prompt(world, 2, &image, &wrong), GRT_ERROR_INPUT, "0 to 1, found 2");
  WRONG(grt_world_get_prompt(world, -1, &image, &wrong), GRT_ERROR_INPUT, "found -1");
  WRONG(grt_world_get_prompt(world, 0, nullptr, &wrong), GRT_ERROR_INPUT, "image");
  image.struct_size = 0;
  WRONG(grt_world_get_prompt(world, 0, &image, &wrong), GRT_ERROR_INPUT, "grt_image_init");
  init();
  image.pixels = nullptr;
  WRONG(grt_world_get_prompt(world, 0, &image, &wrong), GRT_ERROR_INPUT, "pixels NULL");
  init();
  image.size--;
  WRONG(grt_world_get_prompt(world, 0, &image, &wrong), GRT_ERROR_INPUT, "a size of 467");
  image.size = 0;
  WRONG(grt_world_get_prompt(world, 0, &image, &wrong), GRT_ERROR_INPUT, "a size of 0");
  init();
  image.pitch = 4 * kPromptWidth - 1;
  WRONG(grt_world_get_prompt(world, 0, &image, &wrong), GRT_ERROR_INPUT, "pitch of 52");
  for (const size_t pitch : {size_t{4 * kPromptWidth + 1}, size_t{SIZE_MAX}, size_t{SIZE_MAX / 8 + 1}}) {
    image.pitch = pitch;
    WRONG(grt_world_get_prompt(world, 0, &image, &wrong), GRT_ERROR_INPUT, "bytes apart");
  }
  for (const int32_t format : {-1, 3, 1 << 30}) {
    init();
    set_number(image.format, format);
    WRONG(grt_world_get_prompt(world, 0, &image, &wrong), GRT_ERROR_INPUT, "format");
  }
  WRONG(grt_world_save_size(nullptr, &size, &wrong), GRT_ERROR_INPUT, "world");
  WRONG(grt_world_save_size(world, nullptr, &wrong), GRT_ERROR_INPUT, "size");
  grt_world_free(nullptr);
  grt_world_free(world);
}

void misuse_of_plans() {
  Wrong wrong;
  grt_world* world = tiny_files->load();
  grt_session* session = start(world);
  grt_plan plan;
  const auto init = [&] { grt_plan_init(&plan); };
  const auto set = [&] { return grt_session_set_plan(session, &plan, &wrong); };
  const double nan = std::nan("");

  WRONG(grt_session_set_plan(session, nullptr, &wrong), GRT_ERROR_INPUT, "plan");
  WRONG(grt_session_get_plan(session, nullptr, &wrong), GRT_ERROR_INPUT, "plan");
  init();
  plan.struct_size = 0;
  WRONG(set(), GRT_ERROR_INPUT, "grt_plan_init");
  WRONG(grt_session_get_plan(session, &plan, &wrong), GRT_ERROR_INPUT, "grt_plan_init");
  for (const int32_t number : {-1, 4, INT32_MAX}) {
    init();
    set_number(plan.order, number);
    WRONG(set(), GRT_ERROR_CONFIG, "Plan.order");
    init();
    set_number(plan.reuse, number);
    WRONG(set(), GRT_ERROR_CONFIG, "Plan.reuse");
  }
  for (const int32_t passes : {-1, 4097, INT32_MIN, INT32_MAX}) {
    init();
    plan.passes = passes;
    WRONG(set(), GRT_ERROR_CONFIG, "from 1 to 4096");
  }
  init();  // the default of 25 is more than this model's tokens
  WRONG(set(), GRT_ERROR_CONFIG, "at most 12, the tokens");
  plan.passes = 13;
  WRONG(set(), GRT_ERROR_CONFIG, "found 13");
  for (const double value : {-1.0, nan, HUGE_VAL, -HUGE_VAL, 1e7, DBL_MIN}) {
    init();
    plan.passes = 2;
    plan.temperature = value;
    WRONG(set(), GRT_ERROR_CONFIG, "Plan.temperature");
    plan.temperature = 1;
    plan.noise = value == DBL_MIN ? -1e-300 : value;
    WRONG(set(), GRT_ERROR_CONFIG, "Plan.noise");
    plan.noise = 0;
    plan.threshold = value;
    WRONG(set(), GRT_ERROR_CONFIG, "Plan.threshold");
    plan.threshold = 1;
    plan.fresh = value;
    WRONG(set(), GRT_ERROR_CONFIG, "Plan.fresh");
  }
  for (const auto& [order, reuse] :
       {std::pair{GRT_ORDER_MASKGIT, GRT_REUSE_PASSES}, std::pair{GRT_ORDER_ADAPTIVE, GRT_REUSE_PASSES},
        std::pair{GRT_ORDER_HALTON, GRT_REUSE_FRAMES}, std::pair{GRT_ORDER_ADAPTIVE, GRT_REUSE_FRAMES}}) {
    plan = make_plan(order, reuse, 2);
    WRONG(set(), GRT_ERROR_CONFIG, "needs the order");
  }
  plan = make_plan(GRT_ORDER_MASKGIT, GRT_REUSE_FRAMES, 1);
  WRONG(set(), GRT_ERROR_CONFIG, "2 passes or more");
  for (const double target : {-1.0, nan, HUGE_VAL}) {
    WRONG(grt_session_set_deadline(session, target, 1, &wrong), GRT_ERROR_CONFIG, "target_ms");
  }
  for (const int32_t least : {-1, 5, INT32_MAX}) {
    WRONG(grt_session_set_deadline(session, 10, least, &wrong), GRT_ERROR_CONFIG, "least_passes");
  }
  grt_plan_init(&plan);
  GRT_CHECK_STATUS(grt_session_get_plan(session, &plan, nullptr), GRT_OK);
  GRT_CHECK_EQ(plan.passes, 4);
  grt_session_free(session);
  grt_world_free(world);
}

void misuse_of_session_params() {
  Wrong wrong;
  grt_world* world = tiny_files->load();
  grt_session_params params;
  grt_plan plan = make_plan(GRT_ORDER_MASKGIT, GRT_REUSE_NONE, 40);
  grt_session* session = reinterpret_cast<grt_session*>(8);
  const auto create = [&] { return grt_session_create(world, &params, &session, &wrong); };
  grt_session_params_init(&params);
  WRONG(grt_session_create(nullptr, &params, &session, &wrong), GRT_ERROR_INPUT, "world");
  GRT_CHECK(session == nullptr);
  WRONG(grt_session_create(world, &params, nullptr, &wrong), GRT_ERROR_INPUT, "session");
  params.num_snapshots = -1;
  WRONG(create(), GRT_ERROR_INPUT, "num_snapshots");
  params.num_snapshots = INT32_MAX;
  WRONG(create(), GRT_ERROR_INPUT, "num_snapshots");
  params.num_snapshots = 0;
  params.most_peeks = -1;
  WRONG(create(), GRT_ERROR_INPUT, "most_peeks");
  params.most_peeks = 0;
  params.plan = &plan;
  WRONG(create(), GRT_ERROR_CONFIG, "Plan.passes");
  plan.struct_size = 3;
  WRONG(create(), GRT_ERROR_INPUT, "grt_plan_init");
  params.struct_size = 2;
  WRONG(create(), GRT_ERROR_INPUT, "grt_session_params_init");
  fake::knobs.refuses_adaptive = true;
  grt_session_params_init(&params);
  plan = make_plan(GRT_ORDER_ADAPTIVE, GRT_REUSE_NONE, 2);
  params.plan = &plan;
  WRONG(create(), GRT_ERROR_UNSUPPORTED, "adaptive");
  fake::knobs.refuses_adaptive = false;
  GRT_CHECK(session == nullptr);
  grt_session_free(nullptr);
  grt_snapshot_free(nullptr);
  grt_world_free(world);
}

void test_messages() {
  grt_error error;
  grt_error_init(&error);
  std::strcpy(error.message, "old");
  grt_world* world = tiny_files->load();
  size_t size = 0;
  GRT_CHECK_STATUS(grt_world_save_size(world, &size, &error), GRT_OK);
  GRT_CHECK_TEXT(error.message, "");
  // Without a place for the message the status is the same.
  GRT_CHECK_STATUS(grt_world_save_size(world, nullptr, nullptr), GRT_ERROR_INPUT);
  // A grt_error that was not set up is refused, and not written to.
  for (const size_t wrong : {size_t{0}, size_t{8}, sizeof error - 8, sizeof error + 1, size_t{SIZE_MAX}}) {
    std::memset(&error, 0x55, sizeof error);
    error.struct_size = wrong;
    size = 3;
    GRT_CHECK_STATUS(grt_world_save_size(world, &size, &error), GRT_ERROR_INPUT);
    GRT_CHECK_EQ(size, 3u);
    GRT_CHECK_EQ(error.message[0], 0x55);
    num_kinds++;
  }
  // A long name is cut between two characters.
  grt_error_init(&error);
  std::string name;
  for (int i = 0; i < 300; i++) name += "\xE2\x82\xAC";
  int32_t action;
  GRT_CHECK_STATUS(grt_world_find_action(world, name.c_str(), &action, &error), GRT_ERROR_INPUT);
  const size_t length = std::strlen(error.message);
  size_t good = 0;
  uint32_t character;
  while (good < length) {
    const size_t bytes = decode_utf8(error.message + good, length - good, character);
    if (bytes == 0) break;
    good += bytes;
  }
  GRT_CHECK_EQ(good, length);
  for (int32_t status = 0; status <= 9; status++) {
    GRT_CHECK_EQ(std::strncmp(grt_status_name(static_cast<grt_status>(status)), "GRT_", 4), 0);
  }
  GRT_CHECK_TEXT(grt_status_name(GRT_ERROR_OUT_OF_MEMORY), "GRT_ERROR_OUT_OF_MEMORY");
  GRT_CHECK_TEXT(grt_status_name(static_cast<grt_status>(12)), "an unknown status");
  grt_world_free(world);
}

void test_struct_sizes() {
  Error error;
  Grown read = {}, given = {sizeof(Grown), 1, 2, 3.5};
  GRT_CHECK(read_struct(&given, read, "it", "Grown", error));
  GRT_CHECK(read.old_too == 2 && read.new_member == 3.5 && read.struct_size == sizeof(Grown));
  // Of an older program: what it does not know is 0, and is not written.
  given.struct_size = offsetof(Grown, new_member);
  GRT_CHECK(read_struct(&given, read, "it", "Grown", error));
  GRT_CHECK(read.old_member == 1 && read.new_member == 0);
  const Grown value = {sizeof(Grown), 7, 8, 9};
  write_struct(&given, value);
  GRT_CHECK(given.old_member == 7 && given.old_too == 8 && given.new_member == 3.5);
  GRT_CHECK_EQ(given.struct_size, offsetof(Grown, new_member));
  // Of a newer one: fine as long as it asks for nothing that this library does not know.
  struct Newer {
    Grown grown;
    int64_t more;
  } newer = {{sizeof(Newer), 1, 2, 3}, 0};
  GRT_CHECK(read_struct(&newer.grown, read, "it", "Grown", error));
  newer.more = 1;
  GRT_CHECK(!read_struct(&newer.grown, read, "it", "Grown", error));
  GRT_CHECK_STATUS(error.status, GRT_ERROR_UNSUPPORTED);
  write_struct(&newer.grown, value);
  GRT_CHECK(newer.grown.new_member == 9 && newer.more == 1);
  // Arrays lie as the caller's header has them.
  Newer many[3] = {
      {{sizeof(Newer), 1, 0, 0}, 0}, {{sizeof(Newer), 2, 0, 0}, 0}, {{sizeof(Newer), 3, 0, 0}, 0}};
  GRT_CHECK(check_structs(&many[0].grown, 3, "many", "Grown", error));
  GRT_CHECK_EQ(struct_at(&many[0].grown, 2)->old_member, 3);
  many[2].grown.struct_size = sizeof(Grown);
  GRT_CHECK(!check_structs(&many[0].grown, 3, "many", "Grown", error));
}

}  // namespace
}  // namespace grt::test

int main() {
  using namespace grt::test;
  const TinyFiles files;
  tiny_files = &files;
  misuse_of_loading();
  misuse_of_worlds();
  misuse_of_plans();
  misuse_of_session_params();
  test_messages();
  test_struct_sizes();
  GRT_CHECK(num_kinds >= 130);
  std::fprintf(stderr, "%d wrong calls\n", num_kinds);
  return failures();
}
