#define GRT_ISA sse4
#define GRT_ISA_SSE4 1
#include "kernels/implementation.hpp"
