// The header of a safetensors file, read as Python's runtime/stored_weights.py reads it: F32 and BF16 alone,
// every byte of the file once, no rest.
#pragma once

#include "support/json.hpp"

namespace grt {

struct StoredTensor {
  Text name;
  bool is_bf16 = false;
  int32_t rank = 0;
  int64_t shape[8] = {};
  uint64_t offset = 0, length = 0;  // bytes, from the start of the file
};

class StoredTensors {
 public:
  static constexpr size_t kMaxHeaderBytes = 4u << 20;

  // Reads the header of a file that begins with `head` and has `file_bytes`. `head` has to hold the whole
  // header; it may be the whole file. A header of n bytes takes at most 14 n + 512 bytes of memory. Names
  // live as long as this object. On failure `error` has the status GRT_ERROR_BUNDLE and as its message what
  // was found; or it is out of memory.
  [[nodiscard]] bool parse(const uint8_t* head, size_t head_bytes, uint64_t file_bytes,
                           const Allocator& allocator, Error& error);

  Buffer<StoredTensor> tensors;  // in the order of the file

 private:
  JsonDocument json_;
};

// Numbers of a tensor's bytes that are NaN or infinite.
size_t count_not_finite(const uint8_t* data, size_t bytes, bool is_bf16);

}  // namespace grt
