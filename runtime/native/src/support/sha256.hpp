// SHA-256 (FIPS 180-4), by the processor's own instructions where it has them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace grt {

class Sha256 {
 public:
  static constexpr size_t kBytes = 32;

  // `plain` keeps to plain C++, for tests.
  explicit Sha256(bool plain = false);

  void update(const void* data, size_t size);

  // Ends the message; the object is not used again.
  void finish(uint8_t (&digest)[kBytes]);

 private:
  using Compress = void (*)(uint32_t (&state)[8], const uint8_t* blocks, size_t num_blocks);

  Compress compress_;
  uint32_t state_[8];
  uint64_t size_ = 0;
  uint8_t block_[64];
};

// Sixty-four digits and NUL.
struct Hex {
  char text[2 * Sha256::kBytes + 1];
};
Hex to_hex(const uint8_t (&digest)[Sha256::kBytes]);

// The reverse, of 64 digits of 0-9 a-f.
bool from_hex(const char* digits, size_t size, uint8_t (&digest)[Sha256::kBytes]);

}  // namespace grt
