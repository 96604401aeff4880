// grt_session_force, grt_session_probe: for comparing engines.

#include "api/call.hpp"
#include "api/session.hpp"

namespace grt {
namespace {

// Whether these are the tokens of a frame, each from `least` on.
bool check_tokens(const grt_world& world, const int32_t* tokens, size_t count, int32_t least, Error& error) {
  const auto expected = static_cast<size_t>(world.num_tokens());
  if (tokens == nullptr || count != expected) {
    return error.fail(GRT_ERROR_INPUT, "tokens: expected %zu of them, found %s%zu", expected,
                      tokens == nullptr ? "NULL for " : "", count);
  }
  const int32_t most = world.config().tokenizer.codebook_size - 1;
  for (size_t i = 0; i < count; i++) {
    if (tokens[i] < least || tokens[i] > most) {
      return error.fail(GRT_ERROR_INPUT, "tokens[%zu]: expected a code from %d to %d, found %d", i, least,
                        most, tokens[i]);
    }
  }
  return true;
}

}  // namespace
}  // namespace grt

using namespace grt;

grt_status grt_session_force(grt_session* session, int32_t action, const int32_t* tokens, size_t num_tokens,
                             grt_image* frame, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr) return false;
    const grt_world& world = *session->world;
    grt_image checked = {};
    int32_t code = kNullAction;
    if (!check_frame(world, frame, "frame", checked, e)) return false;
    if (session->row.frame_index >= 0) {
      if (!find_code(world, action, code, e)) return false;
    } else if (action != kNullAction) {
      return e.fail(GRT_ERROR_INPUT,
                    "action: expected -1 in a session that was never reset: no action led to its first "
                    "frame; found %d",
                    action);
    }
    if (!check_tokens(world, tokens, num_tokens, 0, e)) return false;
    session->spare.assign_without_picture(session->row);
    if (!world.engine->force(*session->workspace, *world.executor, session->spare, code, tokens, e)) {
      session->spare.clear();
      return false;
    }
    session->spare.shown_action = action;
    take_spare(*session);
    write_frame(world, checked, session->row);
    return true;
  });
}

grt_status grt_session_probe(grt_session* session, int32_t action, const int32_t* tokens, size_t num_tokens,
                             int32_t pass, float* logits, int32_t* candidates, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    int32_t code = 0;
    if (turn.session() == nullptr || !check_has_frame(*session, e)) return false;
    const grt_world& world = *session->world;
    if (!find_code(world, action, code, e) || !check_tokens(world, tokens, num_tokens, kUndecided, e)) {
      return false;
    }
    if (pass < 0 || pass >= kMaxPasses) {
      return e.fail(GRT_ERROR_INPUT, "pass: expected a number from 0 to %d, found %d", kMaxPasses - 1, pass);
    }
    return commit(*session, e) &&
           world.engine->probe(*session->workspace, *world.executor, session->row, code, tokens, pass,
                               session->plan.temperature, logits, candidates, e);
  });
}
