// What stands before and behind the transformers: tokens and pictures in, samples, pictures and tokens out.
// docs/model.md, sections 3, 4 and 7.
#pragma once

#include "kernels/block.hpp"

namespace grt::GRT_ISA {

GRT_INLINE void copy_sum(float* x, const float* a, const float* b, int width) {
  for (int i = 0; i < width; i += 16) store(x + i, add(load(a + i), load(b + i)));
}
GRT_INLINE void add_row(float* x, const float* a, int width) {
  for (int i = 0; i < width; i += 16) store(x + i, add(load(x + i), load(a + i)));
}

// Calls `use(row)` for the rows of one frame that a task computes.
template <typename Use>
inline void each_row(const Work& work, int32_t task, int32_t frame, Use use) {
  const int32_t rows = work.frames[frame].rows, end = first_row(rows, task + 1, work.num_tasks);
  for (int32_t row = first_row(rows, task, work.num_tasks); row < end; row++) use(row);
}

inline void embed(const Work& work, int32_t task, int32_t frame, const EmbedWork& embed) {
  const DynamicsEnds& ends = *embed.ends;
  const int width = work.transformer->padded_width;
  const size_t codes = size_t(ends.codebook_size);
  each_row(work, task, frame, [&](int32_t row) {
    const int32_t position = work.frames[frame].position(row);
    float* x = work.frames[frame].x + size_t(row) * width;
    copy_sum(x, ends.position + size_t(position) * width, ends.action + size_t(embed.action) * width, width);
    for (int32_t slot = 0; slot < ends.slots; slot++) {
      const int32_t place = ends.members[position * ends.slots + slot];
      const int32_t token = embed.tokens[place];
      const size_t index = token < 0 ? codes : size_t(token);
      add_row(x, ends.token_rows + (slot * (codes + 1) + index) * width, width);
      const int32_t last = embed.previous[place];
      if (token < 0 && last >= 0 && ends.previous_rows != nullptr) {
        add_row(x, ends.previous_rows + (slot * codes + size_t(last)) * width, width);
      }
    }
  });
}

inline void embed_decoder(const Work& work, int32_t task, const DecoderEnds& ends, const int32_t* tokens) {
  const int width = work.transformer->padded_width;
  each_row(work, task, 0, [&](int32_t row) {
    copy_sum(work.frames[0].x + size_t(row) * width, ends.token_rows + size_t(tokens[row]) * width,
             ends.position + size_t(row) * width, width);
  });
}

// Calls `use(tile, rows)` for the rows of one frame, tile by tile, with the transformer's output of each.
template <typename Use>
inline void each_output(const Work& work, int32_t task, int32_t frame, Use use) {
  const int32_t rows = work.frames[frame].rows, width = work.transformer->padded_width;
  const int32_t end = first_row(rows, task + 1, work.num_tasks);
  for (int32_t row = first_row(rows, task, work.num_tasks); row < end; row += kTileRows) {
    const int32_t count = end - row < kTileRows ? end - row : kTileRows;
    use(row, count, work.frames[frame].x + size_t(row) * width);
  }
}

inline void embed_encoder(const Work& work, int32_t task, const EncoderEnds& ends, const uint8_t* picture) {
  Scratch& scratch = work.scratch[task];
  const int width = work.transformer->padded_width, patch = ends.patch, depth = ends.patch_in.in;
  each_output(work, task, 0, [&](int32_t first, int32_t count, float* x) {
    for (int32_t i = 0; i < count; i++) {
      const int32_t row = (first + i) / ends.columns * patch, column = (first + i) % ends.columns * patch;
      float* to = scratch.normed + size_t(i) * depth;
      for (int32_t j = 0; j < depth; j++) to[j] = 0;
      for (int32_t r = 0; r < patch; r++)
        for (int32_t c = 0; c < patch; c++) {
          const int32_t at_row = row + r < ends.height ? row + r : ends.height - 1;
          const int32_t at_column = column + c < ends.width ? column + c : ends.width - 1;
          const uint8_t* pixel = picture + (size_t(at_row) * ends.width + at_column) * 3;
          for (int32_t channel = 0; channel < 3; channel++) {
            to[(r * patch + c) * 3 + channel] = static_cast<float>(pixel[channel]) / 127.5F - 1.0F;
          }
        }
    }
    apply<false>(ends.patch_in, {scratch.normed, size_t(depth)}, count, [&](int row, int column, F value) {
      const F position = load(ends.position + size_t(first + row) * width + column);
      store(x + size_t(row) * width + column, add(value, position));
    });
  });
}

inline void quantise(const Work& work, int32_t task, const EncoderEnds& ends, int32_t* tokens) {
  Scratch& scratch = work.scratch[task];
  const int width = work.transformer->padded_width, dim = ends.code_in.out;
  each_output(work, task, 0, [&](int32_t first, int32_t count, const float* x) {
    float* vectors = scratch.projected;
    apply<false>(ends.code_in, {x, size_t(width)}, count,
                 [=](int row, int column, F value) { store(vectors + size_t(row) * dim + column, value); });
    for (int32_t row = 0; row < count; row++) {
      float* scores = scratch.scores;
      apply<false>(ends.codes, {vectors + size_t(row) * dim, size_t(dim)}, 1,
                   [=](int, int column, F value) { store(scores + column, value); });
      int32_t best = 0;
      for (int32_t v = 1; v < ends.codebook_size; v++) best = scores[v] > scores[best] ? v : best;
      tokens[first + row] = best;
    }
  });
}

// The token that `u` falls on, and its probability, of logits that are overwritten.
GRT_STAGE int32_t draw(float* logits, int32_t codes, float inverse_temperature, float u, float* probability,
                       bool* bad) {
  constexpr int32_t kBlock = 64;
  const int32_t padded = (codes + 15) / 16 * 16;
  for (int32_t v = codes; v < padded; v++) logits[v] = logits[0];
  F most = load(logits);
  for (int32_t v = 16; v < padded; v += 16) most = max(most, load(logits + v));
  const F shift = set(largest(most)), by = set(inverse_temperature);
  for (int32_t v = 0; v < padded; v += 16) {
    store(logits + v, exp_negative(mul(sub(load(logits + v), shift), by)));
  }
  for (int32_t v = codes; v < padded; v++) logits[v] = 0;
  // Sums of blocks first; the block that u falls into is then added number by number.
  float total = 0;
  for (int32_t block = 0; block < padded; block += kBlock) {
    F part = load(logits + block);
    for (int32_t v = block + 16; v < padded && v < block + kBlock; v += 16)
      part = add(part, load(logits + v));
    total += sum(part);
  }
  if (!(total >= 0.5F && total <= static_cast<float>(padded))) *bad = true;
  const float target = u * total;
  float below = 0;
  int32_t block = 0;
  for (; block + kBlock < padded; block += kBlock) {
    F part = load(logits + block);
    for (int32_t v = block + 16; v < block + kBlock; v += 16) part = add(part, load(logits + v));
    const float next = below + sum(part);
    if (next > target) break;
    below = next;
  }
  int32_t token = codes - 1;
  for (int32_t v = block; v < codes; v++) {
    below += logits[v];
    if (below > target) {
      token = v;
      break;
    }
  }
  *probability = logits[token] / total;
  return token;
}

template <bool kFused>
inline void sample(const Work& work, int32_t task, int32_t frame, const SampleWork& sample) {
  Scratch& scratch = work.scratch[task];
  const DynamicsEnds& ends = *sample.ends;
  const FrameWork& from = work.frames[frame];
  const int32_t width = work.transformer->padded_width, dim = ends.embedding, outs = ends.token_out.out;
  const int32_t padded = ends.head.out, codes = ends.codebook_size;
  each_output(work, task, frame, [&](int32_t first, int32_t count, const float* x) {
    float* vectors = scratch.projected;  // [count, S E + copy terms]
    const Inputs inputs = inputs_of(ends.token_out, x, count, width, scratch.quantised, scratch.steps);
    apply<kFused>(ends.token_out, inputs, count,
                  [=](int row, int column, F value) { store(vectors + size_t(row) * outs + column, value); });
    // The tokens to sample, kRows at a time.
    int32_t places[kRows];
    float copies[kRows];
    float* gathered = scratch.normed;
    int32_t waiting = 0;
    const auto flush = [&] {
      float* logits = scratch.scores;
      const Inputs tokens = inputs_of(ends.head, gathered, waiting, dim, scratch.quantised, scratch.steps);
      apply<kFused>(ends.head, tokens, waiting, [=](int row, int column, F value) {
        store(logits + size_t(row) * padded + column, value);
      });
      for (int32_t i = 0; i < waiting; i++) {
        float* own = logits + size_t(i) * padded;
        const int32_t place = places[i], last = sample.previous[place];
        if (ends.copies && last >= 0) own[last] += copies[i];
        if (sample.logits != nullptr) {
          std::memcpy(sample.logits + size_t(place) * codes, own, size_t(codes) * sizeof(float));
        }
        sample.candidates[place] = draw(own, codes, sample.inverse_temperature, sample.u[place],
                                        &sample.probability[place], &scratch.bad);
      }
      waiting = 0;
    };
    for (int32_t row = 0; row < count; row++) {
      const int32_t position = from.position(first + row);
      const float* own = vectors + size_t(row) * outs;
      for (int32_t slot = 0; slot < ends.slots; slot++) {
        const int32_t place = ends.members[position * ends.slots + slot];
        if (sample.tokens[place] >= 0 && sample.logits == nullptr) continue;
        std::memcpy(gathered + size_t(waiting) * dim, own + size_t(slot) * dim, size_t(dim) * sizeof(float));
        copies[waiting] = ends.copies ? own[ends.slots * dim + slot] + ends.copy_logit : 0;
        places[waiting++] = place;
        if (waiting == kRows) flush();
      }
    }
    if (waiting > 0) flush();
  });
}

inline void paint(const Work& work, int32_t task, const DecoderEnds& ends, uint8_t* picture) {
  Scratch& scratch = work.scratch[task];
  const int32_t width = work.transformer->padded_width, outs = ends.patch_out.out, patch = ends.patch;
  each_output(work, task, 0, [&](int32_t first, int32_t count, const float* x) {
    float* y = scratch.projected;
    const Inputs inputs = inputs_of(ends.patch_out, x, count, width, scratch.quantised, scratch.steps);
    apply<false>(ends.patch_out, inputs, count, [=](int row, int column, F value) {
      const F level = round(min(max(mul(add(value, set(1.0F)), set(127.5F)), set(0.0F)), set(255.0F)));
      store(y + size_t(row) * outs + column, level);
    });
    for (int32_t i = 0; i < count; i++) {
      const int32_t row = (first + i) / ends.columns * patch, column = (first + i) % ends.columns * patch;
      const float* own = y + size_t(i) * outs;
      for (int32_t r = 0; r < patch && row + r < ends.frame_height; r++) {
        uint8_t* to = picture + (size_t(row + r) * ends.frame_width + column) * 3;
        const int32_t columns = ends.frame_width - column < patch ? ends.frame_width - column : patch;
        for (int32_t j = 0; j < columns * 3; j++) to[j] = static_cast<uint8_t>(own[r * patch * 3 + j]);
      }
    }
  });
}

}  // namespace grt::GRT_ISA
