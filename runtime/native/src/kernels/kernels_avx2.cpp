#define GRT_ISA avx2
#define GRT_ISA_AVX2 1
#include "kernels/implementation.hpp"
