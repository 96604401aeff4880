// grt_session_reset, grt_session_reset_prompt.

#include "api/call.hpp"
#include "api/image.hpp"
#include "api/session.hpp"

namespace grt {
namespace {

// Starts the session anew in the spare row; the row is left alone until that is done.
bool prefill(grt_session& session, uint64_t seed, const uint8_t* pictures, size_t num_pictures,
             const int32_t* codes, int32_t last_action, Error& error) {
  const grt_world& world = *session.world;
  const Claims before = session.claims;
  const Claims needed{world.config().dynamics.transformer.window, world.config().tokenizer.decoder.window};
  if (!raise_claims(session, needed, error)) return false;
  const bool ok = world.engine->prefill(*session.workspace, *world.executor, session.spare, seed, pictures,
                                        num_pictures, codes, nullptr, error);
  if (ok) {
    session.spare.shown_action = last_action;
    take_spare(session);
  } else {
    session.spare.clear();
    session.world->pools.dynamics.lower(session.claims.dynamics, before.dynamics);
    session.world->pools.decoder.lower(session.claims.decoder, before.decoder);
  }
  return ok;
}

bool read_codes(const grt_world& world, const int32_t* actions, size_t count, Buffer<int32_t>& codes,
                Error& error) {
  if (count == 0) return true;
  if (actions == nullptr) {
    return error.fail(GRT_ERROR_INPUT,
                      "actions: expected %zu actions, one between each two pictures, found NULL", count);
  }
  if (!codes.create(world.allocator, count, error)) return false;
  for (size_t i = 0; i < count; i++) {
    if (!find_code(world, actions[i], codes[i], error)) return false;
  }
  return true;
}

bool read_pictures(const grt_world& world, const grt_image* pictures, size_t count, Buffer<uint8_t>& rgb,
                   Error& error) {
  const TokenizerConfig& tokenizer = world.config().tokenizer;
  const size_t bytes =
      size_t{3} * static_cast<size_t>(tokenizer.width) * static_cast<size_t>(tokenizer.height);
  if (!check_structs(pictures, count, "pictures", "grt_image", error)) return false;
  if (count > SIZE_MAX / bytes) {
    return error.fail(GRT_ERROR_OUT_OF_MEMORY, "expected pictures that fit into memory, found %zu", count);
  }
  if (!rgb.create(world.allocator, count * bytes, error)) return false;
  for (size_t i = 0; i < count; i++) {
    char name[40];
    std::snprintf(name, sizeof name, "pictures[%zu]", i);
    grt_image checked = {};
    if (!check_image(struct_at(pictures, i), tokenizer.width, tokenizer.height, name, checked, error)) {
      return false;
    }
    read_image(checked, tokenizer.width, tokenizer.height, rgb.data() + i * bytes);
  }
  return true;
}

}  // namespace
}  // namespace grt

using namespace grt;

grt_status grt_session_reset(grt_session* session, const grt_image* pictures, size_t num_pictures,
                             const int32_t* actions, uint64_t seed, grt_image* frame, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr) return false;
    const grt_world& world = *session->world;
    grt_image checked = {};
    Buffer<int32_t> codes;
    Buffer<uint8_t> rgb;
    if (pictures == nullptr || num_pictures == 0) {
      return e.fail(GRT_ERROR_INPUT, "pictures: expected at least one picture to start from, found none");
    }
    if (!check_frame(world, frame, "frame", checked, e) ||
        !read_codes(world, actions, num_pictures - 1, codes, e) ||
        !read_pictures(world, pictures, num_pictures, rgb, e)) {
      return false;
    }
    const bool is_led = num_pictures > 1 && actions != nullptr;
    const int32_t last = is_led ? actions[num_pictures - 2] : kNullAction;
    if (!prefill(*session, seed, rgb.data(), num_pictures, codes.data(), last, e)) return false;
    write_frame(world, checked, session->row);
    return true;
  });
}

grt_status grt_session_reset_prompt(grt_session* session, int32_t prompt, uint64_t seed, grt_image* frame,
                                    grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr) return false;
    const grt_world& world = *session->world;
    grt_image checked = {};
    const uint8_t* picture = nullptr;
    if (!check_frame(world, frame, "frame", checked, e) || !find_prompt(world, prompt, picture, e) ||
        !prefill(*session, seed, picture, 1, nullptr, kNullAction, e)) {
      return false;
    }
    write_frame(world, checked, session->row);
    return true;
  });
}
