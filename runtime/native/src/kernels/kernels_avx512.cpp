#define GRT_ISA avx512
#define GRT_ISA_AVX512 1
#include "kernels/implementation.hpp"
