#define GRT_ISA neon
#define GRT_ISA_NEON 1
#include "kernels/implementation.hpp"
