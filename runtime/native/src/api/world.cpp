#include "api/world.hpp"

#include "api/call.hpp"
#include "api/image.hpp"
#include "api/plan.hpp"

using grt::Error;

grt_world::~grt_world() {
  while (grt_snapshot* snapshot = shelf.take()) grt::destroy(allocator, snapshot);
  grt::destroy(allocator, engine);
  grt::destroy(allocator, executor);
}

namespace grt {
namespace {

bool check_world(const grt_world* world, Error& error) {
  return world != nullptr || error.fail(GRT_ERROR_INPUT, "world: expected a grt_world, found NULL");
}

// Names in a message, as many as there is room for.
template <typename T>
void list_names(const Buffer<T>& items, char (&list)[300]) {
  size_t length = 0;
  list[0] = 0;
  for (size_t i = 0; i < items.size(); i++) {
    const size_t needed = std::strlen(items[i].name) + 2;
    if (length + needed + 5 > sizeof list) {
      std::memcpy(list + length, ", ...", 6);
      return;
    }
    length += static_cast<size_t>(
        std::snprintf(list + length, sizeof list - length, "%s%s", i > 0 ? ", " : "", items[i].name));
  }
}

template <typename T>
const char* name_at(const Buffer<T>& items, int32_t index) {
  return index >= 0 && static_cast<size_t>(index) < items.size() ? items[static_cast<size_t>(index)].name
                                                                 : nullptr;
}

}  // namespace

void hold(grt_world* world) { world->holders.fetch_add(1, std::memory_order_relaxed); }

void let_go(grt_world* world) {
  if (world->holders.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(world->allocator, world);
}

bool find_code(const grt_world& world, int32_t action, int32_t& code, Error& error) {
  if (action < 0 || action >= world.num_actions()) {
    return error.fail(GRT_ERROR_INPUT, "action: expected the index of an action, 0 to %d, found %d",
                      world.num_actions() - 1, action);
  }
  code = world.manifest().actions[static_cast<size_t>(action)].code;
  return true;
}

bool find_prompt(const grt_world& world, int32_t prompt, const uint8_t*& picture, Error& error) {
  const auto count = static_cast<int32_t>(world.manifest().prompts.size());
  if (count == 0) {
    return error.fail(GRT_ERROR_INPUT,
                      "prompt: expected a bundle with pictures to start from, found none; reset to a picture "
                      "of your own");
  }
  if (prompt < 0 || prompt >= count) {
    return error.fail(GRT_ERROR_INPUT, "prompt: expected the index of a picture, 0 to %d, found %d",
                      count - 1, prompt);
  }
  picture = world.bundle.pictures.data() +
            world.bundle.pictures.size() / static_cast<size_t>(count) * static_cast<size_t>(prompt);
  return true;
}

bool check_frame(const grt_world& world, const grt_image* frame, const char* parameter, grt_image& checked,
                 Error& error) {
  checked = {};
  return frame == nullptr ||
         check_image(frame, world.frame_width(), world.frame_height(), parameter, checked, error);
}

void write_frame(const grt_world& world, const grt_image& checked, const Row& row) {
  if (checked.pixels == nullptr) return;
  write_image(checked, world.frame_width(), world.frame_height(), row.picture.data());
}

}  // namespace grt

using namespace grt;

void grt_world_free(grt_world* world) {
  if (world != nullptr) let_go(world);
}

grt_status grt_world_get_info(const grt_world* world, grt_world_info* info, grt_error* error) {
  return call(error, [&](Error& e) {
    if (!check_world(world, e) || !check_struct(info, "info", "grt_world_info", e)) return false;
    grt_world_info value;
    grt_world_info_init(&value);
    describe(world->manifest(), value);
    describe_loaded(*world, value);
    write_struct(info, value);
    return true;
  });
}

const char* grt_world_action_name(const grt_world* world, int32_t action) {
  return world == nullptr ? nullptr : name_at(world->manifest().actions, action);
}

const char* grt_world_plan_name(const grt_world* world, int32_t plan) {
  return world == nullptr ? nullptr : name_at(world->manifest().plans, plan);
}

const char* grt_world_prompt_name(const grt_world* world, int32_t prompt) {
  return world == nullptr ? nullptr : name_at(world->manifest().prompts, prompt);
}

grt_status grt_world_find_action(const grt_world* world, const char* name, int32_t* action,
                                 grt_error* error) {
  return call(error, [&](Error& e) {
    if (!check_world(world, e)) return false;
    if (name == nullptr) return e.fail(GRT_ERROR_INPUT, "name: expected that of an action, found NULL");
    if (action == nullptr) return e.fail(GRT_ERROR_INPUT, "action: expected a place for it, found NULL");
    const auto& actions = world->manifest().actions;
    for (size_t i = 0; i < actions.size(); i++) {
      if (std::strcmp(actions[i].name, name) != 0) continue;
      *action = static_cast<int32_t>(i);
      return true;
    }
    char list[300];
    list_names(actions, list);
    return e.fail(GRT_ERROR_INPUT, "name: expected an action of %s: %s; found \"%.64s\"",
                  world->manifest().name, list, name);
  });
}

grt_status grt_world_get_plan(const grt_world* world, const char* name, grt_plan* plan, grt_error* error) {
  return call(error, [&](Error& e) {
    if (!check_world(world, e) || !check_struct(plan, "plan", "grt_plan", e)) return false;
    const char* wanted = name != nullptr ? name : "default";
    const auto& plans = world->manifest().plans;
    for (const NamedPlan& one : plans) {
      if (std::strcmp(one.name, wanted) != 0) continue;
      write_plan(one.plan, plan);
      return true;
    }
    char list[300];
    list_names(plans, list);
    return e.fail(GRT_ERROR_CONFIG, "name: expected a plan of %s: %s; found \"%.64s\"",
                  world->manifest().name, list, wanted);
  });
}

grt_status grt_world_get_prompt(const grt_world* world, int32_t prompt, grt_image* image, grt_error* error) {
  return call(error, [&](Error& e) {
    if (!check_world(world, e)) return false;
    const TokenizerConfig& tokenizer = world->config().tokenizer;
    const uint8_t* picture = nullptr;
    grt_image checked = {};
    if (!find_prompt(*world, prompt, picture, e) ||
        !check_image(image, tokenizer.width, tokenizer.height, "image", checked, e)) {
      return false;
    }
    write_image(checked, tokenizer.width, tokenizer.height, picture);
    return true;
  });
}
