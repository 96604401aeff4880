// Fewer passes where frames come late, more where there is time: runtime/deadline.py, decision by decision.
#pragma once

#include "bundle/plan.hpp"

namespace grt {

// Picks the passes of every frame so that frames stay within a target time.
//
// The cost of a frame is taken to be `unit * (fixed + K)`: `fixed` is what does not depend on K (decoder,
// commit, copies), counted in passes; it is learned from the medians on both sides of a change of K. `unit`
// is the median over the last kWindow frames since the last change of K.
//
// - Lower: two of the last three frames were late. K falls to the largest that promises to meet the target,
//   by at least 1 and at most to half; soon after a raise only by 1.
// - Raise: for kPatience frames in a row K + 1 promised to stay within kHeadroom of the target. K rises by 1.
// - Back off: a K that had to be left is raised to again only after twice as many frames as the last time, up
//   to kMaxPatience. A K that stood for kMaxPatience frames is trusted anew.
//
// Starts at the most passes: it is from above that cost is learned quickly. Deterministic, given the times.
class Deadline {
 public:
  static constexpr int32_t kWindow = 5;
  static constexpr int32_t kLateAmong = 3;
  static constexpr double kHeadroom = 0.9;
  static constexpr int32_t kPatience = 15;
  static constexpr int32_t kMaxPatience = 32 * kPatience;
  static constexpr double kMaxFixed = 50;

  // `target_ms` is above 0 and finite, 1 <= least <= most <= kMaxPasses.
  void start(double target_ms, int32_t most, int32_t least);

  // Other bounds from the next frame on, as when the plan changes.
  void limit(int32_t most, int32_t least);

  // What a frame took: passes that it used (under "adaptive" fewer than were allowed), and milliseconds.
  void feed(int32_t passes, double ms);

  double target_ms() const { return target_ms_; }
  int32_t passes() const { return passes_; }  // K of the next frame

 private:
  struct Frame {
    int32_t passes = 0;
    double ms = 0;
  };

  void lower();
  double promise(int32_t passes, int32_t frames) const;
  Frame typical(int32_t frames) const;
  void learn_fixed();
  void move_to(int32_t passes, const Frame* before, bool raised);
  const Frame* last(int32_t& frames) const;
  int32_t patience(int32_t passes) const;

  double target_ms_ = 0;
  int32_t most_ = 1, least_ = 1, passes_ = 1;
  double fixed_ = 0;  // the cautious guess: it makes a raise look dear
  bool knows_fixed_ = false;
  int16_t patience_[kMaxPasses + 1] = {};  // of raises to a K; 0: kPatience
  // Since the last change of K:
  bool raised_ = false;  // whether that was a raise
  bool has_before_ = false;
  Frame before_;           // of before it
  Frame recent_[kWindow];  // oldest first
  int32_t num_recent_ = 0;
  int32_t num_frames_ = 0, num_promising_ = 0;
};

}  // namespace grt
