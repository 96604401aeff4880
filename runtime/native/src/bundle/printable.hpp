// Which characters a name may have that people see.
#pragma once

#include <cstdint>

namespace grt {

// First and last of the ranges that are no print: controls, formats, private use, halves of pairs, and every
// space but the plain one. Python's str.isprintable also refuses what its version of Unicode has not assigned
// yet.
inline constexpr struct {
  uint32_t first, last;
} kNotPrintable[] = {
    {0x0, 0x1F},        {0x7F, 0xA0},       {0xAD, 0xAD},         {0x600, 0x605},     {0x61C, 0x61C},
    {0x6DD, 0x6DD},     {0x70F, 0x70F},     {0x890, 0x891},       {0x8E2, 0x8E2},     {0x1680, 0x1680},
    {0x180E, 0x180E},   {0x2000, 0x200F},   {0x2028, 0x202F},     {0x205F, 0x2064},   {0x2066, 0x206F},
    {0x3000, 0x3000},   {0xD800, 0xF8FF},   {0xFEFF, 0xFEFF},     {0xFFF9, 0xFFFB},   {0x110BD, 0x110BD},
    {0x110CD, 0x110CD}, {0x13430, 0x13438}, {0x1BCA0, 0x1BCA3},   {0x1D173, 0x1D17A}, {0xE0001, 0xE0001},
    {0xE0020, 0xE007F}, {0xF0000, 0xFFFFD}, {0x100000, 0x10FFFD},
};

inline bool is_printable(uint32_t character) {
  for (const auto& range : kNotPrintable) {
    if (range.first <= character && character <= range.last) return false;
  }
  return true;
}

}  // namespace grt
