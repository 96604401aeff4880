// A frame pass by pass: docs/model.md, sections 7 to 9. The graphs evaluate and sample; here it is decided.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/schedule.hpp"
#include "onnxruntime/frame_loop.hpp"

namespace grt {

// Decides own_.tokens. The row's last frame is committed, at least in committed_.
bool OrtFrameLoop::decide(Passes& passes, FrameStats& stats) {
  Row& row = *row_;
  const Plan& plan = passes.plan;
  const int32_t tokens = num_tokens(), positions = config().num_positions();
  passes.is_static = plan.order == GRT_ORDER_RANDOM || plan.order == GRT_ORDER_HALTON;
  passes.by_position = plan.reuse == GRT_REUSE_PASSES;
  passes.recalls = plan.reuse == GRT_REUSE_FRAMES && row.spatial != nullptr;
  passes.units = passes.by_position ? positions : tokens;
  passes.passes = plan.passes;
  passes.num_past = past_of(row, committed_, own_.past);
  passes.around = passes.recalls ? dynamics_map().read(*row.spatial, own_.around[1]) : engine_.blank_.data();
  widen(row.tokens.data(), own_.wide_previous);
  for (int32_t n = 0; n < tokens; n++) own_.tokens[n] = kUndecided;
  if (passes.is_static) make_order(row, plan, passes.units, passes.by_position);

  stats.tokens = 0;
  for (int32_t pass = 0; pass < passes.passes; pass++) {
    // Which tokens the pass decides among: `count` of own_.places.
    int32_t count = tokens, before = 0;
    const int32_t now = decided_after(pass, passes.passes, passes.units);
    if (passes.is_static) {
      const int32_t done = pass == 0 ? 0 : decided_after(pass - 1, passes.passes, passes.units);
      before = pass <= 1 ? 0 : decided_after(pass - 2, passes.passes, passes.units);
      count = places_of(done, now, passes.by_position);
    } else {
      for (int32_t n = 0; n < tokens; n++) own_.places[n] = n;
    }

    int32_t computed = positions;
    if (passes.by_position && pass > 0) {  // just decided, and about to be
      computed = now - before;
      if (!run_pass_at(passes, pass, own_.order + before, computed)) return false;
    } else if (plan.reuse != GRT_REUSE_NONE && pass == 0) {  // what spatial attention sees is kept
      if (passes.recalls) {
        computed = fresh_positions(row, plan);
        count = places_at(own_.index, computed);
      } else {
        for (int32_t p = 0; p < positions; p++) own_.index[p] = p;
      }
      if (!run_pass_at(passes, pass, own_.index, computed)) return false;
    } else if (!run_full_pass(passes, pass)) {
      return false;
    }
    stats.tokens += computed * slots();

    if (pass == 0 && plan.reuse == GRT_REUSE_FRAMES) {  // kept for the next frame
      if ((spatial_ = take(row.pools().dynamics)) == nullptr) return false;
      float* page = dynamics_map().target(*spatial_, own_.page_copy);
      std::memcpy(page, passes.around, dynamics_map().floats() * sizeof(float));
      dynamics_map().written(*spatial_, own_.page_copy);
    }
    if (passes.is_static) {
      for (int32_t i = 0; i < count; i++) own_.tokens[own_.places[i]] = own_.candidates[own_.places[i]];
      continue;
    }
    if (pass == 0 && plan.order == GRT_ORDER_ADAPTIVE) {
      const auto threshold = static_cast<float>(plan.threshold);
      int32_t unsure = 0;
      for (int32_t n = 0; n < tokens; n++) unsure += own_.probability[n] < threshold ? 1 : 0;
      passes.passes = passes_for(plan.passes, unsure, tokens);
    }
    int32_t decided = 0;
    for (int32_t n = 0; n < tokens; n++) decided += own_.tokens[n] >= 0 ? 1 : 0;
    decide_most_confident(own_.places, count, decided_after(pass, passes.passes, tokens) - decided,
                          noise_in(plan.noise, pass, passes.passes), row.seed, frame_counter(row), pass,
                          own_.candidates, own_.probability, own_.tokens, own_.confidence, own_.sorted);
  }
  stats.passes = passes.passes;
  return true;
}

// All positions: candidates and their probabilities by token.
bool OrtFrameLoop::run_full_pass(const Passes& passes, int32_t pass) {
  const int64_t action = passes.action;
  const auto temperature = static_cast<float>(passes.plan.temperature);
  widen(own_.tokens, own_.wide_tokens);
  draw_uniforms(*row_, pass, own_.u, nullptr);
  Run run = new_run(GraphKind::kPass);
  run.in("tokens", own_.wide_tokens);
  run.in("previous", own_.wide_previous);
  run.in("action", &action);
  run.in("u", own_.u);
  run.in("temperature", &temperature);
  run.past("", own_.past, passes.num_past, config().dynamics.transformer.window - 1, engine_.blank_.data());
  run.out_tokens("candidates", own_.wide_candidates, num_tokens());
  run.out("probability", own_.probability);
  if (!evaluate(run)) return false;
  for (int32_t n = 0; n < num_tokens(); n++)
    own_.candidates[n] = static_cast<int32_t>(own_.wide_candidates[n]);
  return true;
}

// Some positions; passes.around gets their spatial keys and values.
bool OrtFrameLoop::run_pass_at(Passes& passes, int32_t pass, const int32_t* index, int32_t count) {
  const int64_t action = passes.action;
  const auto temperature = static_cast<float>(passes.plan.temperature);
  float* around = passes.around == own_.around[0] ? own_.around[1] : own_.around[0];
  widen(own_.tokens, own_.wide_tokens);
  draw_uniforms(*row_, pass, own_.u, nullptr);
  for (int32_t i = 0; i < count; i++) own_.wide_index[i] = index[i];
  {
    Run run = new_run(GraphKind::kPassAt);
    run.in("tokens", own_.wide_tokens);
    run.in("previous", own_.wide_previous);
    run.in("action", &action);
    run.in("u", own_.u);
    run.in("temperature", &temperature);
    run.in("index", own_.wide_index, count);
    run.in("around", passes.around);
    run.past("", own_.past, passes.num_past, config().dynamics.transformer.window - 1, engine_.blank_.data());
    run.out_tokens("candidates", own_.wide_candidates, int64_t{count} * slots(), int64_t{count} * slots());
    run.out("probability", own_.sampled, int64_t{count} * slots());
    run.out("around_out", around);
    if (!evaluate(run)) return false;
  }
  passes.around = around;
  for (int32_t i = 0; i < count; i++) {  // position by position, slot by slot
    for (int32_t slot = 0; slot < slots(); slot++) {
      const int32_t place = engine_.token_at(index[i], slot);
      own_.candidates[place] = static_cast<int32_t>(own_.wide_candidates[i * slots() + slot]);
      own_.probability[place] = own_.sampled[i * slots() + slot];
    }
  }
  return true;
}

void OrtFrameLoop::make_order(const Row& row, const Plan& plan, int32_t units, bool by_position) {
  if (plan.order == GRT_ORDER_RANDOM) {
    random_order(row.seed, frame_counter(row), units, own_.order, own_.sort_keys);
    return;
  }
  const int32_t merge = by_position ? config().dynamics.merge : 1;
  halton_order(config().tokenizer.rows() / merge, config().tokenizer.columns() / merge, own_.order);
}

// The tokens of entries [begin, end) of the order, to own_.places.
int32_t OrtFrameLoop::places_of(int32_t begin, int32_t end, bool by_position) {
  if (by_position) return places_at(own_.order + begin, end - begin);
  for (int32_t i = begin; i < end; i++) own_.places[i - begin] = own_.order[i];
  return end - begin;
}

// The tokens of positions, slot by slot, to own_.places.
int32_t OrtFrameLoop::places_at(const int32_t* positions, int32_t count) {
  int32_t filled = 0;
  for (int32_t i = 0; i < count; i++)
    for (int32_t slot = 0; slot < slots(); slot++)
      own_.places[filled++] = engine_.token_at(positions[i], slot);
  return filled;
}

// The positions where most changed lately, as many as the plan says, to own_.index.
int32_t OrtFrameLoop::fresh_positions(const Row& row, const Plan& plan) {
  const int32_t positions = config().num_positions();
  for (int32_t p = 0; p < positions; p++) own_.index[p] = p;
  const float* change = row.change.data();
  std::sort(own_.index, own_.index + positions,
            [=](int32_t a, int32_t b) { return change[a] != change[b] ? change[a] > change[b] : a < b; });
  return static_cast<int32_t>(std::ceil(plan.fresh * positions));
}

// How much changed lately, to own_.change.
void OrtFrameLoop::spread_change(const Row& row) {
  const int32_t merge = config().dynamics.merge;
  const int32_t rows = config().tokenizer.rows() / merge, columns = config().tokenizer.columns() / merge;
  const auto changed = [&](int32_t r, int32_t c) {
    if (r < 0 || c < 0 || r >= rows || c >= columns) return 0;
    int32_t count = 0;
    for (int32_t slot = 0; slot < slots(); slot++) {
      const auto place = static_cast<size_t>(engine_.token_at(r * columns + c, slot));
      count += own_.tokens[place] != row.tokens[place] ? 1 : 0;
    }
    return count;
  };
  for (int32_t r = 0; r < rows; r++) {
    for (int32_t c = 0; c < columns; c++) {
      int32_t around = 0;
      for (int32_t i = -1; i <= 1; i++)
        for (int32_t j = -1; j <= 1; j++) around += changed(r + i, c + j);
      const auto at = static_cast<size_t>(r) * static_cast<size_t>(columns) + static_cast<size_t>(c);
      own_.change[at] = static_cast<float>(around) + (row.has_change ? 0.5F * row.change[at] : 0.0F);
    }
  }
}

}  // namespace grt
