#include "support/decimal.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace grt {

namespace {

// The digits behind the 768th decide nothing but whether there is something behind a tie.
constexpr int kMaxDigits = 780;

// A number as its digits, most significant first, without leading zeros: 0.d0 d1 d2 ... times 10^point.
struct Digits {
  uint8_t digits[kMaxDigits + 1];
  int count = 0;
  int64_t point = 0;
  bool negative = false;
};

Digits read_digits(const char* text, size_t size) {
  Digits number;
  size_t at = 0;
  if (at < size && text[at] == '-') {
    number.negative = true;
    at++;
  }
  bool is_fraction = false, any_left_out = false;
  for (; at < size && text[at] != 'e' && text[at] != 'E'; at++) {
    if (text[at] == '.') {
      is_fraction = true;
      continue;
    }
    const uint8_t digit = static_cast<uint8_t>(text[at] - '0');
    if (number.count == 0 && digit == 0) {
      number.point -= is_fraction;
      continue;
    }
    number.point += !is_fraction;
    if (number.count < kMaxDigits) {
      number.digits[number.count++] = digit;
    } else {
      any_left_out |= digit != 0;
    }
  }
  if (any_left_out) number.digits[number.count++] = 1;
  if (at < size) {
    at++;
    const bool is_negative = at < size && text[at] == '-';
    if (at < size && (text[at] == '-' || text[at] == '+')) at++;
    int64_t exponent = 0;
    for (; at < size; at++) {
      if (exponent < (int64_t{1} << 40)) exponent = 10 * exponent + (text[at] - '0');
    }
    number.point += is_negative ? -exponent : exponent;
  }
  return number;
}

// A whole number of up to 6,144 bits, of which at most 3,900 come up.
struct Large {
  static constexpr int kWords = 192;
  uint32_t words[kWords] = {};  // the least significant first
  int count = 0;

  void multiply_add(uint32_t factor, uint32_t term) {
    uint64_t carry = term;
    for (int i = 0; i < count; i++) {
      carry += uint64_t{words[i]} * factor;
      words[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    if (carry != 0) words[count++] = static_cast<uint32_t>(carry);
  }

  void shift_left(int bits) {
    const int whole = bits / 32, rest = bits % 32;
    if (count == 0 || bits == 0) return;
    for (int i = count; i >= 0; i--) {
      const uint64_t high = i < count ? words[i] : 0, low = i > 0 ? words[i - 1] : 0;
      words[i + whole] = static_cast<uint32_t>(((high << 32 | low) << rest) >> 32);
    }
    std::memset(words, 0, static_cast<size_t>(whole) * sizeof words[0]);
    count += whole + 1;
    while (count > 0 && words[count - 1] == 0) count--;
  }

  int bits() const { return count == 0 ? 0 : 32 * count - std::countl_zero(words[count - 1]); }

  bool is_less(const Large& other) const {
    if (count != other.count) return count < other.count;
    for (int i = count - 1; i >= 0; i--) {
      if (words[i] != other.words[i]) return words[i] < other.words[i];
    }
    return false;
  }

  void subtract(const Large& other) {
    int64_t borrow = 0;
    for (int i = 0; i < count; i++) {
      borrow += int64_t{words[i]} - (i < other.count ? int64_t{other.words[i]} : 0);
      words[i] = static_cast<uint32_t>(borrow);
      borrow >>= 32;
    }
    while (count > 0 && words[count - 1] == 0) count--;
  }
};

// The quotient of two whole numbers above 0, rounded once.
double divide(Large numerator, Large denominator) {
  // scaled by 2^shift the quotient has 63 bits or 64
  const int shift = 63 - (numerator.bits() - denominator.bits());
  if (shift > 0) numerator.shift_left(shift);
  if (shift < 0) denominator.shift_left(-shift);
  denominator.shift_left(63);
  uint64_t quotient = 0;
  for (int bit = 0; bit < 64; bit++) {
    quotient <<= 1;
    if (!numerator.is_less(denominator)) {
      numerator.subtract(denominator);
      quotient |= 1;
    }
    numerator.shift_left(1);
  }
  const int top = 63 - std::countl_zero(quotient);
  // 53 bits stay, or fewer below the least normal number
  const int exponent = top - shift;
  const int dropped = top - 52 + (exponent < -1022 ? -1022 - exponent : 0);
  if (dropped > 64) return 0;
  const uint64_t half = uint64_t{1} << (dropped - 1);
  const uint64_t below = dropped == 64 ? quotient : quotient & ((half << 1) - 1);
  uint64_t kept = dropped == 64 ? 0 : quotient >> dropped;
  const bool is_tie = below == half && numerator.count == 0;
  kept += is_tie ? kept & 1 : below >= half;
  return std::ldexp(static_cast<double>(kept), dropped - shift);
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

double parse_decimal(const char* text, size_t size) {
  const Digits number = read_digits(text, size);
  double value = 0;
  if (number.count > 0 && number.point > 310) {
    value = kInfinity;
  } else if (number.count > 0 && number.point > -330) {
    Large numerator, denominator;
    for (int i = 0; i < number.count; i++) numerator.multiply_add(10, number.digits[i]);
    denominator.multiply_add(0, 1);
    for (int64_t i = number.point; i > number.count; i--) numerator.multiply_add(10, 0);
    for (int64_t i = number.point; i < number.count; i++) denominator.multiply_add(10, 0);
    value = divide(numerator, denominator);
  }
  return number.negative ? -value : value;
}

bool is_finite_decimal(const char* text, size_t size) {
  const Digits number = read_digits(text, size);
  if (number.count == 0 || number.point < 309) return true;
  return number.point == 309 && std::isfinite(parse_decimal(text, size));
}

}  // namespace grt
