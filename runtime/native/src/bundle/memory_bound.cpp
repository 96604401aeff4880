#include "bundle/memory_bound.hpp"

#include <algorithm>

namespace grt {

namespace {

// What any bundle may take besides its weights, and for each byte of its weights.
constexpr double kFreeBytes = 512.0 * (1 << 20), kBytesPerWeightByte = 16;
constexpr int32_t kChunkPages = 16;

struct Part {
  char name[64];
  double bytes;  // exact up to 2^53, and what is more is far too much
};

double pages_bytes(const TransformerConfig& config, double positions) {
  const int32_t chunks = (config.window + kChunkPages) / kChunkPages;
  const double pages = kChunkPages * chunks + 1;
  return 4 * pages * 2 * config.num_layers * positions * config.attention_width();
}

double attention_bytes(const TransformerConfig& config, double positions) {
  const double past = 4.0 * config.window * config.attention_width();
  const double widths = 4.0 * config.width + 8.0 * config.attention_width() + 3.0 * config.mlp_width + past;
  return 4 * positions * (2 * config.num_heads * positions + widths);
}

struct Amount {
  char text[40];
};

// "1,234 MiB"
Amount mebibytes(double bytes) {
  Amount amount;
  if (bytes >= 1152921504606846976.0) {  // 2^60
    std::snprintf(amount.text, sizeof amount.text, "more than any machine has");
    return amount;
  }
  char digits[32];
  const int count = std::snprintf(digits, sizeof digits, "%.0f", bytes / (1 << 20));
  int used = 0;
  for (int i = 0; i < count; i++) {
    if (i > 0 && (count - i) % 3 == 0) amount.text[used++] = ',';
    amount.text[used++] = digits[i];
  }
  std::snprintf(amount.text + used, sizeof amount.text - static_cast<size_t>(used), " MiB");
  return amount;
}

}  // namespace

bool check_memory(const ModelConfig& config, uint64_t weight_bytes, const char* file, int32_t passes,
                  Error& error) {
  const TokenizerConfig& tokenizer = config.tokenizer;
  const TransformerConfig &encoder = tokenizer.encoder, &decoder = tokenizer.decoder;
  const TransformerConfig& dynamics = config.dynamics.transformer;
  const double tokens = tokenizer.num_tokens(), positions = config.num_positions();
  const double codes = tokenizer.codebook_size, decoder_patch = tokenizer.decoder_patch;
  const double height = tokenizer.frame_height(), width = tokenizer.frame_width();
  const double picture = std::max(height * width, tokens * decoder_patch * decoder_patch);
  const double vectors = static_cast<double>(tokenizer.codebook_dim) + config.dynamics.embedding_dim;

  Part parts[7];
  std::snprintf(parts[0].name, sizeof parts[0].name, "pictures of %d x %d pixels", tokenizer.height,
                tokenizer.width);
  parts[0].bytes = 16.0 * 3 * tokenizer.height * tokenizer.width;
  std::snprintf(parts[1].name, sizeof parts[1].name, "frames of %.0f x %.0f pixels", height, width);
  parts[1].bytes = 16 * 3 * picture;
  std::snprintf(parts[2].name, sizeof parts[2].name, "scores of %.0f codes for %.0f tokens", codes, tokens);
  parts[2].bytes = 4 * 4 * tokens * codes;
  std::snprintf(parts[3].name, sizeof parts[3].name, "a table of %.0f codes", codes);
  parts[3].bytes = 8 * codes * vectors;
  std::snprintf(parts[4].name, sizeof parts[4].name, "random numbers of %d passes", passes);
  parts[4].bytes = 12 * tokens * passes;
  std::snprintf(parts[5].name, sizeof parts[5].name, "pages of windows up to %d frames",
                std::max({encoder.window, decoder.window, dynamics.window}));
  parts[5].bytes =
      pages_bytes(encoder, tokens) + pages_bytes(decoder, tokens) + pages_bytes(dynamics, positions);
  std::snprintf(parts[6].name, sizeof parts[6].name, "attention among %.0f tokens", tokens);
  parts[6].bytes = std::max({attention_bytes(encoder, tokens), attention_bytes(decoder, tokens),
                             attention_bytes(dynamics, positions)});

  const double limit = kFreeBytes + kBytesPerWeightByte * static_cast<double>(weight_bytes);
  double total = 0;
  const Part* most = &parts[0];
  for (const Part& part : parts) {
    total += part.bytes;
    if (part.bytes > most->bytes) most = &part;
  }
  if (total <= limit) return true;
  return error.fail(
      GRT_ERROR_BUNDLE,
      "%s: expected a model that takes at most %s besides its weights, which is what %llu bytes of "
      "them warrant, found sizes that take about %s: %s alone %s; export it with smaller sizes",
      file, mebibytes(limit).text, static_cast<unsigned long long>(weight_bytes), mebibytes(total).text,
      most->name, mebibytes(most->bytes).text);
}

}  // namespace grt
