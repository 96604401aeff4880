#include "engine/native_workspace.hpp"

#include <algorithm>

#include "kernels/integer_range.hpp"

namespace grt {
namespace {

// The most bytes of a quantised number in any instruction set.
constexpr uint64_t kQuantisedBytes = 2;

int32_t widest_input(const Transformer& t) { return std::max(t.padded_width, t.attention); }

}  // namespace

bool NativeWorkspace::create(const PackedModel& model, int32_t width, Error& error) {
  const Transformer* all[] = {&model.encoder, &model.decoder, &model.dynamics};
  const DynamicsEnds& ends = model.dynamics_ends;
  uint64_t x = 0, queries = 0, keys = 0, values = 0, past = 1, query_steps = 0, key_steps = 0;
  uint64_t inputs = uint64_t(model.encoder_ends.patch_in.in), outputs = 0, hidden = 0, attended = 0,
           scores = 0;
  for (const Transformer* t : all) {
    // Only the dynamics keeps spatial keys and values of all layers, for plans with reuse.
    const auto sets = uint64_t(t == &model.dynamics ? std::max(t->num_layers, 2) : 2);
    x = std::max(x, uint64_t(t->positions) * t->padded_width);
    queries = std::max(queries, uint64_t(t->positions) * t->attention);
    keys = std::max(keys, sets * t->attention * t->padded_positions());
    values = std::max(values, sets * t->attention * t->padded_positions());
    query_steps = std::max(query_steps, uint64_t(t->positions) * t->num_heads);
    key_steps = std::max(key_steps, sets * t->num_heads * t->padded_positions());
    past = std::max(past, uint64_t(t->window));
    inputs = std::max(inputs, uint64_t(widest_input(*t)));
    outputs = std::max(outputs, uint64_t(3) * t->attention);
    hidden = std::max(hidden, uint64_t(t->mlp));
    attended = std::max(attended, uint64_t(t->attention));
    uint64_t slots = 1;
    while (slots < uint64_t(t->window)) slots *= 2;
    scores = std::max({scores, uint64_t(t->padded_positions()) * 12, uint64_t(t->num_heads) * slots + 16});
  }
  outputs = std::max({outputs, uint64_t(ends.token_out.out), uint64_t(model.decoder_ends.patch_out.out),
                      uint64_t(model.encoder_ends.code_in.out)});
  scores = std::max({scores, uint64_t(ends.head.out) * 8, uint64_t(model.encoder_ends.codes.out)});
  inputs = std::max({inputs, uint64_t(ends.embedding), uint64_t(16 * kMostHeadWidth) / kTileRows});

  for (FrameBuffers& frame : frames) {
    frame.x = arena.array<float>(x, error);
    frame.queries = arena.array<float>(queries, error);
    frame.keys = arena.array<float>(keys, error);
    frame.values = arena.array<float>(values, error);
    frame.query_steps = arena.array<float>(query_steps, error);
    frame.key_steps = arena.array<float>(key_steps, error);
    frame.value_steps = arena.array<float>(key_steps, error);
    frame.past = arena.array<const float*>(past, error);
    if (frame.past == nullptr) return false;
  }
  scratch = arena.array<Scratch>(uint64_t(width), error);
  if (scratch == nullptr) return false;
  for (int32_t i = 0; i < width; i++) {
    Scratch& own = scratch[i];
    own.quantised = arena.array<uint8_t>(kTileRows * inputs * kQuantisedBytes, error);
    own.quantised2 = arena.array<uint8_t>(kTileRows * hidden * kQuantisedBytes, error);
    own.steps = arena.array<float>(kTileRows, error);
    own.normed = arena.array<float>(kTileRows * inputs, error);
    own.projected = arena.array<float>(kTileRows * outputs, error);
    own.attended = arena.array<float>(kTileRows * attended, error);
    own.hidden = arena.array<float>(kTileRows * hidden, error);
    own.ages = arena.array<const float*>(2 * past, error);
    own.scores = arena.array<float>(scores, error);
    if (own.scores == nullptr) return false;
  }
  const auto num_tokens = uint64_t(ends.num_tokens), positions = uint64_t(model.dynamics.positions);
  for (int32_t** list : {&tokens, &sampled, &candidates, &places, &sorted, &order}) {
    *list = arena.array<int32_t>(num_tokens, error);
  }
  index = arena.array<int32_t>(positions, error);
  sort_keys = arena.array<uint64_t>(num_tokens, error);
  for (float** list : {&probability, &u, &confidence}) *list = arena.array<float>(num_tokens, error);
  change = arena.array<float>(positions, error);
  encoder_pages = arena.array<float>(uint64_t(model.encoder.window) * model.encoder.page_floats(), error);
  picture = arena.array<uint8_t>(
      uint64_t{3} * uint64_t(model.decoder_ends.frame_height) * uint64_t(model.decoder_ends.frame_width),
      error);
  new_dynamics = arena.array<Page*>(uint64_t(model.dynamics.window), error);
  new_decoder = arena.array<Page*>(uint64_t(model.decoder.window), error);
  return error.status == GRT_OK;
}

}  // namespace grt
