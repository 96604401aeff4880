#include "engine/row.hpp"

#include "engine/page_layout.hpp"

namespace grt {
namespace {

// Half of what can be addressed, so that sums of a few pages do not overflow.
constexpr uint64_t kMostPageBytes = SIZE_MAX / 2;

bool create_pool(PagePool& pool, const PageLayout& layout, const Allocator& allocator, Error& error) {
  if (layout.floats() > kMostPageBytes / sizeof(float)) {
    return error.fail(GRT_ERROR_OUT_OF_MEMORY,
                      "expected pages that this processor can address, found %llu numbers in one; use a "
                      "smaller model",
                      static_cast<unsigned long long>(layout.floats()));
  }
  pool.create(allocator, static_cast<size_t>(layout.floats()));
  return true;
}

void push(PagePool& pool, Buffer<Page*>& pages, int32_t& count, Page* page) {
  const auto capacity = static_cast<int32_t>(pages.size());
  if (capacity == 0) return pool.let_go(page);
  if (count == capacity) {
    pool.let_go(pages[static_cast<size_t>(count - 1)]);
  } else {
    count++;
  }
  for (auto i = static_cast<size_t>(count - 1); i > 0; i--) pages[i] = pages[i - 1];
  pages[0] = page;
}

void share(PagePool& pool, Buffer<Page*>& pages, int32_t& count, const Buffer<Page*>& others,
           int32_t num_others) {
  // Held first: they may be the same pages.
  for (int32_t i = 0; i < num_others; i++) pool.hold(others[static_cast<size_t>(i)]);
  for (int32_t i = 0; i < count; i++) pool.let_go(pages[static_cast<size_t>(i)]);
  for (int32_t i = 0; i < num_others; i++) pages[static_cast<size_t>(i)] = others[static_cast<size_t>(i)];
  count = num_others;
}

template <typename T>
void copy(Buffer<T>& to, const Buffer<T>& from) {
  if (from.size() > 0) std::memcpy(to.data(), from.data(), from.size() * sizeof(T));
}

}  // namespace

bool Pools::create(const ModelConfig& config, const Allocator& allocator, Error& error) {
  return create_pool(dynamics, PageLayout::of_dynamics(config), allocator, error) &&
         create_pool(decoder, PageLayout::of_decoder(config), allocator, error);
}

bool Row::create(const ModelConfig& config, Pools& pools, const Allocator& allocator, Error& error) {
  const TokenizerConfig& tokenizer = config.tokenizer;
  const uint64_t bytes = uint64_t{3} * static_cast<uint64_t>(tokenizer.frame_height()) *
                         static_cast<uint64_t>(tokenizer.frame_width());
  if (bytes > SIZE_MAX / 2) {
    return error.fail(GRT_ERROR_OUT_OF_MEMORY, "expected a picture that this processor can address");
  }
  pools_ = &pools;
  return tokens.create(allocator, static_cast<size_t>(tokenizer.num_tokens()), error) &&
         change.create(allocator, static_cast<size_t>(config.num_positions()), error) &&
         picture.create(allocator, static_cast<size_t>(bytes), error) &&
         dynamics.create(allocator, static_cast<size_t>(config.dynamics.transformer.window - 1), error) &&
         decoder.create(allocator, static_cast<size_t>(tokenizer.decoder.window - 1), error);
}

void Row::assign(const Row& other) {
  if (this == &other) return;
  assign_without_picture(other);
  copy(picture, other.picture);
}

void Row::assign_without_picture(const Row& other) {
  if (this == &other) return;
  seed = other.seed;
  frame_index = other.frame_index;
  action = other.action;
  shown_action = other.shown_action;
  pending = other.pending;
  has_change = other.has_change;
  copy(tokens, other.tokens);
  copy(change, other.change);
  share(pools_->dynamics, dynamics, num_dynamics, other.dynamics, other.num_dynamics);
  share(pools_->decoder, decoder, num_decoder, other.decoder, other.num_decoder);
  if (other.spatial != nullptr) pools_->dynamics.hold(other.spatial);
  set_spatial(other.spatial);
}

void Row::clear(Claims* claims) {
  if (pools_ == nullptr) return;
  int32_t* of_dynamics = claims != nullptr ? &claims->dynamics : nullptr;
  int32_t* of_decoder = claims != nullptr ? &claims->decoder : nullptr;
  for (int32_t i = 0; i < num_dynamics; i++) {
    pools_->dynamics.let_go(dynamics[static_cast<size_t>(i)], of_dynamics);
  }
  for (int32_t i = 0; i < num_decoder; i++) {
    pools_->decoder.let_go(decoder[static_cast<size_t>(i)], of_decoder);
  }
  if (spatial != nullptr) pools_->dynamics.let_go(spatial, of_dynamics);
  spatial = nullptr;
  num_dynamics = num_decoder = 0;
  seed = 0;
  frame_index = -1;
  action = shown_action = kNullAction;
  pending = has_change = false;
}

void Row::swap(Row& other) {
  std::swap(seed, other.seed);
  std::swap(frame_index, other.frame_index);
  std::swap(action, other.action);
  std::swap(shown_action, other.shown_action);
  std::swap(pending, other.pending);
  std::swap(has_change, other.has_change);
  std::swap(tokens, other.tokens);
  std::swap(change, other.change);
  std::swap(picture, other.picture);
  std::swap(dynamics, other.dynamics);
  std::swap(decoder, other.decoder);
  std::swap(spatial, other.spatial);
  std::swap(num_dynamics, other.num_dynamics);
  std::swap(num_decoder, other.num_decoder);
  std::swap(pools_, other.pools_);
}

void Row::push_dynamics(Page* page) { push(pools_->dynamics, dynamics, num_dynamics, page); }

void Row::push_decoder(Page* page) { push(pools_->decoder, decoder, num_decoder, page); }

void Row::set_spatial(Page* page) {
  if (spatial != nullptr) pools_->dynamics.let_go(spatial);
  spatial = page;
}

int32_t Row::num_owned_dynamics() const { return pools_->dynamics.num_owned(dynamics.data(), num_dynamics); }

int32_t Row::num_owned_spatial() const {
  return spatial == nullptr ? 0 : pools_->dynamics.num_owned(&spatial, 1);
}

int32_t Row::num_owned_decoder() const { return pools_->decoder.num_owned(decoder.data(), num_decoder); }

}  // namespace grt
