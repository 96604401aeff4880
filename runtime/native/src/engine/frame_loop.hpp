// Computes one frame of a row: docs/model.md, sections 5 to 9.
#pragma once

#include <chrono>
#include <cmath>

#include "engine/evaluation.hpp"
#include "engine/native_engine.hpp"
#include "engine/philox.hpp"
#include "engine/schedule.hpp"
#include "engine/spatial_page.hpp"

namespace grt {

// Pages and tokens are taken over by the row only once all of it is done.
class FrameLoop {
 public:
  using Clock = std::chrono::steady_clock;

  FrameLoop(const NativeEngine& engine, Workspace& workspace, Executor& executor,
            const std::atomic<bool>* cancelled, Error& error)
      : engine_(engine),
        model_(engine.model_),
        own_(static_cast<NativeWorkspace&>(workspace)),
        error_(error),
        evaluation_{engine.kernels_, own_, executor, engine.width_, cancelled, error} {}
  FrameLoop(const FrameLoop&) = delete;
  FrameLoop& operator=(const FrameLoop&) = delete;

  ~FrameLoop() {
    if (row_ == nullptr) return;
    for (Page* page : {committed_, spatial_}) {
      if (page != nullptr) row_->pools().dynamics.let_go(page);
    }
    if (shown_ != nullptr) row_->pools().decoder.let_go(shown_);
  }

  bool step(Row& row, int32_t action, const Plan& plan, FrameStats& stats) {
    row_ = &row;
    const auto start = Clock::now();
    if (!decide(action, plan, stats)) return false;
    stats.passes_ms = milliseconds(start) - stats.commit_ms;
    const auto decoding = Clock::now();
    if (!show(own_.tokens)) return false;
    stats.decode_ms = milliseconds(decoding);
    const bool carries = plan.reuse == GRT_REUSE_FRAMES;
    if (carries) spread_change(row);
    finish(row, action, carries);
    return true;
  }

  bool force(Row& row, int32_t action, const int32_t* tokens) {
    row_ = &row;
    if (row.pending && !commit_alone(row)) return false;
    std::memcpy(own_.tokens, tokens, num_tokens() * sizeof(int32_t));
    if (!show(own_.tokens)) return false;
    finish(row, action, false);
    return true;
  }

  bool commit(Row& row) {
    row_ = &row;
    if (!row.pending) return true;
    if (!commit_alone(row)) return false;
    take_over_commit(row);
    return true;
  }

  bool probe(const Row& row, int32_t action, const int32_t* tokens, int32_t pass, double temperature,
             float* logits, int32_t* candidates) {
    Work work = dynamics_work();
    FrameWork& frame = work.frames[0];
    frame = new_frame(2);
    frame.past = own_.frames[1].past;
    frame.num_past = past_of(row, nullptr, own_.frames[1].past);
    draw_uniforms(row, pass);
    const EmbedWork embed = embedding(tokens, row.tokens.data(), action);
    SampleWork sample = sampling(tokens, row, temperature);
    sample.logits = logits;
    if (candidates != nullptr) sample.candidates = candidates;
    return evaluation_.run(
        work, "logits", [&](int32_t task) { kernels().embed(work, task, 0, embed); },
        [&](int32_t task) { kernels().sample(work, task, 0, sample); });
  }

 private:
  friend class PromptLoop;

  static double milliseconds(Clock::time_point from) {
    return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
  }

  const Kernels& kernels() const { return engine_.kernels_; }
  size_t num_tokens() const { return size_t(model_.dynamics_ends.num_tokens); }
  static uint32_t frame_counter(const Row& row) { return static_cast<uint32_t>(row.frame_index + 1); }

  Page* take(PagePool& pool) {
    Page* page = pool.take();
    if (page == nullptr) error_.fail(GRT_ERROR_OUT_OF_MEMORY, "expected a free page, found none");
    return page;
  }

  Work dynamics_work() const {
    Work work;
    work.transformer = &model_.dynamics;
    return work;
  }

  FrameWork frame_of(const FrameBuffers& buffers, int32_t rows, int32_t sets) const {
    FrameWork frame;
    frame.x = buffers.x;
    frame.rows = rows;
    frame.queries = buffers.queries;
    frame.keys = buffers.keys;
    frame.values = buffers.values;
    frame.query_steps = buffers.query_steps;
    frame.key_steps = buffers.key_steps;
    frame.value_steps = buffers.value_steps;
    frame.sets = sets;
    return frame;
  }
  FrameWork new_frame(int32_t sets) const {
    return frame_of(own_.frames[1], model_.dynamics.positions, sets);
  }

  EmbedWork embedding(const int32_t* tokens, const int32_t* previous, int32_t action) const {
    const int32_t row = action < 0 ? engine_.config_.dynamics.num_actions : action;
    return {&model_.dynamics_ends, tokens, previous, row};
  }

  SampleWork sampling(const int32_t* tokens, const Row& row, double temperature) const {
    SampleWork sample;
    sample.ends = &model_.dynamics_ends;
    sample.tokens = tokens;
    sample.previous = row.tokens.data();
    sample.u = own_.u;
    sample.inverse_temperature = static_cast<float>(1.0 / temperature);
    sample.candidates = own_.candidates;
    sample.probability = own_.probability;
    return sample;
  }

  void draw_uniforms(const Row& row, int32_t pass) {
    for (size_t n = 0; n < num_tokens(); n++) {
      own_.u[n] = uniform(philox(row.seed, static_cast<uint32_t>(n), static_cast<uint32_t>(pass),
                                 frame_counter(row), kTokenStream)
                              .word[0]);
    }
  }

  // The pages that a row's next frame looks back at, `committed` in front unless it is null; how many there
  // are.
  int32_t past_of(const Row& row, const Page* committed, const float** past) const {
    const int32_t most = model_.dynamics.window - 1;
    int32_t count = 0;
    if (committed != nullptr && most > 0) past[count++] = committed->data;
    for (int32_t i = 0; i < row.num_dynamics && count < most; i++)
      past[count++] = row.dynamics[size_t(i)]->data;
    return count;
  }

  bool run_commit(const int32_t* tokens, int32_t action, const float** past, int32_t num_past, float* page) {
    Work work = dynamics_work();
    work.frames[0] = commit_frame(past, num_past, page);
    const EmbedWork embed = embedding(tokens, tokens, action);
    return evaluation_.run(
        work, "commit", [&](int32_t task) { kernels().embed(work, task, 0, embed); }, [](int32_t) {});
  }

  FrameWork commit_frame(const float** past, int32_t num_past, float* page) const {
    FrameWork frame = frame_of(own_.frames[0], model_.dynamics.positions, 2);
    frame.past = past;
    frame.num_past = num_past;
    frame.page = page;
    frame.for_page_only = true;
    return frame;
  }

  bool commit_alone(const Row& row) {
    if (model_.dynamics.window == 1) return true;  // nobody looks back
    if ((committed_ = take(row.pools().dynamics)) == nullptr) return false;
    const int32_t num_past = past_of(row, nullptr, own_.frames[0].past);
    return run_commit(row.tokens.data(), row.action, own_.frames[0].past, num_past, committed_->data);
  }

  void take_over_commit(Row& row) {
    if (committed_ != nullptr) row.push_dynamics(committed_);
    committed_ = nullptr;
    row.pending = false;
  }

  // The passes: decides own_.tokens.
  bool decide(int32_t action, const Plan& plan, FrameStats& stats) {
    Row& row = *row_;
    const bool is_static = plan.order == GRT_ORDER_RANDOM || plan.order == GRT_ORDER_HALTON;
    const bool by_position = plan.reuse == GRT_REUSE_PASSES;
    const bool recalls = plan.reuse == GRT_REUSE_FRAMES && row.spatial != nullptr;
    const int32_t positions = model_.dynamics.positions, slots = model_.dynamics_ends.slots;
    const auto tokens = static_cast<int32_t>(num_tokens());
    const int32_t units = by_position ? positions : tokens;
    const int32_t sets = plan.reuse == GRT_REUSE_NONE ? 2 : std::max(2, model_.dynamics.num_layers);
    for (int32_t n = 0; n < tokens; n++) own_.tokens[n] = kUndecided;
    if (is_static) make_order(row, plan, units, by_position);

    bool fuses = row.pending && !recalls && model_.dynamics.window > 1;
    if (row.pending && !fuses) {
      const auto start = Clock::now();
      if (!commit_alone(row)) return false;
      stats.commit_ms = milliseconds(start);
    }
    if (fuses && (committed_ = take(row.pools().dynamics)) == nullptr) return false;

    int32_t passes = plan.passes;
    stats.tokens = 0;
    for (int32_t pass = 0; pass < passes; pass++) {
      Work work = dynamics_work();
      FrameWork frame = new_frame(sets);
      // Which places the pass samples and decides: `count` of own_.places.
      int32_t count = tokens, done = 0, before = 0;
      if (is_static) {
        done = pass == 0 ? 0 : decided_after(pass - 1, passes, units);
        before = pass <= 1 ? 0 : decided_after(pass - 2, passes, units);
        count = places_of(done, decided_after(pass, passes, units), by_position);
      } else {
        for (int32_t n = 0; n < tokens; n++) own_.places[n] = n;
      }
      if (by_position && pass > 0) {  // just decided, and about to be
        frame.index = own_.order + before;
        frame.rows = decided_after(pass, passes, units) - before;
      }
      if (recalls && pass == 0) {
        frame.rows = recall(row, plan);
        frame.index = own_.index;
        count = places_at(own_.index, frame.rows);
      }
      for (int32_t n = 0; n < tokens; n++) own_.sampled[n] = 0;
      for (int32_t i = 0; i < count; i++) own_.sampled[own_.places[i]] = own_.tokens[own_.places[i]];

      draw_uniforms(row, pass);
      frame.past = own_.frames[1].past;
      frame.num_past = past_of(row, committed_, own_.frames[1].past);
      const int32_t which = fuses ? 1 : 0;
      work.frames[which] = frame;
      work.num_frames = which + 1;
      EmbedWork embed_commit{};
      if (fuses) {
        const int32_t num_past = past_of(row, nullptr, own_.frames[0].past);
        work.frames[0] = commit_frame(own_.frames[0].past, num_past, committed_->data);
        embed_commit = embedding(row.tokens.data(), row.tokens.data(), row.action);
      }
      const EmbedWork embed = embedding(own_.tokens, row.tokens.data(), action);
      const SampleWork sample = sampling(own_.sampled, row, plan.temperature);
      const bool computed = evaluation_.run(
          work, "logits",
          [&](int32_t task) {
            if (fuses) kernels().embed(work, task, 0, embed_commit);
            kernels().embed(work, task, which, embed);
          },
          [&](int32_t task) { kernels().sample(work, task, which, sample); });
      if (!computed) return false;
      fuses = false;
      stats.tokens += frame.rows * slots;

      if (pass == 0 && plan.reuse == GRT_REUSE_FRAMES && !carry(row)) return false;
      if (is_static) {
        for (int32_t i = 0; i < count; i++) own_.tokens[own_.places[i]] = own_.candidates[own_.places[i]];
        continue;
      }
      if (pass == 0 && plan.order == GRT_ORDER_ADAPTIVE) {
        int32_t unsure = 0;
        for (int32_t n = 0; n < tokens; n++) unsure += own_.probability[n] < plan.threshold ? 1 : 0;
        passes = passes_for(plan.passes, unsure, tokens);
      }
      int32_t decided = 0;
      for (int32_t n = 0; n < tokens; n++) decided += own_.tokens[n] >= 0 ? 1 : 0;
      decide_most_confident(own_.places, count, decided_after(pass, passes, tokens) - decided,
                            noise_in(plan.noise, pass, passes), row.seed, frame_counter(row), pass,
                            own_.candidates, own_.probability, own_.tokens, own_.confidence, own_.sorted);
    }
    stats.passes = passes;
    return true;
  }

  void make_order(const Row& row, const Plan& plan, int32_t units, bool by_position) {
    if (plan.order == GRT_ORDER_RANDOM) {
      random_order(row.seed, frame_counter(row), units, own_.order, own_.sort_keys);
      return;
    }
    const int32_t merge = by_position ? engine_.config_.dynamics.merge : 1;
    halton_order(engine_.config_.tokenizer.rows() / merge, engine_.config_.tokenizer.columns() / merge,
                 own_.order);
  }

  // The tokens of entries [begin, end) of the order, to own_.places.
  int32_t places_of(int32_t begin, int32_t end, bool by_position) {
    if (by_position) return places_at(own_.order + begin, end - begin);
    for (int32_t i = begin; i < end; i++) own_.places[i - begin] = own_.order[i];
    return end - begin;
  }

  // The tokens of positions, slot by slot, to own_.places.
  int32_t places_at(const int32_t* positions, int32_t count) {
    const DynamicsEnds& ends = model_.dynamics_ends;
    int32_t filled = 0;
    for (int32_t i = 0; i < count; i++)
      for (int32_t slot = 0; slot < ends.slots; slot++)
        own_.places[filled++] = ends.members[positions[i] * ends.slots + slot];
    return filled;
  }

  // Takes up the spatial keys and values that the row carries, and lists the positions to compute in
  // own_.index.
  int32_t recall(const Row& row, const Plan& plan) {
    load_spatial(model_.dynamics, row.spatial->data, own_.frames[1]);
    const auto positions = size_t(model_.dynamics.positions);
    const auto count = static_cast<int32_t>(std::ceil(plan.fresh * static_cast<double>(positions)));
    for (size_t p = 0; p < positions; p++) own_.index[p] = static_cast<int32_t>(p);
    const float* change = row.change.data();
    std::sort(own_.index, own_.index + positions,
              [=](int32_t a, int32_t b) { return change[a] != change[b] ? change[a] > change[b] : a < b; });
    return count;
  }

  // Keeps the spatial keys and values of the pass that was just computed.
  bool carry(const Row& row) {
    if ((spatial_ = take(row.pools().dynamics)) == nullptr) return false;
    save_spatial(model_.dynamics, own_.frames[1], spatial_->data);
    return true;
  }

  // How much changed lately, to own_.change.
  void spread_change(const Row& row) {
    const DynamicsEnds& ends = model_.dynamics_ends;
    const int32_t merge = engine_.config_.dynamics.merge;
    const int32_t rows = engine_.config_.tokenizer.rows() / merge,
                  columns = engine_.config_.tokenizer.columns() / merge;
    const auto changed = [&](int32_t r, int32_t c) {
      if (r < 0 || c < 0 || r >= rows || c >= columns) return 0;
      int32_t count = 0;
      for (int32_t slot = 0; slot < ends.slots; slot++) {
        const int32_t place = ends.members[(r * columns + c) * ends.slots + slot];
        count += own_.tokens[place] != row.tokens[size_t(place)] ? 1 : 0;
      }
      return count;
    };
    for (int32_t r = 0; r < rows; r++)
      for (int32_t c = 0; c < columns; c++) {
        int32_t around = 0;
        for (int32_t i = -1; i <= 1; i++)
          for (int32_t j = -1; j <= 1; j++) around += changed(r + i, c + j);
        const size_t at = size_t(r) * size_t(columns) + size_t(c);
        own_.change[at] = static_cast<float>(around) + (row.has_change ? 0.5F * row.change[at] : 0.0F);
      }
  }

  bool show(const int32_t* tokens) {
    if ((shown_ = take(row_->pools().decoder)) == nullptr) return false;
    const float** past = own_.frames[0].past;
    for (int32_t i = 0; i < row_->num_decoder; i++) past[i] = row_->decoder[size_t(i)]->data;
    return run_decoder(tokens, past, row_->num_decoder, shown_->data);
  }

  bool run_decoder(const int32_t* tokens, const float** past, int32_t num_past, float* page) {
    Work work;
    work.transformer = &model_.decoder;
    FrameWork& frame = work.frames[0] = frame_of(own_.frames[0], model_.decoder.positions, 2);
    frame.past = past;
    frame.num_past = num_past;
    frame.page = page;
    return evaluation_.run(
        work, "pixels",
        [&](int32_t task) { kernels().embed_decoder(work, task, model_.decoder_ends, tokens); },
        [&](int32_t task) { kernels().paint(work, task, model_.decoder_ends, own_.picture); });
  }

  void copy_result(Row& row) const {
    std::memcpy(row.tokens.data(), own_.tokens, num_tokens() * sizeof(int32_t));
    std::memcpy(row.picture.data(), own_.picture, row.picture.size());
  }

  // Makes what was computed the row's last frame.
  void finish(Row& row, int32_t action, bool carries) {
    if (row.pending) take_over_commit(row);
    row.push_decoder(shown_);
    shown_ = nullptr;
    row.set_spatial(spatial_);
    spatial_ = nullptr;
    row.has_change = carries;
    if (carries) std::memcpy(row.change.data(), own_.change, row.change.size() * sizeof(float));
    copy_result(row);
    row.frame_index++;
    row.action = action;
    row.pending = true;
  }

  const NativeEngine& engine_;
  const PackedModel& model_;
  NativeWorkspace& own_;
  Error& error_;
  Evaluation evaluation_;
  Row* row_ = nullptr;  // who gets the pages below; let go of if it does not come to that
  Page *committed_ = nullptr, *spatial_ = nullptr, *shown_ = nullptr;
};

}  // namespace grt
