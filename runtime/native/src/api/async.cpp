// grt_session_submit, grt_session_poll, grt_session_cancel.

#include "api/async.hpp"

#include <chrono>
#include <cmath>

#include "api/call.hpp"
#include "api/session.hpp"

namespace grt {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

bool Job::submit(grt_session& session, int32_t action, int32_t code, const Plan& plan, Error& error) {
  if (!thread_.is_started() && !thread_.start(enter, &session, error)) return false;
  result_ = {};
  result_.action = action;
  code_ = code;
  plan_ = plan;
  is_submitted_.store(true, std::memory_order_release);
  Locked locked(mutex_);
  state_ = State::kComputing;
  wake_.notify_one();
  return true;
}

void Job::submit_peek(Peek& peek, int32_t action) {
  result_ = {};
  result_.ok = true;
  result_.peek = &peek;
  result_.action = action;
  result_.stats = peek.stats;
  is_submitted_.store(true, std::memory_order_release);
  Locked locked(mutex_);
  state_ = State::kReady;
}

bool Job::wait(double timeout_ms) {
  const Clock::time_point start = Clock::now();
  Locked locked(mutex_);
  while (state_ == State::kComputing) {
    if (timeout_ms < 0) {
      done_.wait(mutex_);
      continue;
    }
    const double left = timeout_ms - ms_since(start);
    if (!(left > 0)) return false;
    done_.wait_ms(mutex_, left);
  }
  return true;
}

void Job::fetch(Result& result) {
  result = result_;
  Locked locked(mutex_);
  state_ = State::kIdle;
  is_submitted_.store(false, std::memory_order_release);
}

bool Job::cancel() {
  if (!is_submitted()) return false;
  cancelled_.store(true, std::memory_order_relaxed);
  wait(-1);
  cancelled_.store(false, std::memory_order_relaxed);
  Locked locked(mutex_);
  state_ = State::kIdle;
  is_submitted_.store(false, std::memory_order_release);
  return true;
}

void Job::stop() {
  if (!thread_.is_started()) return;
  cancel();
  {
    Locked locked(mutex_);
    is_stopping_ = true;
    wake_.notify_one();
  }
  thread_.join();
}

void Job::enter(void* context) {
  auto& session = *static_cast<grt_session*>(context);
  session.job.serve(session);
}

void Job::serve(grt_session& session) {
  for (;;) {
    {
      Locked locked(mutex_);
      while (state_ != State::kComputing && !is_stopping_) wake_.wait(mutex_);
      if (is_stopping_) return;
    }
    const Clock::time_point start = Clock::now();
    result_.ok = compute(session, *session.world->executor, result_.action, code_, plan_, result_.stats,
                         &cancelled_, result_.error);
    result_.total_ms = ms_since(start);
    Locked locked(mutex_);
    state_ = State::kReady;
    done_.notify_all();
  }
}

}  // namespace grt

using namespace grt;

grt_status grt_session_submit(grt_session* session, int32_t action, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    int32_t code = 0;
    if (turn.session() == nullptr || !check_has_frame(*session, e) ||
        !find_code(*session->world, action, code, e)) {
      return false;
    }
    if (Peek* peek = find_peek(*session, code)) {
      session->job.submit_peek(*peek, action);
      return true;
    }
    return session->job.submit(*session, action, code, next_plan(*session), e);
  });
}

grt_status grt_session_poll(grt_session* session, double timeout_ms, int32_t* done, grt_image* frame,
                            grt_step_stats* stats, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e, true);
    if (turn.session() == nullptr) return false;
    const grt_world& world = *session->world;
    grt_image checked = {};
    if (done == nullptr) return e.fail(GRT_ERROR_INPUT, "done: expected a place for it, found NULL");
    if (std::isnan(timeout_ms)) {
      return e.fail(GRT_ERROR_INPUT, "timeout_ms: expected a number of milliseconds, found NaN");
    }
    if (!check_frame(world, frame, "frame", checked, e) ||
        (stats != nullptr && !check_struct(stats, "stats", "grt_step_stats", e))) {
      return false;
    }
    if (!session->job.is_submitted()) {
      return e.fail(GRT_ERROR_STATE,
                    "expected a frame that was submitted, found none: call "
                    "grt_session_submit first");
    }
    if (!session->job.wait(timeout_ms)) {
      *done = 0;
      return true;
    }
    Job::Result result;
    session->job.fetch(result);
    if (!result.ok) {
      e = result.error;
      return false;
    }
    if (result.peek != nullptr) {
      take_peek(*session, *result.peek, result.action);
    } else {
      take_spare(*session);
    }
    write_frame(world, checked, session->row);
    account(*session, {result.stats, result.peek != nullptr, result.total_ms}, stats);
    *done = 1;
    return true;
  });
}

grt_status grt_session_cancel(grt_session* session, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e, true);
    if (turn.session() == nullptr) return false;
    if (session->job.cancel()) session->spare.clear();
    return true;
  });
}
