// Evaluates a world's model for a row: the native engine, or another one with the same calls.
#pragma once

#include <atomic>

#include "bundle/bundle.hpp"
#include "engine/executor.hpp"
#include "engine/row.hpp"

namespace grt {

// What a frame took; times in milliseconds.
struct FrameStats {
  int32_t passes = 0, tokens = 0;
  double commit_ms = 0, passes_ms = 0, decode_ms = 0;
};

// Scratch memory of one session, made once.
class Workspace {
 public:
  virtual ~Workspace() = default;
};

// Immutable; every call may run in several threads, each with a workspace of its own.
//
// Calls that take `cancelled` look at it between layers, and return GRT_ERROR_CANCELLED. A call that fails
// leaves its row as it was. Rows need claims on the pools' pages as PagePool asks.
class Engine {
 public:
  virtual ~Engine() = default;

  virtual Workspace* make_workspace(const Allocator& allocator, Error& error) const = 0;

  // Makes ready what frames of a plan need, so that no step has to: called for every plan that a session is
  // given. Refuses a plan that this engine cannot play.
  [[nodiscard]] virtual bool prepare(const Plan&, Error&) const { return true; }

  // Whether frames of a plan are the same if `commit` is called before them. Where they are not,
  // grt_session_commit has to leave the row pending.
  virtual bool commits_ahead(const Plan&) const { return true; }

  // Starts a row from pictures [num_pictures, height, width, 3] and the actions (of the dynamics) between
  // them. Leaves it pending, with its picture.
  [[nodiscard]] virtual bool prefill(Workspace& workspace, Executor& executor, Row& row, uint64_t seed,
                                     const uint8_t* pictures, size_t num_pictures, const int32_t* actions,
                                     const std::atomic<bool>* cancelled, Error& error) const = 0;

  // Decodes the next frame, with its picture; commits the last one first, or with the first pass.
  [[nodiscard]] virtual bool frame(Workspace& workspace, Executor& executor, Row& row, int32_t action,
                                   const Plan& plan, FrameStats& stats, const std::atomic<bool>* cancelled,
                                   Error& error) const = 0;

  // Computes the page of the last frame, if it is pending.
  [[nodiscard]] virtual bool commit(Workspace& workspace, Executor& executor, Row& row,
                                    const std::atomic<bool>* cancelled, Error& error) const = 0;

  // Takes given tokens [N] as the next frame. The row is committed first.
  [[nodiscard]] virtual bool force(Workspace& workspace, Executor& executor, Row& row, int32_t action,
                                   const int32_t* tokens, Error& error) const = 0;

  // One whole pass over given tokens, nothing decided. `row` is not pending. logits [N, V] and candidates
  // [N].
  [[nodiscard]] virtual bool probe(Workspace& workspace, Executor& executor, const Row& row, int32_t action,
                                   const int32_t* tokens, int32_t pass, double temperature, float* logits,
                                   int32_t* candidates, Error& error) const = 0;

  // What it computes with, once "auto" is decided.
  virtual grt_instructions instructions() const { return GRT_INSTRUCTIONS_AUTO; }

  virtual size_t weight_bytes() const = 0;
  virtual size_t workspace_bytes() const = 0;
};

// The native engine. Copies what it needs of the bundle.
Engine* make_native_engine(const Bundle& bundle, bool int8, grt_instructions instructions, int32_t width,
                           const Allocator& allocator, Error& error);

}  // namespace grt
