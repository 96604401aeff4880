/*
 * genie_rt.h for C++17: objects that free what they own, and failures that cannot be overlooked. Header only.
 *
 *     #include <genie_rt.hpp>
 *
 *     genie_rt::World world("bundles/demo");
 *     genie_rt::Session session(world);
 *     genie_rt::Picture frame = world.make_frame();
 *     session.reset_prompt(0, seed, &frame);
 *     while (playing) {
 *       session.step(action, &frame);
 *       draw(frame.pixels.data());
 *     }
 *
 * A call that fails throws genie_rt::Error. With GRT_NO_EXCEPTIONS defined before this header is included,
 * and where a compiler has exceptions off, nothing throws: the calls return their Status, which has to be
 * looked at, and what a constructor would make is made by World::load and Session::create:
 *
 *     genie_rt::World world;
 *     if (genie_rt::Status status = world.load("bundles/demo"); !status) return complain(status.message());
 *
 * Rules of ownership, threads and failures are those of genie_rt.h, whose functions do all the work: a handle
 * is given by get(). Objects may be moved; one that was moved from is empty, and calls on it fail with
 * GRT_ERROR_INPUT.
 */
#ifndef GENIE_RT_HPP
#define GENIE_RT_HPP

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "genie_rt.h"

#if !defined(GRT_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define GRT_NO_EXCEPTIONS
#endif

#if !defined(GRT_NO_EXCEPTIONS)
#include <exception>
#endif

namespace genie_rt {

/* Which of both it is belongs to all names, so that one program may have both. */
#if defined(GRT_NO_EXCEPTIONS)
inline namespace returning {
#define GRT_MUST_USE [[nodiscard]]
#else
inline namespace throwing {
#define GRT_MUST_USE
#endif

/* How a call went, with its message. */
class GRT_MUST_USE Status {
 public:
  Status() { grt_error_init(&error_); }

  grt_status code() const { return code_; }
  const char* message() const { return error_.message; }
  const char* name() const { return grt_status_name(code_); }
  bool ok() const { return code_ == GRT_OK; }
  explicit operator bool() const { return ok(); }

  /* For the calls below: `status = grt_...(..., status.error())`. */
  grt_error* error() { return &error_; }
  void set(grt_status code) { code_ = code; }

 private:
  grt_status code_ = GRT_OK;
  grt_error error_;
};

#if !defined(GRT_NO_EXCEPTIONS)
class Error : public std::exception {
 public:
  explicit Error(const Status& status) : status_(status) {}
  const char* what() const noexcept override { return status_.message(); }
  grt_status code() const noexcept { return status_.code(); }

 private:
  Status status_;
};
#endif

/* Runs a call of genie_rt.h, which takes a grt_error last. */
template <typename Call>
Status check(Call call) {
  Status status;
  status.set(call(status.error()));
#if !defined(GRT_NO_EXCEPTIONS)
  if (!status) throw Error(status);
#endif
  return status;
}

/* ---- The structs of genie_rt.h, set up -------------------------------------------------------------------
 */

struct WorldParams : grt_world_params {
  WorldParams() { grt_world_params_init(this); }
};
struct SessionParams : grt_session_params {
  SessionParams() { grt_session_params_init(this); }
};
struct WorldInfo : grt_world_info {
  WorldInfo() { grt_world_info_init(this); }
};
struct Plan : grt_plan {
  Plan() { grt_plan_init(this); }
};
struct StepStats : grt_step_stats {
  StepStats() { grt_step_stats_init(this); }
};
struct SessionState : grt_session_state {
  SessionState() { grt_session_state_init(this); }
};
struct Version : grt_version {
  Version() { grt_version_init(this); }
};

inline Version version() {
  Version made;
  static_cast<void>(check([&](grt_error* error) { return grt_get_version(&made, error); }));
  return made;
}

/* ---- Pictures --------------------------------------------------------------------------------------------
 */

inline std::size_t pixel_bytes(grt_format format) { return format == GRT_FORMAT_RGB8 ? 3 : 4; }

/* A view of pixels that somebody else owns. */
struct Image : grt_image {
  Image() { grt_image_init(this, nullptr, 0, GRT_FORMAT_RGBA8); }
  /* `pitch_bytes` from one row to the next; 0: without a gap. */
  Image(void* at, int width, int height, grt_format pixel_format = GRT_FORMAT_RGBA8,
        std::size_t pitch_bytes = 0) {
    const std::size_t row = static_cast<std::size_t>(width) * pixel_bytes(pixel_format);
    const std::size_t step = pitch_bytes != 0 ? pitch_bytes : row;
    grt_image_init(this, at, height > 0 ? step * static_cast<std::size_t>(height - 1) + row : 0,
                   pixel_format);
    pitch = pitch_bytes;
  }
};

/* Pixels with their owner. */
struct Picture {
  Picture() = default;
  Picture(int w, int h, grt_format pixel_format = GRT_FORMAT_RGBA8)
      : width(w),
        height(h),
        format(pixel_format),
        pixels(static_cast<std::size_t>(w) * static_cast<std::size_t>(h) * pixel_bytes(pixel_format)) {}

  Image image() { return Image(pixels.data(), width, height, format); }

  int width = 0, height = 0;
  grt_format format = GRT_FORMAT_RGBA8;
  std::vector<std::uint8_t> pixels;
};

/* Where a call puts a frame: a Picture, an Image, or nowhere. */
class Into {
 public:
  Into() = default;
  Into(std::nullptr_t) {}
  Into(Picture* picture)
      : image_(picture != nullptr ? picture->image() : Image()), is_wanted_(picture != nullptr) {}
  Into(grt_image* image) : is_wanted_(image != nullptr) {
    if (image != nullptr) static_cast<grt_image&>(image_) = *image;
  }
  Into(Image* image) : Into(static_cast<grt_image*>(image)) {}

  grt_image* get() { return is_wanted_ ? &image_ : nullptr; }

 private:
  Image image_;
  bool is_wanted_ = false;
};

/* ---- Worlds ----------------------------------------------------------------------------------------------
 */

class World {
 public:
  World() = default;
#if !defined(GRT_NO_EXCEPTIONS)
  explicit World(const char* folder, const grt_world_params& params = WorldParams()) { load(folder, params); }
#endif
  World(World&& other) noexcept : world_(std::exchange(other.world_, nullptr)) {}
  World& operator=(World&& other) noexcept {
    std::swap(world_, other.world_);
    return *this;
  }
  ~World() { grt_world_free(world_); }

  /* In place of the world that this was, which is kept if the call fails. */
  Status load(const char* folder, const grt_world_params& params = WorldParams()) {
    return replace(
        [&](grt_world** world, grt_error* error) { return grt_world_load(folder, &params, world, error); });
  }
  Status load_memory(const std::vector<grt_file>& files, const grt_world_params& params = WorldParams()) {
    return replace([&](grt_world** world, grt_error* error) {
      return grt_world_load_memory(files.data(), files.size(), &params, world, error);
    });
  }

  Status get_info(WorldInfo& info) const {
    return check([&](grt_error* error) { return grt_world_get_info(world_, &info, error); });
  }
  /* The same as a value: all zeros where there is no world and nothing throws. */
  WorldInfo info() const {
    WorldInfo made;
    static_cast<void>(get_info(made));
    return made;
  }

  const char* action_name(std::int32_t action) const { return grt_world_action_name(world_, action); }
  const char* plan_name(std::int32_t plan) const { return grt_world_plan_name(world_, plan); }
  const char* prompt_name(std::int32_t prompt) const { return grt_world_prompt_name(world_, prompt); }

  Status find_action(const char* name, std::int32_t& action) const {
    return check([&](grt_error* error) { return grt_world_find_action(world_, name, &action, error); });
  }
  /* nullptr: "default". */
  Status get_plan(const char* name, grt_plan& plan) const {
    return check([&](grt_error* error) { return grt_world_get_plan(world_, name, &plan, error); });
  }
  Status get_prompt(std::int32_t prompt, Into picture) const {
    return check(
        [&](grt_error* error) { return grt_world_get_prompt(world_, prompt, picture.get(), error); });
  }
  Status save_size(std::size_t& size) const {
    return check([&](grt_error* error) { return grt_world_save_size(world_, &size, error); });
  }

  /* Pictures of the right size: for frames, and to start from. */
  Picture make_frame(grt_format format = GRT_FORMAT_RGBA8) const {
    const WorldInfo made = info();
    return Picture(made.frame_width, made.frame_height, format);
  }
  Picture make_prompt(grt_format format = GRT_FORMAT_RGBA8) const {
    const WorldInfo made = info();
    return Picture(made.prompt_width, made.prompt_height, format);
  }

  grt_world* get() const { return world_; }
  explicit operator bool() const { return world_ != nullptr; }

 private:
  template <typename Make>
  Status replace(Make make) {
    grt_world* made = nullptr;
    const Status status = check([&](grt_error* error) { return make(&made, error); });
    if (status) grt_world_free(std::exchange(world_, made));
    return status;
  }

  grt_world* world_ = nullptr;
};

/* What a bundle says of itself, before it is loaded. */
inline Status inspect(const char* folder, WorldInfo& info) {
  return check([&](grt_error* error) { return grt_bundle_inspect(folder, &info, error); });
}

/* ---- Sessions --------------------------------------------------------------------------------------------
 */

class Snapshot {
 public:
  Snapshot() = default;
  Snapshot(Snapshot&& other) noexcept : snapshot_(std::exchange(other.snapshot_, nullptr)) {}
  Snapshot& operator=(Snapshot&& other) noexcept {
    std::swap(snapshot_, other.snapshot_);
    return *this;
  }
  ~Snapshot() { grt_snapshot_free(snapshot_); }

  grt_snapshot* get() const { return snapshot_; }
  explicit operator bool() const { return snapshot_ != nullptr; }

 private:
  friend class Session;
  grt_snapshot* snapshot_ = nullptr;
};

class Session {
 public:
  Session() = default;
#if !defined(GRT_NO_EXCEPTIONS)
  explicit Session(const World& world, const grt_session_params& params = SessionParams()) {
    create(world, params);
  }
#endif
  Session(Session&& other) noexcept : session_(std::exchange(other.session_, nullptr)) {}
  Session& operator=(Session&& other) noexcept {
    std::swap(session_, other.session_);
    return *this;
  }
  ~Session() { grt_session_free(session_); }

  /* In place of the session that this was, which is kept if the call fails. */
  Status create(const World& world, const grt_session_params& params = SessionParams()) {
    return replace([&](grt_session** session, grt_error* error) {
      return grt_session_create(world.get(), &params, session, error);
    });
  }

  Status reset_prompt(std::int32_t prompt, std::uint64_t seed, Into frame = {}) {
    return check([&](grt_error* error) {
      return grt_session_reset_prompt(session_, prompt, seed, frame.get(), error);
    });
  }
  Status reset(const grt_image& picture, std::uint64_t seed, Into frame = {}) {
    return check([&](grt_error* error) {
      return grt_session_reset(session_, &picture, 1, nullptr, seed, frame.get(), error);
    });
  }
  /* Pictures that follow each other, oldest first, and the actions between them: one fewer. */
  Status reset(const std::vector<grt_image>& pictures, const std::vector<std::int32_t>& actions,
               std::uint64_t seed, Into frame = {}) {
    return check([&](grt_error* error) {
      /* Actions that are too few are none, which the call refuses where it needs some. */
      const bool enough = actions.size() + 1 >= pictures.size();
      return grt_session_reset(session_, pictures.data(), pictures.size(), enough ? actions.data() : nullptr,
                               seed, frame.get(), error);
    });
  }

  Status step(std::int32_t action, Into frame = {}, grt_step_stats* stats = nullptr) {
    return check(
        [&](grt_error* error) { return grt_session_step(session_, action, frame.get(), stats, error); });
  }
  Status commit() {
    return check([&](grt_error* error) { return grt_session_commit(session_, error); });
  }
  /* `frames` is empty or has one for each action. */
  Status peek(const std::vector<std::int32_t>& actions, std::vector<Picture>& frames) {
    std::vector<grt_image> images;
    for (Picture& frame : frames) images.push_back(frame.image());
    images.resize(frames.empty() ? 0 : actions.size());
    return check([&](grt_error* error) {
      return grt_session_peek(session_, actions.data(), actions.size(),
                              images.empty() ? nullptr : images.data(), error);
    });
  }

  Status submit(std::int32_t action) {
    return check([&](grt_error* error) { return grt_session_submit(session_, action, error); });
  }
  /* Waits at most timeout_ms; negative: as long as it takes. */
  Status poll(double timeout_ms, bool& done, Into frame = {}, grt_step_stats* stats = nullptr) {
    std::int32_t is_done = done;
    const Status status = check([&](grt_error* error) {
      return grt_session_poll(session_, timeout_ms, &is_done, frame.get(), stats, error);
    });
    done = is_done != 0;
    return status;
  }
  Status cancel() {
    return check([&](grt_error* error) { return grt_session_cancel(session_, error); });
  }

  Status set_plan(const grt_plan& plan) {
    return check([&](grt_error* error) { return grt_session_set_plan(session_, &plan, error); });
  }
  Status get_plan(grt_plan& plan) const {
    return check([&](grt_error* error) { return grt_session_get_plan(session_, &plan, error); });
  }
  Status set_deadline(double target_ms, std::int32_t least_passes = 1) {
    return check(
        [&](grt_error* error) { return grt_session_set_deadline(session_, target_ms, least_passes, error); });
  }
  Status get_frame(Into frame) const {
    return check([&](grt_error* error) { return grt_session_get_frame(session_, frame.get(), error); });
  }

  /* In place of what the snapshot was, which is kept if the call fails. */
  Status snapshot(Snapshot& snapshot) const {
    grt_snapshot* made = nullptr;
    const Status status =
        check([&](grt_error* error) { return grt_session_snapshot(session_, &made, error); });
    if (status) grt_snapshot_free(std::exchange(snapshot.snapshot_, made));
    return status;
  }
  Status restore(const Snapshot& snapshot) {
    return check([&](grt_error* error) { return grt_session_restore(session_, snapshot.get(), error); });
  }
  Status fork(Session& fork) const {
    return fork.replace(
        [&](grt_session** session, grt_error* error) { return grt_session_fork(session_, session, error); });
  }

  /* World::save_size bytes always suffice. */
  Status save(void* buffer, std::size_t size, std::size_t& written) const {
    return check([&](grt_error* error) { return grt_session_save(session_, buffer, size, &written, error); });
  }
  Status load(const void* buffer, std::size_t size) {
    return check([&](grt_error* error) { return grt_session_load(session_, buffer, size, error); });
  }

  Status get_state(SessionState& state) const {
    return check([&](grt_error* error) { return grt_session_get_state(session_, &state, error); });
  }
  SessionState state() const {
    SessionState made;
    static_cast<void>(get_state(made));
    return made;
  }

  grt_session* get() const { return session_; }
  explicit operator bool() const { return session_ != nullptr; }

 private:
  template <typename Make>
  Status replace(Make make) {
    grt_session* made = nullptr;
    const Status status = check([&](grt_error* error) { return make(&made, error); });
    if (status) grt_session_free(std::exchange(session_, made));
    return status;
  }

  grt_session* session_ = nullptr;
};

}  // inline namespace
}  // namespace genie_rt

#undef GRT_MUST_USE

#endif /* GENIE_RT_HPP */
