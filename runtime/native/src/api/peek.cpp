// grt_session_peek.

#include "api/call.hpp"
#include "api/session.hpp"

namespace grt {
namespace {

// The codes of the actions that are asked for, counted once each.
bool check_actions(const grt_session& session, const int32_t* actions, size_t count, Error& error) {
  int32_t num_codes = 0;
  for (size_t i = 0; i < count; i++) {
    int32_t code = 0, other = 0;
    if (!find_code(*session.world, actions[i], code, error)) return false;
    bool is_new = true;
    for (size_t j = 0; j < i && is_new; j++) {
      is_new = !find_code(*session.world, actions[j], other, error) || other != code;
    }
    num_codes += is_new;
    if (num_codes > session.most_peeks()) {
      return error.fail(GRT_ERROR_INPUT,
                        "actions: expected at most %d that differ, as the session was created for, found "
                        "more; set most_peeks in grt_session_params",
                        session.most_peeks());
    }
  }
  return true;
}

bool is_asked(const grt_session& session, int32_t code, const int32_t* actions, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (session.world->manifest().actions[static_cast<size_t>(actions[i])].code == code) return true;
  }
  return false;
}

// A place for another frame: an empty one, or one that nobody asks for now. There is one.
Peek* free_place(grt_session& session, const int32_t* actions, size_t count) {
  for (Peek* peek : session.peeks) {
    if (!peek->is_known) return peek;
  }
  for (Peek* peek : session.peeks) {
    if (is_asked(session, peek->code, actions, count)) continue;
    peek->is_known = false;
    peek->row.clear(&session.claims);
    return peek;
  }
  return nullptr;
}

bool fill(grt_session& session, Peek& peek, int32_t code, int32_t action, const Plan& plan, Error& error) {
  const grt_world& world = *session.world;
  peek.row.assign_without_picture(session.row);
  peek.stats = {};
  if (!world.engine->frame(*session.workspace, *world.executor, peek.row, code, plan, peek.stats, nullptr,
                           error)) {
    peek.row.clear();
    return false;
  }
  peek.row.shown_action = action;
  peek.code = code;
  peek.is_known = true;
  settle_peek(session, peek);
  return true;
}

bool peek_at(grt_session& session, const int32_t* actions, size_t count, grt_image* frames, Error& error) {
  const Plan plan = next_plan(session);
  bool is_committed = false;
  for (size_t i = 0; i < count; i++) {
    int32_t code = 0;
    if (!find_code(*session.world, actions[i], code, error)) return false;
    if (find_peek(session, code) != nullptr) continue;
    // Once for all of them, where that leaves their frames as they are.
    if (!is_committed && session.world->engine->commits_ahead(plan) && !commit(session, error)) return false;
    is_committed = true;
    Peek* place = free_place(session, actions, count);
    if (place == nullptr || !fill(session, *place, code, actions[i], plan, error)) return false;
  }
  for (size_t i = 0; frames != nullptr && i < count; i++) {
    int32_t code = 0;
    grt_image checked = {};
    if (!find_code(*session.world, actions[i], code, error) ||
        !check_frame(*session.world, struct_at(frames, i), "frames", checked, error)) {
      return false;
    }
    const Peek* peek = find_peek(session, code);
    if (peek != nullptr) write_frame(*session.world, checked, peek->row);
  }
  return true;
}

}  // namespace

Peek* find_peek(grt_session& session, int32_t code) {
  for (Peek* peek : session.peeks) {
    if (peek->is_known && peek->code == code) return peek;
  }
  return nullptr;
}

void drop_peeks(grt_session& session) {
  for (Peek* peek : session.peeks) {
    peek->is_known = false;
    peek->row.clear(&session.claims);
  }
}

}  // namespace grt

using namespace grt;

grt_status grt_session_peek(grt_session* session, const int32_t* actions, size_t num_actions,
                            grt_image* frames, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr || !check_has_frame(*session, e)) return false;
    if (num_actions == 0) return true;
    if (actions == nullptr) {
      return e.fail(GRT_ERROR_INPUT, "actions: expected %zu actions, found NULL", num_actions);
    }
    if (!check_actions(*session, actions, num_actions, e)) return false;
    if (frames != nullptr) {
      if (!check_structs(frames, num_actions, "frames", "grt_image", e)) return false;
      for (size_t i = 0; i < num_actions; i++) {
        char name[40];
        std::snprintf(name, sizeof name, "frames[%zu]", i);
        grt_image checked = {};
        if (!check_frame(*session->world, struct_at(frames, i), name, checked, e)) return false;
      }
    }
    return peek_at(*session, actions, num_actions, frames, e);
  });
}
