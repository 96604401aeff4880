// Decimal numbers to the nearest double, whatever the locale: the standard library's way either follows the
// locale or is missing in some libraries that we build with.
#pragma once

#include <cstddef>

namespace grt {

// `text` is a number as JSON spells it. Rounds to nearest, ties to even, whatever the rounding mode; infinite
// where it is too large. Takes some microseconds.
double parse_decimal(const char* text, size_t size);

// Whether the same is finite, without computing it in nearly all cases.
bool is_finite_decimal(const char* text, size_t size);

}  // namespace grt
