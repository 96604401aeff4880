// grt_session_step, grt_session_commit, and what other calls step with.

#include <chrono>

#include "api/call.hpp"
#include "api/session.hpp"

namespace grt {

bool compute(grt_session& session, Executor& executor, int32_t action, int32_t code, const Plan& plan,
             FrameStats& stats, const std::atomic<bool>* cancelled, Error& error) {
  session.spare.assign_without_picture(session.row);
  stats = {};
  if (!session.world->engine->frame(*session.workspace, executor, session.spare, code, plan, stats, cancelled,
                                    error)) {
    session.spare.clear();
    return false;
  }
  session.spare.shown_action = action;
  return true;
}

void take_spare(grt_session& session) {
  session.row.swap(session.spare);
  session.spare.clear();
  drop_peeks(session);
  settle(session);
}

void take_peek(grt_session& session, Peek& peek, int32_t action) {
  session.row.swap(peek.row);
  session.row.shown_action = action;
  drop_peeks(session);
  settle(session);
}

bool step(grt_session& session, Executor& executor, int32_t action, const grt_image& frame, Taken& taken,
          Error& error) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  int32_t code = 0;
  if (!check_has_frame(session, error) || !find_code(*session.world, action, code, error)) return false;
  if (Peek* peek = find_peek(session, code)) {
    taken.stats = peek->stats;
    taken.from_peek = true;
    take_peek(session, *peek, action);
  } else {
    if (!compute(session, executor, action, code, next_plan(session), taken.stats, nullptr, error)) {
      return false;
    }
    taken.from_peek = false;
    take_spare(session);
  }
  write_frame(*session.world, frame, session.row);
  taken.total_ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  return true;
}

void account(grt_session& session, const Taken& taken, grt_step_stats* stats) {
  const bool late = session.has_deadline && taken.total_ms > session.deadline.target_ms();
  if (session.has_deadline && !taken.from_peek) session.deadline.feed(taken.stats.passes, taken.total_ms);
  if (stats == nullptr) return;
  grt_step_stats value;
  grt_step_stats_init(&value);
  value.passes = taken.stats.passes;
  value.tokens = taken.stats.tokens;
  value.from_peek = taken.from_peek;
  value.late = late;
  value.frame_index = session.row.frame_index;
  value.total_ms = taken.total_ms;
  if (!taken.from_peek) {
    value.commit_ms = taken.stats.commit_ms;
    value.passes_ms = taken.stats.passes_ms;
    value.decode_ms = taken.stats.decode_ms;
  }
  write_struct(stats, value);
}

bool commit(grt_session& session, Error& error) {
  if (!session.row.pending) return true;
  const Engine& engine = *session.world->engine;
  if (!engine.commit(*session.workspace, *session.world->executor, session.row, nullptr, error)) return false;
  // A peek at a pending row was one where a commit changes frames: it is not true any more.
  drop_peeks(session);
  settle(session);
  return true;
}

}  // namespace grt

using namespace grt;

grt_status grt_session_step(grt_session* session, int32_t action, grt_image* frame, grt_step_stats* stats,
                            grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr) return false;
    grt_image checked = {};
    if (!check_frame(*session->world, frame, "frame", checked, e) ||
        (stats != nullptr && !check_struct(stats, "stats", "grt_step_stats", e))) {
      return false;
    }
    Taken taken;
    if (!step(*session, *session->world->executor, action, checked, taken, e)) return false;
    account(*session, taken, stats);
    return true;
  });
}

grt_status grt_session_commit(grt_session* session, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr || !check_has_frame(*session, e)) return false;
    return !session->world->engine->commits_ahead(next_plan(*session)) || commit(*session, e);
  });
}
