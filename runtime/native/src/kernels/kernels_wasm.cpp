#define GRT_ISA wasm
#define GRT_ISA_WASM 1
#include "kernels/implementation.hpp"
