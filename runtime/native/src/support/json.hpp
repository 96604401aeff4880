// JSON that nobody vouches for, read as Python's runtime/untrusted_json.py reads it.
//
// Refused: other encodings than UTF-8, a key that stands twice in one object, NaN and infinite numbers
// however they are spelled, whole numbers that no float can hold, half of a surrogate pair, deep nesting.
//
// A text of n bytes takes at most 11 n + 256 bytes of memory besides itself.
#pragma once

#include "support/memory.hpp"

namespace grt {

// Text of a given length; it may hold NUL. Ends with one more NUL.
struct Text {
  const char* data = "";
  size_t size = 0;

  bool is(const char* other) const {
    return size == std::strlen(other) && std::memcmp(data, other, size) == 0;
  }
};

enum class JsonKind : uint8_t { kNull, kFalse, kTrue, kWhole, kFraction, kText, kList, kObject };

namespace json {

struct Span {
  uint32_t begin, size;
};

// A value. What is inside it follows it: entries in their order, or keys (as texts), each before its value.
struct Node {
  union {
    int64_t whole;   // kWhole; beyond 64 bits the least or the largest number
    Span text;       // kText: of the texts; kFraction: of the source
    uint32_t count;  // kList, kObject: entries
  };
  uint32_t end;  // index of the node behind the value
  JsonKind kind;
};

}  // namespace json

class JsonDocument;

// A value of a document, which has to outlive it. Whatever is asked of one that is absent is absent.
class JsonValue {
 public:
  JsonValue() = default;
  JsonValue(const JsonDocument* document, uint32_t index) : document_(document), index_(index) {}

  bool exists() const { return document_ != nullptr; }
  JsonKind kind() const { return node().kind; }
  bool is(JsonKind kind) const { return exists() && node().kind == kind; }
  bool is_bool() const { return is(JsonKind::kFalse) || is(JsonKind::kTrue); }

  int64_t whole() const { return node().whole; }
  double number() const;  // of kWhole and kFraction
  Text text() const;
  uint32_t count() const { return node().count; }  // entries of a list or object

  // What an object has under a key; absent if it has none.
  JsonValue get(const char* key) const;

  // Going through a list or an object: for (JsonValue v = list.first(); v.exists(); v = list.next(v)).
  // In an object `v` is the value, and v.key() its key.
  JsonValue first() const;
  JsonValue next(JsonValue entry) const;
  Text key() const;

  // A short form for messages: 'text', 12, a list of 3.
  static constexpr size_t kMaxShown = 96;
  struct Shown {
    char text[kMaxShown];
  };
  Shown show() const;

 private:
  const json::Node& node() const;

  const JsonDocument* document_ = nullptr;
  uint32_t index_ = 0;
};

// 'text' for messages: cut, with nothing in it that a terminal obeys.
JsonValue::Shown show_text(Text text);

class JsonDocument {
 public:
  // Nested objects and lists, as Python counts them.
  static constexpr uint32_t kMaxDepth = 65;
  static constexpr uint32_t kMaxBytes = 1u << 28;

  // Parses a text, which has to outlive the document. On failure `error` has the status GRT_ERROR_BUNDLE, and
  // as its message what was found: "a key that ..."; or it is out of memory.
  [[nodiscard]] bool parse(const uint8_t* data, size_t size, const Allocator& allocator, Error& error);

  JsonValue root() const { return JsonValue(this, 0); }

 private:
  friend class JsonValue;

  Buffer<json::Node> nodes_;
  Buffer<char> texts_;
  const char* source_ = nullptr;
};

}  // namespace grt
