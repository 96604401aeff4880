// Messages that are longer than their memory are cut, but never within a character.
#include "support/error.hpp"

#include <string>

#include "check.hpp"

int main() {
  for (const char* character : {"a", "\xc3\xa9", "\xe4\xb8\x96", "\xf0\x9f\x8e\xae"}) {
    for (size_t before = 0; before < 5; before++) {
      std::string text(before, 'x');
      while (text.size() < 2 * GRT_MESSAGE_BYTES) text += character;
      grt::Error error;
      GRT_CHECK(!error.fail(GRT_ERROR_INPUT, "%s", text.c_str()));
      GRT_CHECK_STATUS(error.status, GRT_ERROR_INPUT);
      const size_t length = std::strlen(error.message);
      GRT_CHECK(length < GRT_MESSAGE_BYTES && length >= GRT_MESSAGE_BYTES - 4);
      GRT_CHECK_EQ((length - before) % std::strlen(character), size_t{0});
    }
  }
  grt::Error error;
  const std::string exact(GRT_MESSAGE_BYTES - 1, 'x');
  error.fail(GRT_ERROR_STATE, "%s", exact.c_str());
  GRT_CHECK_TEXT(error.message, exact.c_str());
  return grt::test::failures();
}
