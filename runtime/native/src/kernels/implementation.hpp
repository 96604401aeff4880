// The table of kernels of one instruction set. Each kernels_*.cpp includes this once.
#pragma once

#include "kernels/ends.hpp"
#include "kernels/float_environment.hpp"

namespace grt::GRT_ISA {

template <bool kFused>
struct Table {
  static void begin(const Work& work, int32_t task) {
    const FloatEnvironment environment;
    each_tile(work, task, [&](const Tile& tile) { begin_layer<kFused>(work, tile, 0, work.scratch[task]); });
  }

  static void layer(const Work& work, int32_t task, int32_t layer) {
    const FloatEnvironment environment;
    Scratch& scratch = work.scratch[task];
    const Transformer& t = *work.transformer;
    each_tile(work, task, [&](const Tile& tile) {
      end_layer<kFused>(work, tile, layer, scratch);
      if (layer + 1 < t.num_layers) begin_layer<kFused>(work, tile, layer + 1, scratch);
      else last_norm(tile.without_commits(), t, scratch);
    });
  }

  static void embed(const Work& work, int32_t task, int32_t frame, const EmbedWork& with) {
    const FloatEnvironment environment;
    GRT_ISA::embed(work, task, frame, with);
  }
  static void embed_decoder(const Work& work, int32_t task, const DecoderEnds& ends, const int32_t* tokens) {
    const FloatEnvironment environment;
    GRT_ISA::embed_decoder(work, task, ends, tokens);
  }
  static void embed_encoder(const Work& work, int32_t task, const EncoderEnds& ends, const uint8_t* picture) {
    const FloatEnvironment environment;
    GRT_ISA::embed_encoder(work, task, ends, picture);
  }
  static void sample(const Work& work, int32_t task, int32_t frame, const SampleWork& with) {
    const FloatEnvironment environment;
    GRT_ISA::sample<kFused>(work, task, frame, with);
  }
  static void paint(const Work& work, int32_t task, const DecoderEnds& ends, uint8_t* picture) {
    const FloatEnvironment environment;
    GRT_ISA::paint(work, task, ends, picture);
  }
  static void multiply(const Linear& linear, const float* x, int32_t count, float* y) {
    const FloatEnvironment environment;
    const size_t stride = size_t(linear.out);
    apply<kFused>(linear, {x, size_t(linear.in)}, count,
                  [=](int row, int column, F value) { store(y + row * stride + column, value); });
  }
  static void quantise(const Work& work, int32_t task, const EncoderEnds& ends, int32_t* tokens) {
    const FloatEnvironment environment;
    GRT_ISA::quantise(work, task, ends, tokens);
  }

  static constexpr Kernels kKernels{embed,  embed_decoder, embed_encoder, begin,   layer,
                                    sample, paint,         multiply,      quantise};
};

}  // namespace grt::GRT_ISA

namespace grt {

#define GRT_JOIN_(a, b) a##b
#define GRT_JOIN(a, b) GRT_JOIN_(a, b)

// One source for each set of instructions includes this.
const Kernels* GRT_JOIN(kernels_, GRT_ISA)(bool int8) {  // NOLINT(misc-definitions-in-headers)
  return int8 ? &GRT_ISA::Table<false>::kKernels : &GRT_ISA::Table<true>::kKernels;
}

}  // namespace grt
