#define GRT_ISA neon_dot
#define GRT_ISA_NEON_DOT 1
#include "kernels/implementation.hpp"
