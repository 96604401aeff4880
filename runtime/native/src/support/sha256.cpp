#include "support/sha256.hpp"

#include <bit>
#include <cstring>

#include "support/sha256_kernels.hpp"

namespace grt {

namespace sha256 {

const uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

void compress_plain(uint32_t (&state)[8], const uint8_t* blocks, size_t num_blocks) {
  for (; num_blocks > 0; num_blocks--, blocks += 64) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
      w[i] = uint32_t{blocks[4 * i]} << 24 | uint32_t{blocks[4 * i + 1]} << 16 |
             uint32_t{blocks[4 * i + 2]} << 8 | uint32_t{blocks[4 * i + 3]};
    }
    for (int i = 16; i < 64; i++) {
      const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
      const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
      const uint32_t sum1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const uint32_t first = h + sum1 + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
      const uint32_t sum0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const uint32_t second = sum0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first;
      d = c, c = b, b = a, a = first + second;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

}  // namespace sha256

Sha256::Sha256(bool plain)
    : compress_(plain ? nullptr : sha256::fast_compress()), state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372,
                                                                   0xa54ff53a, 0x510e527f, 0x9b05688c,
                                                                   0x1f83d9ab, 0x5be0cd19} {
  if (compress_ == nullptr) compress_ = sha256::compress_plain;
}

void Sha256::update(const void* data, size_t size) {
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  const size_t begun = size_ % 64;
  size_ += size;
  if (begun > 0) {
    const size_t taken = size < 64 - begun ? size : 64 - begun;
    if (taken > 0) std::memcpy(block_ + begun, bytes, taken);
    if (begun + taken < 64) return;
    compress_(state_, block_, 1);
    bytes += taken;
    size -= taken;
  }
  if (size >= 64) compress_(state_, bytes, size / 64);
  if (size % 64 > 0) std::memcpy(block_, bytes + size / 64 * 64, size % 64);
}

void Sha256::finish(uint8_t (&digest)[kBytes]) {
  const uint64_t bits = size_ * 8;
  const uint8_t end = 0x80, zero = 0;
  update(&end, 1);
  while (size_ % 64 != 56) update(&zero, 1);
  uint8_t length[8];
  for (int i = 0; i < 8; i++) length[i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
  update(length, 8);
  for (int i = 0; i < 32; i++) digest[i] = static_cast<uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
}

Hex to_hex(const uint8_t (&digest)[Sha256::kBytes]) {
  Hex hex;
  for (size_t i = 0; i < Sha256::kBytes; i++) {
    hex.text[2 * i] = "0123456789abcdef"[digest[i] >> 4];
    hex.text[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
  }
  hex.text[2 * Sha256::kBytes] = 0;
  return hex;
}

bool from_hex(const char* digits, size_t size, uint8_t (&digest)[Sha256::kBytes]) {
  if (size != 2 * Sha256::kBytes) return false;
  for (size_t i = 0; i < size; i++) {
    const char c = digits[i];
    const int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (value < 0) return false;
    digest[i / 2] = static_cast<uint8_t>(i % 2 == 0 ? value << 4 : digest[i / 2] | value);
  }
  return true;
}

}  // namespace grt
