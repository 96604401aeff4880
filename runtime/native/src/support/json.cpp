#include "support/json.hpp"

#include <algorithm>

#include "support/decimal.hpp"
#include "support/utf8.hpp"

namespace grt {

using json::Node;

namespace {

constexpr size_t kMaxWholeCharacters = 41;  // of a whole number, its sign included

// Goes through the text twice: first to check it and to count, then to write what was counted.
class Parser {
 public:
  Parser(const char* source, size_t size, Node* nodes, char* texts)
      : source_(source), size_(size), nodes_(nodes), texts_(texts) {}

  bool parse_all() {
    skip_space();
    if (!value(0)) return false;
    skip_space();
    return at_ == size_ || wrong("more behind the value");
  }

  uint32_t num_nodes() const { return num_nodes_; }
  uint32_t num_text_bytes() const { return num_text_bytes_; }
  uint32_t most_keys() const { return most_keys_; }
  const char* problem() const { return problem_; }
  size_t place() const { return at_; }

 private:
  bool wrong(const char* problem) {
    problem_ = problem;
    return false;
  }

  bool at(char c) const { return at_ < size_ && source_[at_] == c; }
  bool at_digit() const { return at_ < size_ && source_[at_] >= '0' && source_[at_] <= '9'; }
  bool take(char c) { return at(c) ? (at_++, true) : false; }

  void skip_space() {
    while (at(' ') || at('\t') || at('\n') || at('\r')) at_++;
  }

  // Depth is bounded, so that recursion is too.
  bool value(uint32_t depth) {
    if (at('{') || at('[')) {
      if (depth >= JsonDocument::kMaxDepth) return wrong("more than 64 levels of nesting");
      return at('{') ? object(depth) : list(depth);
    }
    if (at('"')) return text();
    if (at('-') || at_digit()) return number();
    return word("null", JsonKind::kNull) || word("true", JsonKind::kTrue) ||
           word("false", JsonKind::kFalse) || wrong("no value where one is expected");
  }

  bool word(const char* letters, JsonKind kind) {
    const size_t length = std::strlen(letters);
    if (size_ - at_ < length || std::memcmp(source_ + at_, letters, length) != 0) return false;
    at_ += length;
    add(kind);
    return true;
  }

  uint32_t add(JsonKind kind) {
    const uint32_t index = num_nodes_++;
    if (nodes_ != nullptr) {
      nodes_[index].kind = kind;
      nodes_[index].end = num_nodes_;
    }
    return index;
  }

  void close(uint32_t index, uint32_t count) {
    if (nodes_ == nullptr) return;
    nodes_[index].count = count;
    nodes_[index].end = num_nodes_;
  }

  bool list(uint32_t depth) {
    const uint32_t index = add(JsonKind::kList);
    uint32_t count = 0;
    at_++;
    skip_space();
    while (!at(']') || count > 0) {
      if (!value(depth + 1)) return false;
      count++;
      skip_space();
      if (at(']')) break;
      if (!take(',')) return wrong("no ',' or ']' where one is expected");
      skip_space();
    }
    at_++;
    close(index, count);
    return true;
  }

  bool object(uint32_t depth) {
    const uint32_t index = add(JsonKind::kObject);
    uint32_t count = 0;
    at_++;
    skip_space();
    while (!at('}') || count > 0) {
      if (!at('"')) return wrong("no key in quotes where one is expected");
      if (!text()) return false;
      skip_space();
      if (!take(':')) return wrong("no ':' where one is expected");
      skip_space();
      if (!value(depth + 1)) return false;
      count++;
      skip_space();
      if (at('}')) break;
      if (!take(',')) return wrong("no ',' or '}' where one is expected");
      skip_space();
    }
    at_++;
    close(index, count);
    most_keys_ = std::max(most_keys_, count);
    return true;
  }

  bool number() {
    const size_t begin = at_;
    const bool is_negative = take('-');
    if (!at_digit()) return wrong("no digit where one is expected");
    uint64_t whole = 0;
    bool is_large = false;
    if (!take('0')) {
      for (; at_digit(); at_++) {
        const uint64_t digit = static_cast<uint64_t>(source_[at_] - '0');
        is_large |= whole > (static_cast<uint64_t>(INT64_MAX) - digit) / 10;
        whole = 10 * whole + digit;
      }
    }
    bool is_fraction = false;
    if (at('.') && at_ + 1 < size_ && source_[at_ + 1] >= '0' && source_[at_ + 1] <= '9') {
      is_fraction = true;
      at_++;
      while (at_digit()) at_++;
    }
    if (at('e') || at('E')) {
      size_t digits = at_ + 1;
      if (digits < size_ && (source_[digits] == '+' || source_[digits] == '-')) digits++;
      if (digits < size_ && source_[digits] >= '0' && source_[digits] <= '9') {
        is_fraction = true;
        at_ = digits;
        while (at_digit()) at_++;
      }
    }
    const size_t length = at_ - begin;
    if (!is_fraction && length > kMaxWholeCharacters) return wrong("a whole number of too many digits");
    if (is_fraction && nodes_ == nullptr && !is_finite_decimal(source_ + begin, length)) {
      return wrong("a number that is not finite");
    }
    const uint32_t index = add(is_fraction ? JsonKind::kFraction : JsonKind::kWhole);
    if (nodes_ == nullptr) return true;
    if (is_fraction) {
      nodes_[index].text = {static_cast<uint32_t>(begin), static_cast<uint32_t>(length)};
    } else if (is_large) {
      nodes_[index].whole = is_negative ? INT64_MIN : INT64_MAX;
    } else {
      nodes_[index].whole = is_negative ? -static_cast<int64_t>(whole) : static_cast<int64_t>(whole);
    }
    return true;
  }

  void put(const char* bytes, size_t count) {
    if (texts_ != nullptr) std::memcpy(texts_ + num_text_bytes_, bytes, count);
    num_text_bytes_ += static_cast<uint32_t>(count);
  }

  bool text() {
    const uint32_t index = add(JsonKind::kText), begin = num_text_bytes_;
    at_++;
    while (!at('"')) {
      const size_t plain = at_;
      while (at_ < size_ && source_[at_] != '"' && source_[at_] != '\\') {
        const unsigned char byte = static_cast<unsigned char>(source_[at_]);
        if (byte < 0x20) return wrong("a text with a control character");
        if (byte < 0x80) {
          at_++;
          continue;
        }
        uint32_t character;
        const size_t length = decode_utf8(source_ + at_, size_ - at_, character);
        if (length == 0) return wrong("bytes that are not UTF-8");
        at_ += length;
      }
      put(source_ + plain, at_ - plain);
      if (at_ >= size_) return wrong("a text without its end");
      if (at('\\') && !escape()) return false;
    }
    at_++;
    if (nodes_ != nullptr) nodes_[index].text = {begin, num_text_bytes_ - begin};
    put("", 1);
    return true;
  }

  bool escape() {
    at_++;
    static constexpr char kFrom[] = "\"\\/bfnrt", kTo[] = "\"\\/\b\f\n\r\t";
    const char letter = at_ < size_ ? source_[at_] : '\0';
    if (const char* known = letter != 0 ? std::strchr(kFrom, letter) : nullptr) {
      at_++;
      put(kTo + (known - kFrom), 1);
      return true;
    }
    if (letter != 'u') return wrong("a '\\' with something behind it that means nothing");
    uint32_t character = 0, low = 0;
    if (!four_digits(character)) return wrong("a '\\u' without four digits");
    if (character >= 0xD800 && character < 0xE000) {
      const bool is_high = character < 0xDC00;
      const bool goes_on = at('\\') && at_ + 1 < size_ && source_[at_ + 1] == 'u';
      if (!is_high || !goes_on || (at_++, !four_digits(low)) || low < 0xDC00 || low > 0xDFFF) {
        return wrong("half of a surrogate pair, which is no character");
      }
      character = 0x10000 + ((character - 0xD800) << 10) + (low - 0xDC00);
    }
    char bytes[4];
    put(bytes, encode_utf8(character, bytes));
    return true;
  }

  // Behind the "u" that stands here.
  bool four_digits(uint32_t& number) {
    at_++;
    if (size_ - at_ < 4) return false;
    number = 0;
    for (int i = 0; i < 4; i++, at_++) {
      const char c = source_[at_];
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return false;
      number = number << 4 | static_cast<uint32_t>(digit);
    }
    return true;
  }

  const char* source_;
  size_t size_, at_ = 0;
  Node* nodes_;
  char* texts_;
  uint32_t num_nodes_ = 0, num_text_bytes_ = 0, most_keys_ = 0;
  const char* problem_ = "";
};

int compare(Text a, Text b) {
  if (a.size != b.size) return a.size < b.size ? -1 : 1;
  return std::memcmp(a.data, b.data, a.size);
}

}  // namespace

bool JsonDocument::parse(const uint8_t* data, size_t size, const Allocator& allocator, Error& error) {
  if (size > kMaxBytes) {
    return error.fail(GRT_ERROR_BUNDLE, "a text of %zu bytes, and at most %u are read", size, kMaxBytes);
  }
  const char* source = reinterpret_cast<const char*>(data);
  Parser counter(source, size, nullptr, nullptr);
  if (!counter.parse_all()) {
    return error.fail(GRT_ERROR_BUNDLE, "%s, at byte %zu", counter.problem(), counter.place());
  }
  Buffer<Node> nodes;
  Buffer<char> texts;
  Buffer<uint32_t> keys;
  if (!nodes.create(allocator, counter.num_nodes(), error) ||
      !texts.create(allocator, counter.num_text_bytes(), error) ||
      !keys.create(allocator, counter.most_keys(), error)) {
    return false;
  }
  Parser writer(source, size, nodes.data(), texts.data());
  if (!writer.parse_all()) return error.fail(GRT_ERROR_BUNDLE, "%s", writer.problem());
  // two readers could each believe another one of two values
  const auto key_text = [&](uint32_t index) {
    return Text{texts.data() + nodes[index].text.begin, nodes[index].text.size};
  };
  for (uint32_t i = 0; i < nodes.size(); i++) {
    if (nodes[i].kind != JsonKind::kObject || nodes[i].count < 2) continue;
    const uint32_t count = nodes[i].count;
    uint32_t key = i + 1;
    for (uint32_t k = 0; k < count; k++, key = nodes[key + 1].end) keys[k] = key;
    std::sort(keys.data(), keys.data() + count,
              [&](uint32_t a, uint32_t b) { return compare(key_text(a), key_text(b)) < 0; });
    for (uint32_t k = 1; k < count; k++) {
      if (compare(key_text(keys[k - 1]), key_text(keys[k])) == 0) {
        return error.fail(GRT_ERROR_BUNDLE, "the key %s more than once", show_text(key_text(keys[k])).text);
      }
    }
  }
  nodes_ = std::move(nodes);
  texts_ = std::move(texts);
  source_ = source;
  return true;
}

const Node& JsonValue::node() const { return document_->nodes_[index_]; }

double JsonValue::number() const {
  if (kind() == JsonKind::kWhole) return static_cast<double>(whole());
  return parse_decimal(document_->source_ + node().text.begin, node().text.size);
}

Text JsonValue::text() const { return {document_->texts_.data() + node().text.begin, node().text.size}; }

JsonValue JsonValue::get(const char* key) const {
  if (!is(JsonKind::kObject)) return {};
  for (JsonValue entry = first(); entry.exists(); entry = next(entry)) {
    if (entry.key().is(key)) return entry;
  }
  return {};
}

JsonValue JsonValue::first() const {
  if (!(is(JsonKind::kObject) || is(JsonKind::kList)) || count() == 0) return {};
  return {document_, index_ + (is(JsonKind::kObject) ? 2 : 1)};
}

JsonValue JsonValue::next(JsonValue entry) const {
  const uint32_t index = entry.node().end;
  if (index >= node().end) return {};
  return {document_, index + (is(JsonKind::kObject) ? 1 : 0)};
}

Text JsonValue::key() const { return JsonValue(document_, index_ - 1).text(); }

JsonValue::Shown show_text(Text text) {
  JsonValue::Shown shown;
  size_t used = 0;
  shown.text[used++] = '\'';
  for (size_t i = 0; i < text.size;) {
    uint32_t character = 0;
    const size_t length = decode_utf8(text.data + i, text.size - i, character);
    if (used + 16 > JsonValue::kMaxShown) {
      std::memcpy(shown.text + used, "...", 3);
      used += 3;
      break;
    }
    if (length == 0 || character < 0x20 || (character >= 0x7F && character < 0xA0) || character > 0x2000) {
      used += static_cast<size_t>(std::snprintf(shown.text + used, 12, "\\u{%x}", character));
    } else {
      if (character == '\'' || character == '\\') shown.text[used++] = '\\';
      std::memcpy(shown.text + used, text.data + i, length);
      used += length;
    }
    i += length > 0 ? length : 1;
  }
  shown.text[used++] = '\'';
  shown.text[used] = 0;
  return shown;
}

JsonValue::Shown JsonValue::show() const {
  Shown shown;
  const auto put = [&](const char* words) { std::snprintf(shown.text, kMaxShown, "%s", words); };
  if (!exists()) return put("nothing"), shown;
  switch (kind()) {
    case JsonKind::kNull:
      put("null");
      break;
    case JsonKind::kFalse:
      put("false");
      break;
    case JsonKind::kTrue:
      put("true");
      break;
    case JsonKind::kWhole:
      if (whole() == INT64_MAX || whole() == INT64_MIN) {
        put("a number beyond 64 bits");
      } else {
        std::snprintf(shown.text, kMaxShown, "%lld", static_cast<long long>(whole()));
      }
      break;
    case JsonKind::kFraction: {
      const uint32_t size = node().text.size;
      std::snprintf(shown.text, kMaxShown, "%.*s%s", static_cast<int>(std::min(size, 40u)),
                    document_->source_ + node().text.begin, size > 40 ? "..." : "");
      break;
    }
    case JsonKind::kText:
      return show_text(text());
    case JsonKind::kList:
      std::snprintf(shown.text, kMaxShown, "a list of %u", count());
      break;
    case JsonKind::kObject:
      std::snprintf(shown.text, kMaxShown, "an object of %u keys", count());
      break;
  }
  return shown;
}

}  // namespace grt
