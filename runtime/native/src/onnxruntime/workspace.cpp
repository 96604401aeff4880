#include "onnxruntime/workspace.hpp"

#include <algorithm>

namespace grt {

bool OrtWorkspace::create(const WorkspaceSizes& sizes, Error& error) {
  const ModelConfig& config = sizes.config;
  const TokenizerConfig& tokenizer = config.tokenizer;
  const TransformerConfig& transformer = config.dynamics.transformer;
  const auto num_tokens = static_cast<uint64_t>(tokenizer.num_tokens());
  const auto positions = static_cast<uint64_t>(config.num_positions());
  const auto window = static_cast<uint64_t>(transformer.window);
  const auto encoder_window = static_cast<uint64_t>(tokenizer.encoder.window);
  const auto decoder_window = static_cast<uint64_t>(tokenizer.decoder.window);
  const uint64_t drawn = static_cast<uint64_t>(sizes.most_passes) * num_tokens;
  const PageLayout encoder(tokenizer.encoder, tokenizer.num_tokens());

  inputs = arena.array<OrtValue*>(sizes.most_inputs, error);
  for (int64_t** list : {&wide_tokens, &wide_previous, &wide_candidates, &wide_order})
    *list = arena.array<int64_t>(num_tokens, error);
  for (int32_t** list : {&tokens, &candidates, &places, &sorted, &order})
    *list = arena.array<int32_t>(num_tokens, error);
  for (float** list : {&sampled, &confidence, &probability}) *list = arena.array<float>(num_tokens, error);
  for (float** list : {&u, &gumbel}) *list = arena.array<float>(drawn, error);
  wide_index = arena.array<int64_t>(positions, error);
  index = arena.array<int32_t>(positions, error);
  sort_keys = arena.array<uint64_t>(num_tokens, error);
  change = arena.array<float>(positions, error);
  picture = arena.array<uint8_t>(uint64_t{3} * static_cast<uint64_t>(tokenizer.frame_height()) *
                                     static_cast<uint64_t>(tokenizer.frame_width()),
                                 error);
  past = arena.array<const float*>(window, error);
  own_past = arena.array<const float*>(std::max({window, encoder_window, decoder_window}), error);
  new_dynamics = arena.array<Page*>(window, error);
  new_decoder = arena.array<Page*>(decoder_window, error);
  encoder_pages = arena.array<float>(encoder_window * encoder.packed_floats(), error);
  for (float*& page : around) page = arena.array<float>(sizes.dynamics.floats(), error);
  if (!sizes.dynamics.is_direct()) {
    past_copies = arena.array<float>((window - 1) * sizes.dynamics.floats(), error);
    page_copy = arena.array<float>(sizes.dynamics.floats(), error);
  }
  if (!sizes.decoder.is_direct()) {
    decoder_copies = arena.array<float>((decoder_window - 1) * sizes.decoder.floats(), error);
    decoder_copy = arena.array<float>(sizes.decoder.floats(), error);
  }
  return error.status == GRT_OK;
}

}  // namespace grt
