// grt_session_get_frame, grt_session_get_state, grt_session_get_tokens.

#include "api/call.hpp"
#include "api/session.hpp"
#include "support/digest.hpp"

namespace grt {
namespace {

uint64_t digest_of(const Row& row) {
  const uint64_t values[] = {row.seed, static_cast<uint64_t>(row.frame_index),
                             static_cast<uint64_t>(int64_t{row.action})};
  const uint64_t first = digest(values, sizeof values);
  if (row.frame_index < 0) return first;
  const uint64_t second = digest(row.tokens.data(), row.tokens.size() * sizeof(int32_t), first);
  return digest(row.picture.data(), row.picture.size(), second);
}

}  // namespace
}  // namespace grt

using namespace grt;

grt_status grt_session_get_frame(const grt_session* session, grt_image* frame, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr || !check_has_frame(*session, e)) return false;
    if (frame == nullptr) return e.fail(GRT_ERROR_INPUT, "frame: expected a grt_image, found NULL");
    grt_image checked = {};
    if (!check_frame(*session->world, frame, "frame", checked, e)) return false;
    write_frame(*session->world, checked, session->row);
    return true;
  });
}

grt_status grt_session_get_state(const grt_session* session, grt_session_state* state, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr || !check_struct(state, "state", "grt_session_state", e)) return false;
    const Row& row = session->row;
    grt_session_state value;
    grt_session_state_init(&value);
    value.seed = row.seed;
    value.frame_index = row.frame_index;
    value.action = row.shown_action;
    value.pending = row.pending && session->world->engine->commits_ahead(next_plan(*session));
    value.digest = digest_of(row);
    write_struct(state, value);
    return true;
  });
}

grt_status grt_session_get_tokens(const grt_session* session, int32_t* tokens, size_t num_tokens,
                                  grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr || !check_has_frame(*session, e)) return false;
    const Buffer<int32_t>& last = session->row.tokens;
    if (tokens == nullptr || num_tokens < last.size()) {
      return e.fail(GRT_ERROR_INPUT, "tokens: expected room for %zu, found %s%zu", last.size(),
                    tokens == nullptr ? "NULL for " : "", num_tokens);
    }
    std::memcpy(tokens, last.data(), last.size() * sizeof(int32_t));
    return true;
  });
}
