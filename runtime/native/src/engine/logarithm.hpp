// The natural logarithm in double precision, the same bits everywhere: the standard library's differs by
// system.
#pragma once

#include <cstdint>
#include <cstring>

namespace grt {

// ln x for normal numbers above 0; error below 1e-15 of the larger of |ln x| and 1. x = 2^k m with m near 1,
// and ln m = 2 atanh(s), s = (m - 1) / (m + 1), by its series.
inline double logarithm(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, 8);
  auto k = static_cast<int32_t>((bits >> 52) & 0x7FF) - 1023;
  bits = (bits & 0xFFFFFFFFFFFFF) | (uint64_t{1023} << 52);
  double m;
  std::memcpy(&m, &bits, 8);
  if (m > 1.4142135623730951) {
    m = m * 0.5;
    k++;
  }
  const double s = (m - 1.0) / (m + 1.0), square = s * s;
  double series = 1.0 / 23;
  for (int odd = 21; odd >= 1; odd -= 2) series = series * square + 1.0 / odd;
  return k * 0.6931471805599453 + 2.0 * s * series;
}

// Gumbel noise of a uniform number: -ln(-ln u), in the middle of u's cell so that both are finite.
inline double gumbel(float u) { return -logarithm(-logarithm(static_cast<double>(u) + 0x1p-25)); }

}  // namespace grt
