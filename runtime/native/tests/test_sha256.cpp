// SHA-256: known digests, and the fast ways against plain C++ at all lengths and cuts.
#include "support/sha256.hpp"

#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "check.hpp"

namespace {

grt::Hex hash(const void* data, size_t size, bool plain) {
  grt::Sha256 sha256(plain);
  sha256.update(data, size);
  uint8_t digest[32];
  sha256.finish(digest);
  return grt::to_hex(digest);
}

void known(const char* text, const char* digest) {
  for (const bool plain : {false, true}) GRT_CHECK_TEXT(hash(text, std::strlen(text), plain).text, digest);
}

void a_million() {
  static char letters[1000];
  std::memset(letters, 'a', sizeof letters);
  for (const bool plain : {false, true}) {
    grt::Sha256 sha256(plain);
    for (int i = 0; i < 1000; i++) sha256.update(letters, sizeof letters);
    uint8_t digest[32];
    sha256.finish(digest);
    GRT_CHECK_TEXT(grt::to_hex(digest).text,
                   "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

void cuts() {
  uint8_t data[400];
  for (size_t i = 0; i < sizeof data; i++) data[i] = static_cast<uint8_t>(i * 7 + i / 64);
  for (size_t size = 0; size <= sizeof data; size++) {
    const grt::Hex expected = hash(data, size, true);
    GRT_CHECK_TEXT(hash(data, size, false).text, expected.text);
    for (size_t step : {1, 63, 64, 65, 130}) {
      grt::Sha256 sha256;
      for (size_t at = 0; at < size; at += step)
        sha256.update(data + at, size - at < step ? size - at : step);
      uint8_t digest[32];
      sha256.finish(digest);
      GRT_CHECK_TEXT(grt::to_hex(digest).text, expected.text);
    }
  }
}

void hex() {
  uint8_t digest[32];
  const char* digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  GRT_CHECK(grt::from_hex(digits, 64, digest));
  GRT_CHECK_TEXT(grt::to_hex(digest).text, digits);
  GRT_CHECK(!grt::from_hex(digits, 63, digest));
  GRT_CHECK(!grt::from_hex("BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 64, digest));
  GRT_CHECK(!grt::from_hex("ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 64, digest));
}

}  // namespace

int main() {
  known("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  known("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  known("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  a_million();
  cuts();
  hex();
  return grt::test::failures();
}
