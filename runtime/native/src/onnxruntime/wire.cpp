#include "onnxruntime/wire.hpp"

#include <cstring>

namespace grt {

bool Bytes::is(const char* text) const {
  return std::strlen(text) == size && (size == 0 || std::memcmp(data, text, size) == 0);
}

bool Bytes::operator==(const Bytes& other) const {
  return size == other.size && (size == 0 || std::memcmp(data, other.data, size) == 0);
}

bool Message::next() {
  if (failed_ || rest_.size == 0) return false;
  failed_ = true;  // until this field is read
  if (budget_.left-- <= 0)
    return complaint_.fail("more than %lld fields", static_cast<long long>(budget_.most));
  uint64_t tag;
  if (!varint(32, tag)) return false;
  number_ = static_cast<uint32_t>(tag >> 3);
  size_t index = 0;
  while (index < kind_.num_fields && kind_.fields[index].number != number_) index++;
  if (index == kind_.num_fields)
    return complaint_.fail("the field %u of %s, which no exported graph has", number_, kind_.name);
  const Field& field = kind_.fields[index];
  if ((tag & 7) != static_cast<uint64_t>(field.encoding)) {
    return complaint_.fail("%s.%s in the encoding %d, not %d", kind_.name, field.name,
                           static_cast<int>(tag & 7), static_cast<int>(field.encoding));
  }
  if (seen_ >> index > 1) return complaint_.fail("%s.%s out of order", kind_.name, field.name);
  if (!field.repeated && (seen_ >> index & 1) != 0)
    return complaint_.fail("%s.%s more than once", kind_.name, field.name);
  seen_ |= 1u << index;
  if (field.encoding == Encoding::kVarint) {
    if (!varint(64, whole_)) return false;
  } else {
    uint64_t size = 4;
    if (field.encoding == Encoding::kBlock && !varint(32, size)) return false;
    if (size > rest_.size) {
      return complaint_.fail("%s.%s of %llu bytes where %zu are left", kind_.name, field.name,
                             static_cast<unsigned long long>(size), rest_.size);
    }
    block_ = {rest_.data, static_cast<size_t>(size)};
    rest_ = {rest_.data + size, rest_.size - static_cast<size_t>(size)};
    if (field.encoding == Encoding::kFixed32) {
      uint32_t bits = 0;
      for (int i = 3; i >= 0; i--) bits = bits << 8 | block_.data[i];
      std::memcpy(&real_, &bits, sizeof real_);
    }
  }
  failed_ = false;
  return true;
}

bool Message::has(uint32_t number) const {
  for (size_t i = 0; i < kind_.num_fields; i++)
    if (kind_.fields[i].number == number) return (seen_ >> i & 1) != 0;
  return false;
}

// A whole number of seven bits a byte, the lowest first.
bool Message::varint(int bits, uint64_t& value) {
  value = 0;
  for (int shift = 0;; shift += 7) {
    if (rest_.size == 0) return complaint_.fail("a number without an end");
    const uint8_t byte = *rest_.data;
    rest_ = {rest_.data + 1, rest_.size - 1};
    const uint64_t part = byte & 0x7F;
    const bool fits =
        shift < bits && (part << shift) >> shift == part && (bits == 64 || (part << shift) >> bits == 0);
    if (!fits) return complaint_.fail("a number of more than %d bits", bits);
    value |= part << shift;
    if (byte < 0x80) {
      if (shift > 0 && byte == 0) return complaint_.fail("a number in more bytes than it needs");
      return true;
    }
  }
}

}  // namespace grt
