// The wire format of protocol buffers, read so that no other parser can read the same bytes otherwise.
//
// Parsers differ in what they do with unusual bytes: some cut a tag to 32 bits, so that a field of a number
// above 2^29 becomes another field; some take numbers written in more bytes than they need; of a field that
// stands there twice one keeps the last and another merges both. All of that is refused here. The format:
// protobuf.dev, "Encoding".
#pragma once

#include <cstddef>
#include <cstdint>

#include "onnxruntime/complaint.hpp"

namespace grt {

// Some bytes of a file.
struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;

  const char* text() const { return reinterpret_cast<const char*>(data); }
  // For messages, with "%.*s": at most 100 bytes.
  int shown() const { return static_cast<int>(size < 100 ? size : 100); }
  bool is(const char* text) const;
  bool operator==(const Bytes& other) const;
};

// The encodings that an ONNX graph needs. There are 64-bit numbers and groups too; both are refused.
enum class Encoding : uint8_t { kVarint = 0, kBlock = 2, kFixed32 = 5 };

// What a message may hold under a number, and whether it may stand there repeatedly. Fields have to stand in
// the order of their numbers, as writers put them.
struct Field {
  uint32_t number;
  const char* name;
  Encoding encoding;
  bool repeated = false;
};

// A kind of message; `fields` are all that it may hold, in the order of their numbers.
struct MessageKind {
  const char* name;
  const Field* fields;
  size_t num_fields;
};

// How many fields are left of those that all messages of a graph may have together.
struct FieldBudget {
  int64_t most, left;
};

// Goes through the fields of a message:
//
//     Message node(kNode, bytes, budget, complaint);
//     while (node.next()) switch (node.number()) { ... }
//     if (node.failed()) return false;
class Message {
 public:
  Message(const MessageKind& kind, Bytes bytes, FieldBudget& budget, Complaint& complaint)
      : kind_(kind), rest_(bytes), budget_(budget), complaint_(complaint) {}

  bool next();
  bool failed() const { return failed_; }

  uint32_t number() const { return number_; }
  uint64_t whole() const { return whole_; }                              // of kVarint
  int64_t whole_signed() const { return static_cast<int64_t>(whole_); }  // written as two's complement
  float real() const { return real_; }                                   // of kFixed32
  Bytes block() const { return block_; }                                 // of kBlock

  // Whether a field that is not repeated stood there, once the message was gone through.
  bool has(uint32_t number) const;

 private:
  bool varint(int bits, uint64_t& value);

  const MessageKind& kind_;
  Bytes rest_;
  FieldBudget& budget_;
  Complaint& complaint_;
  uint32_t seen_ = 0;  // a bit for each of the kind's fields
  bool failed_ = false;
  uint32_t number_ = 0;
  uint64_t whole_ = 0;
  float real_ = 0;
  Bytes block_;
};

}  // namespace grt
