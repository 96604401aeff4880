// A row: all that decides a session's future, besides the actions to come.
#pragma once

#include "bundle/config.hpp"
#include "engine/pages.hpp"

namespace grt {

inline constexpr int32_t kUndecided = -1;   // a MASK, or no previous token
inline constexpr int32_t kNullAction = -1;  // of a first frame

// The pools of a world, one for each shape of page (page_layout.hpp).
struct Pools {
  PagePool dynamics, decoder;

  // Fails where a page is more than this machine can address.
  [[nodiscard]] bool create(const ModelConfig& config, const Allocator& allocator, Error& error);
};

// A claim on the pages of each pool.
struct Claims {
  int32_t dynamics = 0, decoder = 0;
};

// Holds its pages; copying is explicit. Pages are newest first.
class Row {
 public:
  uint64_t seed = 0;
  int64_t frame_index = -1;            // frames since the reset; -1: there is none yet
  int32_t action = kNullAction;        // of the dynamics, that led to the last frame
  int32_t shown_action = kNullAction;  // the same by its place in the bundle's names, as the caller gave it
  bool pending = false;                // whether the last frame's page is still to be computed
  bool has_change = false;             // whether `change` says something; with `spatial`
  Buffer<int32_t> tokens;              // [N]
  Buffer<float> change;                // [P]
  Buffer<uint8_t> picture;             // [frame_height, frame_width, 3] RGB: the last frame
  Buffer<Page*> dynamics;              // [window - 1], the first num_dynamics of them
  Buffer<Page*> decoder;
  Page* spatial = nullptr;  // of reuse "frames"; from the dynamics' pool
  int32_t num_dynamics = 0, num_decoder = 0;

  Row() = default;
  Row(const Row&) = delete;
  Row& operator=(const Row&) = delete;
  ~Row() { clear(); }

  [[nodiscard]] bool create(const ModelConfig& config, Pools& pools, const Allocator& allocator,
                            Error& error);

  // Becomes equal to another row of the same world. Allocates nothing; pages are shared.
  void assign(const Row& other);

  // The same without the picture, whose contents are then left over: for a row that gets another at once.
  void assign_without_picture(const Row& other);

  // Lets go of all pages: a row without a frame. Pages that nobody else holds go into `claims`, if given.
  void clear(Claims* claims = nullptr);

  void swap(Row& other);

  // Puts a page in front, taking over its hold, and lets go of the one that leaves the window.
  void push_dynamics(Page* page);
  void push_decoder(Page* page);
  void set_spatial(Page* page);  // null: none

  Pools& pools() const { return *pools_; }

  // How many of its pages nobody else holds; for claims, see PagePool.
  int32_t num_owned_dynamics() const;  // without `spatial`
  int32_t num_owned_spatial() const;
  int32_t num_owned_decoder() const;

 private:
  Pools* pools_ = nullptr;
};

}  // namespace grt
