#include "support/inflate.hpp"

#include <cstring>

namespace grt {

namespace {

constexpr const char* kEndsEarly = "a stream that ends early";
constexpr int kMaxBits = 15, kFastBits = 10, kMaxLengths = 286, kMaxDistances = 30, kMaxSymbols = 288;

constexpr uint16_t kLengthBase[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                      31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
constexpr uint8_t kLengthExtra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                      2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
constexpr uint16_t kDistanceBase[30] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                        33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                        1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
constexpr uint8_t kDistanceExtra[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                        6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
constexpr uint8_t kCodeOrder[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

// A canonical Huffman code. Codes of up to ten bits are looked up, longer ones counted.
struct Code {
  uint16_t count[kMaxBits + 1];   // of codes of a length
  uint16_t symbols[kMaxSymbols];  // in the order of their codes
  uint16_t fast[1 << kFastBits];  // symbol << 4 | length; 0: a longer code, or none

  // A code that is no full tree is allowed where it has a single code of one bit at most and `may_be_small`.
  bool make(const uint8_t* lengths, int num_symbols, bool may_be_small) {
    std::memset(count, 0, sizeof count);
    std::memset(fast, 0, sizeof fast);
    for (int i = 0; i < num_symbols; i++) count[lengths[i]]++;
    const int num_codes = num_symbols - count[0];
    count[0] = 0;
    int left = 1;
    for (int length = 1; length <= kMaxBits; length++) {
      left = 2 * left - count[length];
      if (left < 0) return false;
    }
    if (left > 0 && !(may_be_small && (num_codes == 0 || (num_codes == 1 && count[1] == 1)))) return false;
    uint16_t offset[kMaxBits + 2] = {};
    for (int length = 1; length <= kMaxBits; length++) {
      offset[length + 1] = static_cast<uint16_t>(offset[length] + count[length]);
    }
    for (int i = 0; i < num_symbols; i++) {
      if (lengths[i] > 0) symbols[offset[lengths[i]]++] = static_cast<uint16_t>(i);
    }
    int code = 0, index = 0;
    for (int length = 1; length <= kFastBits; length++, code *= 2) {
      for (int i = 0; i < count[length]; i++, code++, index++) {
        int reversed = 0;
        for (int bit = 0; bit < length; bit++) reversed |= (code >> bit & 1) << (length - 1 - bit);
        for (int at = reversed; at < 1 << kFastBits; at += 1 << length) {
          fast[at] = static_cast<uint16_t>(symbols[index] << 4 | length);
        }
      }
    }
    return true;
  }
};

class Inflater {
 public:
  Inflater(const uint8_t* data, size_t size, uint8_t* out, size_t out_size)
      : data_(data), size_(size), out_(out), out_size_(out_size) {}

  const char* run() {
    if (size_ < 2) return kEndsEarly;
    const unsigned method = data_[0], flags = data_[1];
    if ((method & 15) != 8 || method >> 4 > 7 || (256 * method + flags) % 31 != 0 || (flags & 32) != 0) {
      return "no zlib stream";
    }
    at_ = 2;
    const char* problem = blocks();
    // who has all that was wanted does not need the stream's end
    return ended_ && filled_ == out_size_ ? nullptr : problem;
  }

 private:
  const char* blocks() {
    for (bool is_last = false; !is_last;) {
      is_last = take(1) != 0;
      const uint32_t kind = take(2);
      if (ended_) return kEndsEarly;
      const char* problem = kind == 0   ? stored()
                            : kind == 1 ? fixed()
                            : kind == 2 ? dynamic()
                                        : "a block of an unknown kind";
      if (problem != nullptr || goes_on_) return problem;
    }
    return filled_ < out_size_ ? kEndsEarly : check();
  }

  // The checksum behind the last block, Adler-32.
  const char* check() {
    take(num_bits_ % 8);
    uint32_t expected = 0, low = 1, high = 0;
    for (int i = 0; i < 4; i++) expected = expected << 8 | take(8);
    if (ended_) return kEndsEarly;
    for (size_t i = 0; i < out_size_;) {
      for (const size_t end = out_size_ - i < 5552 ? out_size_ : i + 5552; i < end; i++)
        high += low += out_[i];
      low %= 65521;
      high %= 65521;
    }
    return expected == (high << 16 | low) ? nullptr : "a checksum that is wrong";
  }

  // At least 32 bits, as far as there are bytes; beyond the end there are zeros.
  void fill() {
    while (num_bits_ <= 56 && at_ < size_) {
      bits_ |= uint64_t{data_[at_++]} << num_bits_;
      num_bits_ += 8;
    }
  }

  uint32_t take(int count) {
    if (num_bits_ < count) fill();
    if (num_bits_ < count) {
      ended_ = true;
      return 0;
    }
    const uint32_t value = static_cast<uint32_t>(bits_ & ((uint64_t{1} << count) - 1));
    bits_ >>= count;
    num_bits_ -= count;
    return value;
  }

  // The next symbol, or -1.
  int symbol(const Code& code) {
    if (num_bits_ < kMaxBits) fill();
    const uint16_t entry = code.fast[bits_ & ((1 << kFastBits) - 1)];
    if (const int length = entry & 15; length > 0) {
      if (length > num_bits_) return ended_ = true, -1;
      bits_ >>= length;
      num_bits_ -= length;
      return entry >> 4;
    }
    int value = 0, first = 0, index = 0;
    for (int length = 1; length <= kMaxBits; length++) {
      if (length > num_bits_) return ended_ = true, -1;
      value |= static_cast<int>(bits_ >> (length - 1) & 1);
      const int count = code.count[length];
      if (value - count < first) {
        bits_ >>= length;
        num_bits_ -= length;
        return code.symbols[index + (value - first)];
      }
      index += count;
      first = 2 * (first + count);
      value *= 2;
    }
    return -1;
  }

  const char* stored() {
    take(num_bits_ % 8);
    const uint32_t count = take(16), inverse = take(16);
    if (ended_) return kEndsEarly;
    if (count != (~inverse & 0xFFFF)) return "a block whose length is wrong";
    for (uint32_t i = 0; i < count; i++) {
      goes_on_ = filled_ == out_size_;
      if (goes_on_) return nullptr;
      if (num_bits_ > 0) {
        out_[filled_++] = static_cast<uint8_t>(take(8));
        continue;
      }
      size_t length = count - i;
      if (length > out_size_ - filled_) length = out_size_ - filled_;
      if (length > size_ - at_) return kEndsEarly;
      std::memcpy(out_ + filled_, data_ + at_, length);
      at_ += length;
      filled_ += length;
      i += static_cast<uint32_t>(length) - 1;
    }
    return nullptr;
  }

  const char* fixed() {
    uint8_t lengths[kMaxSymbols];
    std::memset(lengths, 8, 144);
    std::memset(lengths + 144, 9, 112);
    std::memset(lengths + 256, 7, 24);
    std::memset(lengths + 280, 8, 8);
    lengths_.make(lengths, kMaxSymbols, false);
    std::memset(lengths, 5, 32);
    distances_.make(lengths, 32, false);
    return block();
  }

  const char* dynamic() {
    const int num_lengths = static_cast<int>(take(5)) + 257, num_distances = static_cast<int>(take(5)) + 1;
    const int num_codes = static_cast<int>(take(4)) + 4;
    if (num_lengths > kMaxLengths || num_distances > kMaxDistances) return "a block of too many symbols";
    uint8_t lengths[kMaxLengths + kMaxDistances] = {}, code_lengths[19] = {};
    for (int i = 0; i < num_codes; i++) code_lengths[kCodeOrder[i]] = static_cast<uint8_t>(take(3));
    if (ended_) return kEndsEarly;
    if (!lengths_.make(code_lengths, 19, false)) return "a code that is none";
    for (int i = 0; i < num_lengths + num_distances;) {
      const int what = symbol(lengths_);
      if (what < 0) return "a code that is none";
      if (what < 16) {
        lengths[i++] = static_cast<uint8_t>(what);
        continue;
      }
      if (what == 16 && i == 0) return "a code that is none";
      const uint8_t value = what == 16 ? lengths[i - 1] : 0;
      const uint32_t times = what == 16 ? 3 + take(2) : what == 17 ? 3 + take(3) : 11 + take(7);
      if (ended_) return kEndsEarly;
      if (static_cast<int>(times) > num_lengths + num_distances - i) return "a code that is none";
      std::memset(lengths + i, value, times);
      i += static_cast<int>(times);
    }
    // a block has to be able to end
    if (lengths[256] == 0 || !lengths_.make(lengths, num_lengths, true) ||
        !distances_.make(lengths + num_lengths, num_distances, true)) {
      return "a code that is none";
    }
    return block();
  }

  const char* block() {
    for (;;) {
      const int what = symbol(lengths_);
      if (what < 0) return ended_ ? kEndsEarly : "a code that is none";
      if (what == 256) return nullptr;
      goes_on_ = filled_ == out_size_;
      if (goes_on_) return nullptr;
      if (what < 256) {
        out_[filled_++] = static_cast<uint8_t>(what);
        continue;
      }
      if (what - 257 >= 29) return "a length that is none";
      size_t length = kLengthBase[what - 257] + take(kLengthExtra[what - 257]);
      const int where = symbol(distances_);
      if (where < 0 || where >= kMaxDistances) return ended_ ? kEndsEarly : "a code that is none";
      const size_t distance = kDistanceBase[where] + take(kDistanceExtra[where]);
      if (ended_) return kEndsEarly;
      if (distance > filled_) return "a distance that is too far";
      if (length > out_size_ - filled_) length = out_size_ - filled_;
      for (size_t i = 0; i < length; i++, filled_++) out_[filled_] = out_[filled_ - distance];
    }
  }

  const uint8_t* data_;
  size_t size_, at_ = 0;
  uint8_t* out_;
  size_t out_size_, filled_ = 0;
  uint64_t bits_ = 0;
  int num_bits_ = 0;
  bool ended_ = false;    // bits were asked for that are not there
  bool goes_on_ = false;  // the stream would give more than what is wanted
  Code lengths_, distances_;
};

}  // namespace

const char* inflate_zlib(const uint8_t* data, size_t size, uint8_t* out, size_t out_size) {
  return Inflater(data, size, out, out_size).run();
}

}  // namespace grt
