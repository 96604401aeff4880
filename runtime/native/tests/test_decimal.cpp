// Decimal numbers against the C library's.
#include "support/decimal.hpp"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "check.hpp"

namespace {

void compare(const char* text) {
  const double expected = std::strtod(text, nullptr);
  const double found = grt::parse_decimal(text, std::strlen(text));
  if (!GRT_CHECK(std::memcmp(&expected, &found, sizeof found) == 0)) {
    std::fprintf(stderr, "    %.60s: expected %a, found %a\n", text, expected, found);
  }
  GRT_CHECK_EQ(grt::is_finite_decimal(text, std::strlen(text)), std::isfinite(expected));
}

uint64_t state = 1;
uint64_t draw() {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

void known() {
  const char* const texts[] = {"0",
                               "-0",
                               "0.0",
                               "1",
                               "-1",
                               "0.1",
                               "0.4",
                               "0.99",
                               "1e22",
                               "1e23",
                               "9007199254740993",
                               "9007199254740992.9999999999999999999999999999999999999999",
                               "9007199254740993.00000000000000000000001",
                               "9007199254740991.5",
                               "4.9e-324",
                               "2.4703282292062327e-324",
                               "2.4703282292062328e-324",
                               "1e-323",
                               "2.2250738585072014e-308",
                               "2.2250738585072011e-308",
                               "2.225073858507201e-308",
                               "1.7976931348623157e308",
                               "1.7976931348623158e308",
                               "1.797693134862315807e308",
                               "1.7976931348623159e308",
                               "1e309",
                               "1e400",
                               "-1e999",
                               "1e-400",
                               "1e99999999999999999999",
                               "1e-99999999999999999999",
                               "0e99999999",
                               "0.00000000000000000000000000000000000000000000000000000001e60",
                               "123456789012345678901234567890e-20",
                               "1E+5",
                               "1E-5",
                               "5e-1",
                               "10.50e+01"};
  for (const char* text : texts) compare(text);
}

// Long ones, whose last digit alone decides a tie.
void long_ties() {
  // half of the least number is 5^1075 times 10^-1075
  char digits[800] = "1";
  for (int i = 0, length = 1; i < 1075; i++) {
    int carry = 0;
    for (int j = length - 1; j >= 0; j--) {
      carry += 5 * (digits[j] - '0');
      digits[j] = static_cast<char>('0' + carry % 10);
      carry /= 10;
    }
    if (carry > 0) {
      std::memmove(digits + 1, digits, static_cast<size_t>(length++));
      digits[0] = static_cast<char>('0' + carry);
    }
  }
  GRT_CHECK_EQ(std::strlen(digits), size_t{752});
  char text[2000];
  for (const char* tail : {"", "0", "1", "000000000000000000000000000000000000000001"}) {
    std::snprintf(text, sizeof text, "%se-1075", digits);
    compare(text);
    std::snprintf(text, sizeof text, "%s.%se-1075", digits, tail[0] != 0 ? tail : "0");
    compare(text);
    std::snprintf(text, sizeof text, "9007199254740993.%0900d%s", 0, tail);
    compare(text);
    std::snprintf(text, sizeof text, "0.%0300d4%s", 0, tail);
    compare(text);
  }
}

void drawn() {
  char text[64];
  for (int i = 0; i < 20000; i++) {
    const uint64_t bits = draw();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    std::snprintf(text, sizeof text, "%.*e", static_cast<int>(draw() % 20), value);
    compare(text);
    std::snprintf(text, sizeof text, "%llu.%llue%d", static_cast<unsigned long long>(draw() >> (draw() % 64)),
                  static_cast<unsigned long long>(draw() >> (draw() % 64)),
                  static_cast<int>(draw() % 80) - 40);
    compare(text);
  }
}

}  // namespace

int main() {
  known();
  long_ties();
  drawn();
  return grt::test::failures();
}
