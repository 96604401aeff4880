// grt_session_set_plan, grt_session_get_plan, grt_session_set_deadline.

#include <cmath>

#include "api/call.hpp"
#include "api/plan.hpp"
#include "api/session.hpp"

namespace grt {
namespace {

// A deadline may take every number of passes between its bounds: the engine is told of each.
bool prepare(const grt_session& session, Plan plan, bool has_deadline, int32_t least, Error& error) {
  const int32_t most = plan.passes;
  for (plan.passes = has_deadline ? least : most; plan.passes <= most; plan.passes++) {
    if (!session.world->engine->prepare(plan, error)) return false;
  }
  return true;
}

// The least passes that a deadline may choose under a plan.
int32_t least_passes(const Plan& plan, int32_t asked) {
  const int32_t least = plan.reuse == GRT_REUSE_FRAMES && asked < 2 ? 2 : asked;
  return least < plan.passes ? least : plan.passes;
}

bool set_plan(grt_session& session, const Plan& plan, Error& error) {
  if (plan == session.plan) return true;
  const int32_t least = least_passes(plan, session.least_passes);
  if (!prepare(session, plan, session.has_deadline, least, error)) return false;
  const int32_t most_peeks = session.most_peeks();
  const Claims before = budget(*session.world, session.plan, most_peeks);
  const Claims after = budget(*session.world, plan, most_peeks);
  // The spatial page that the row may hold already is not counted: the claim is exact after the next step.
  Claims needed = session.claims;
  needed.dynamics += after.dynamics - before.dynamics;
  needed.decoder += after.decoder - before.decoder;
  if (!raise_claims(session, needed, error)) return false;
  session.plan = plan;
  if (session.has_deadline) session.deadline.limit(plan.passes, least);
  drop_peeks(session);
  settle(session);
  return true;
}

}  // namespace
}  // namespace grt

using namespace grt;

grt_status grt_session_set_plan(grt_session* session, const grt_plan* plan, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    Plan read;
    return turn.session() != nullptr && read_plan(plan, session->world->config(), read, e) &&
           set_plan(*session, read, e);
  });
}

grt_status grt_session_get_plan(const grt_session* session, grt_plan* plan, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr || !check_struct(plan, "plan", "grt_plan", e)) return false;
    write_plan(session->plan, plan);
    return true;
  });
}

grt_status grt_session_set_deadline(grt_session* session, double target_ms, int32_t least_passes,
                                    grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr) return false;
    if (!(target_ms >= 0) || std::isinf(target_ms)) {
      return e.fail(GRT_ERROR_CONFIG,
                    "target_ms: expected a number of milliseconds above 0, or 0 for no deadline, found %g",
                    target_ms);
    }
    const int32_t most = session->plan.passes;
    const int32_t asked = least_passes == 0 ? 1 : least_passes;
    if (target_ms > 0 && (asked < 1 || asked > most)) {
      return e.fail(GRT_ERROR_CONFIG,
                    "least_passes: expected a whole number from 1 to the plan's passes, %d, found %d", most,
                    least_passes);
    }
    const int32_t passes_before = next_plan(*session).passes;
    if (target_ms > 0) {
      const int32_t least = grt::least_passes(session->plan, asked);
      if (!prepare(*session, session->plan, true, least, e)) return false;
      session->least_passes = asked;
      session->deadline.start(target_ms, most, least);
    }
    session->has_deadline = target_ms > 0;
    if (next_plan(*session).passes != passes_before) {
      drop_peeks(*session);
      settle(*session);
    }
    return true;
  });
}
