#include "engine/deadline.hpp"

#include <algorithm>
#include <utility>

namespace grt {
namespace {

// The lower of the two in the middle where their number is even. Sorts the values.
template <typename T>
T median_low(T* values, int32_t count) {
  for (int32_t i = 1; i < count; i++) {
    for (int32_t j = i; j > 0 && values[j] < values[j - 1]; j--) std::swap(values[j], values[j - 1]);
  }
  return values[(count - 1) / 2];
}

}  // namespace

void Deadline::start(double target_ms, int32_t most, int32_t least) {
  *this = Deadline();
  target_ms_ = target_ms;
  passes_ = most;
  limit(most, least);
}

void Deadline::limit(int32_t most, int32_t least) {
  most_ = most;
  least_ = least;
  move_to(std::min(most, std::max(least, passes_)), nullptr, false);
}

void Deadline::feed(int32_t passes, double ms) {
  if (num_recent_ == kWindow) {
    std::copy(recent_ + 1, recent_ + kWindow, recent_);
    num_recent_--;
  }
  recent_[num_recent_++] = {passes, ms};
  // It counts on for years in Python; here it stops where nothing looks at it any more.
  if (num_frames_ <= kMaxPatience) num_frames_++;
  if (num_frames_ == kLateAmong) learn_fixed();

  int32_t count = kLateAmong;
  const Frame* frames = last(count);
  int32_t num_late = 0;
  for (int32_t i = 0; i < count; i++) num_late += frames[i].ms > target_ms_;
  if (num_late >= 2) {
    if (passes_ > least_) lower();
    return;
  }
  if (num_frames_ == kMaxPatience) patience_[passes_] = 0;
  if (passes_ < most_) {
    const bool promising = promise(passes_ + 1, kWindow) <= kHeadroom * target_ms_;
    num_promising_ = promising ? num_promising_ + 1 : 0;
    if (num_promising_ >= patience(passes_ + 1)) {
      const Frame before = typical(kWindow);
      move_to(passes_ + 1, &before, true);
    }
  }
}

int32_t Deadline::patience(int32_t passes) const {
  return patience_[passes] != 0 ? patience_[passes] : kPatience;
}

const Deadline::Frame* Deadline::last(int32_t& frames) const {
  frames = std::min(frames, num_recent_);
  return recent_ + num_recent_ - frames;
}

void Deadline::lower() {
  if (num_frames_ < kLateAmong) learn_fixed();
  patience_[passes_] = static_cast<int16_t>(std::min(2 * patience(passes_), kMaxPatience));
  int32_t passes = passes_ - 1;
  const bool just_raised = raised_ && num_frames_ < kPatience;  // then the K before is known to be good
  const int32_t lowest = just_raised ? passes : std::max(least_, passes_ / 2);
  while (passes > lowest && promise(passes, kLateAmong) > target_ms_) passes--;
  const Frame before = typical(kLateAmong);
  move_to(passes, &before, false);
}

double Deadline::promise(int32_t passes, int32_t frames) const {
  const Frame* recent = last(frames);
  double units[kWindow] = {};
  for (int32_t i = 0; i < frames; i++) units[i] = recent[i].ms / (fixed_ + recent[i].passes);
  return median_low(units, frames) * (fixed_ + passes);
}

Deadline::Frame Deadline::typical(int32_t frames) const {
  const Frame* recent = last(frames);
  int32_t passes[kWindow] = {};
  double ms[kWindow] = {};
  for (int32_t i = 0; i < frames; i++) {
    passes[i] = recent[i].passes;
    ms[i] = recent[i].ms;
  }
  return {median_low(passes, frames), median_low(ms, frames)};
}

// ms1 / ms0 = (fixed + k1) / (fixed + k0). Where more passes seem to take less time it was the machine that
// changed, and nothing is learned.
void Deadline::learn_fixed() {
  if (!has_before_) return;
  const Frame first = before_, second = typical(kLateAmong);
  has_before_ = false;
  const double k0 = first.passes, k1 = second.passes;
  if ((k1 - k0) * (second.ms - first.ms) <= 0) return;
  const double at_zero = (k0 * second.ms - k1 * first.ms) / (first.ms - second.ms);
  const double found = std::min(kMaxFixed, std::max(0.0, at_zero));
  fixed_ = knows_fixed_ ? (fixed_ + found) / 2 : found;
  knows_fixed_ = true;
}

// Frames of another K say nothing about this one, but for what both say about the fixed part.
void Deadline::move_to(int32_t passes, const Frame* before, bool raised) {
  passes_ = passes;
  raised_ = raised;
  has_before_ = before != nullptr;
  if (before != nullptr) before_ = *before;
  num_recent_ = num_frames_ = num_promising_ = 0;
}

}  // namespace grt
