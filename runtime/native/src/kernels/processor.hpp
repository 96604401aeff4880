// What the processor and the operating system can do.
#pragma once

namespace grt {

#if defined(__x86_64__)
// Sets of instructions as the kernels are compiled for them; a set counts only if the system saves its
// registers.
struct Processor {
  bool has_sse4 = false, has_avx2 = false, has_avx512 = false;

  Processor();
};
#elif defined(__aarch64__)
// Whether there are the products of 8-bit integers of ARMv8.2.
bool has_neon_dot();
#endif

}  // namespace grt
