// Makes the weights of a bundle ready for the kernels: widened, padded, rounded to int8, cut into panels.
#pragma once

#include "bundle/bundle.hpp"
#include "kernels/kernels.hpp"
#include "support/arena.hpp"

namespace grt {

// A model as the kernels read it. Everything it points to lives in `arena`.
struct PackedModel {
  explicit PackedModel(const Allocator& allocator) : arena(allocator) {}

  Arena arena;
  Transformer encoder, decoder, dynamics;
  EncoderEnds encoder_ends;
  DecoderEnds decoder_ends;
  DynamicsEnds dynamics_ends;
};

// Packs all of it; with `int8` those linears in int8 that the bundle has limits of.
[[nodiscard]] bool pack(const Bundle& bundle, bool int8, const Kernels& kernels, const Allocator& allocator,
                        PackedModel& model, Error& error);

}  // namespace grt
