// The kernels of each instruction set that this build has.
#pragma once

#include "genie_rt.h"
#include "kernels/work.hpp"

namespace grt {

// The kernels of an instruction set, for int8 (nothing fused, the same bits everywhere) or float32; null
// where the build lacks it. The others have to be asked first whether the processor has it.
const Kernels* kernels_of(grt_instructions instructions, bool int8);

// Whether this processor and build have an instruction set.
bool has_instructions(grt_instructions instructions);

// The best of them.
grt_instructions best_instructions();

}  // namespace grt
