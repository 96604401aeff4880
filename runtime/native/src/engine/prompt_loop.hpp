// Starts a row from a prompt: pictures that follow each other, and the actions between them. docs/model.md,
// section 6.
#pragma once

#include "engine/frame_loop.hpp"

namespace grt {

// Pages collect in the workspace until all is done, so that a failure leaves the row as it was.
class PromptLoop {
 public:
  PromptLoop(FrameLoop& loop, Row& row) : loop_(loop), own_(loop.own_), row_(row) {}
  PromptLoop(const PromptLoop&) = delete;
  PromptLoop& operator=(const PromptLoop&) = delete;

  ~PromptLoop() {
    for (int32_t i = 0; i < num_dynamics_; i++) row_.pools().dynamics.let_go(own_.new_dynamics[i]);
    for (int32_t i = 0; i < num_decoder_; i++) row_.pools().decoder.let_go(own_.new_decoder[i]);
  }

  // As Engine::prefill.
  bool run(uint64_t seed, const uint8_t* pictures, size_t num_pictures, const int32_t* actions) {
    const TokenizerConfig& tokenizer = loop_.engine_.config_.tokenizer;
    const size_t bytes = size_t{3} * size_t(tokenizer.height) * size_t(tokenizer.width);
    for (size_t t = 0; t < num_pictures; t++) {
      if (t > 0 && !commit(t == 1 ? kNullAction : actions[t - 2])) return false;
      if (!encode(pictures + t * bytes, t) || !show()) return false;
    }
    finish(seed, num_pictures, num_pictures > 1 ? actions[num_pictures - 2] : kNullAction);
    return true;
  }

 private:
  // Picture `t` to tokens; the encoder's pages take turns in the workspace.
  bool encode(const uint8_t* picture, size_t t) {
    const PackedModel& model = loop_.model_;
    const auto window = size_t(model.encoder.window);
    const float** past = own_.frames[0].past;
    const size_t num_past = std::min(t, window - 1);
    const auto page = [&](size_t frame) {
      return own_.encoder_pages + frame % window * model.encoder.page_floats();
    };
    for (size_t age = 1; age <= num_past; age++) past[age - 1] = page(t - age);
    Work work;
    work.transformer = &model.encoder;
    FrameWork& frame = work.frames[0] = loop_.frame_of(own_.frames[0], model.encoder.positions, 2);
    frame.past = past;
    frame.num_past = static_cast<int32_t>(num_past);
    frame.page = page(t);
    const Kernels& kernels = loop_.kernels();
    return loop_.evaluation_.run(
        work, "tokens", [&](int32_t task) { kernels.embed_encoder(work, task, model.encoder_ends, picture); },
        [&](int32_t task) { kernels.quantise(work, task, model.encoder_ends, own_.tokens); });
  }

  // The page of the picture before, whose tokens are still there; `action` led to it.
  bool commit(int32_t action) {
    const int32_t most = loop_.model_.dynamics.window - 1;
    if (most == 0) return true;
    Page* page = loop_.take(row_.pools().dynamics);
    if (page == nullptr) return false;
    const float** past = own_.frames[0].past;
    for (int32_t i = 0; i < num_dynamics_; i++) past[i] = own_.new_dynamics[i]->data;
    const bool done = loop_.run_commit(own_.tokens, action, past, num_dynamics_, page->data);
    push(own_.new_dynamics, num_dynamics_, most, page, row_.pools().dynamics);
    return done;
  }

  bool show() {
    Page* page = loop_.take(row_.pools().decoder);
    if (page == nullptr) return false;
    const float** past = own_.frames[0].past;
    for (int32_t i = 0; i < num_decoder_; i++) past[i] = own_.new_decoder[i]->data;
    const bool done = loop_.run_decoder(own_.tokens, past, num_decoder_, page->data);
    push(own_.new_decoder, num_decoder_, loop_.model_.decoder.window - 1, page, row_.pools().decoder);
    return done;
  }

  void finish(uint64_t seed, size_t num_pictures, int32_t action) {
    row_.clear();
    for (int32_t i = num_dynamics_; i-- > 0;) row_.push_dynamics(own_.new_dynamics[i]);
    for (int32_t i = num_decoder_; i-- > 0;) row_.push_decoder(own_.new_decoder[i]);
    num_dynamics_ = num_decoder_ = 0;
    row_.seed = seed;
    row_.frame_index = static_cast<int64_t>(num_pictures) - 1;
    row_.action = action;
    row_.pending = true;
    row_.has_change = false;
    loop_.copy_result(row_);
  }

  // Newest first, at most `most`; takes over the page.
  static void push(Page** pages, int32_t& count, int32_t most, Page* page, PagePool& pool) {
    if (most == 0) return pool.let_go(page);
    if (count == most) pool.let_go(pages[--count]);
    for (int32_t i = count; i > 0; i--) pages[i] = pages[i - 1];
    pages[0] = page;
    count++;
  }

  FrameLoop& loop_;
  NativeWorkspace& own_;
  Row& row_;
  int32_t num_dynamics_ = 0, num_decoder_ = 0;
};

}  // namespace grt
