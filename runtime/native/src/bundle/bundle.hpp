// A bundle, opened and checked: bundle.json, the weights and the pictures. Nothing in it is trusted.
#pragma once

#include "bundle/config.hpp"
#include "support/memory.hpp"

namespace grt {

// A tensor of weights.safetensors, in the file's bytes: little-endian F32, or BF16, the upper half of one.
struct Tensor {
  const char* name = nullptr;
  const uint8_t* data = nullptr;
  bool is_bf16 = false;
  int32_t rank = 0;
  int64_t shape[8] = {};

  int64_t count() const {
    int64_t product = 1;
    for (int32_t i = 0; i < rank; i++) product *= shape[i];
    return product;
  }
};

struct NamedPlan {
  char name[65] = {};
  Plan plan;
};

// An int8 scale of the bundle: the largest magnitude of a linear's input, as export calibrated it.
struct Int8Limit {
  char linear[96] = {};
  float amax = 0;
};

struct NamedAction {
  char name[257] = {};  // up to 64 characters, in UTF-8
  int32_t code = 0;     // the action of the dynamics
};

struct Prompt {
  char name[80] = {};  // within the bundle, "prompts/000.png"
};

// A file that bundle.json lists.
struct FileRecord {
  char name[80] = {};  // within the bundle
  uint8_t sha256[32] = {};
  uint64_t size = 0;
};

// What bundle.json says. Every value is in range, and every name is of the kind that Python accepts.
struct Manifest {
  char name[65] = {};
  ModelConfig config;
  Buffer<NamedAction> actions;
  int32_t default_action = 0;
  Buffer<NamedPlan> plans;        // "default" is among them
  Buffer<Prompt> prompts;         // sorted
  Buffer<FileRecord> files;       // sorted by name: all but bundle.json
  Buffer<Int8Limit> int8_limits;  // sorted; empty: the bundle does not say how to play it in int8
  uint8_t digest[32] = {};        // sha256 of bundle.json: the bundle's identity

  // The record of a file, null if it is not listed.
  const FileRecord* find_file(const char* name) const;
};

// Who is told how far loading is: `done` of `total` bytes of weights and pictures.
struct Progress {
  grt_progress call = nullptr;
  void* user = nullptr;
};

// The files of a bundle: a folder, or memory that the caller keeps (support/file.hpp).
class Files;

class Bundle {
 public:
  // Reads and checks all that native play needs: bundle.json, and sizes and hashes of the weights and
  // pictures. The other files (graphs, model card) are checked to be there with their size only; those that
  // are in memory may be without them. On failure `bundle` is as it was.
  [[nodiscard]] static bool open(const Files& files, const Allocator& allocator, Bundle& bundle, Error& error,
                                 const Progress& progress = {});

  Manifest manifest;
  Buffer<Tensor> tensors;    // sorted by name; exactly those that the config implies, of the right shapes
  Buffer<uint8_t> pictures;  // [num_prompts, height, width, 3] RGB

  // The tensor of that name, which has to be there (an unknown name is a fault of ours: null).
  const Tensor* find(const char* name) const;

  // The limit of a linear's input, such as "dynamics.transformer.blocks.0.up"; 0: it stays in float.
  float int8_limit(const char* linear) const;

  // Lets go of the file's bytes: `tensors` must not be read any more.
  void drop_weights();

  // Hands over the file's bytes, which stay where they are: `tensors` may be read as long as they live.
  Buffer<uint8_t> take_weights() { return std::move(weights_); }

 private:
  Buffer<uint8_t> weights_;
  Buffer<char> names_;
};

// bundle.json alone. On failure `manifest` is as it was.
[[nodiscard]] bool read_manifest(const Files& files, const Allocator& allocator, Manifest& manifest,
                                 Error& error);

// The same from its bytes; `file` is what messages call it. For n bytes it takes at most 16 n + 2 MiB of
// memory.
[[nodiscard]] bool parse_manifest(const uint8_t* data, size_t size, const char* file,
                                  const Allocator& allocator, Manifest& manifest, Error& error);

}  // namespace grt
