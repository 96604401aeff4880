// Spatial keys and values between the form that kernels attend to and that of a page, [L, 2, P, H
// head_stride]: what plans with reuse "frames" carry from frame to frame.
#pragma once

#include "engine/native_workspace.hpp"

namespace grt {

// All layers of a frame that was computed with its keys and values kept layer by layer.
void save_spatial(const Transformer& transformer, const FrameBuffers& from, float* page);
void load_spatial(const Transformer& transformer, const float* page, const FrameBuffers& to);

}  // namespace grt
