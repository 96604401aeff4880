#define GRT_ISA scalar
#define GRT_ISA_SCALAR 1
#include "kernels/implementation.hpp"
