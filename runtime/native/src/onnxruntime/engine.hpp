// The second engine: the bundle's exported graphs in ONNX Runtime, a library that is opened at run time.
// docs/graphs.md has the graphs' contract.
#pragma once

#include "engine/engine.hpp"

namespace grt {

// Whether the bundle holds the graphs of a precision: what GRT_PRECISION_AUTO asks for this engine.
bool has_graphs(const Manifest& manifest, bool int8);

// An engine that runs the bundle's graphs of one precision. Reads and checks all graphs of that precision
// now: `files` is not needed afterwards. Takes over the bundle's weights (Bundle::take_weights): its
// `tensors` stay valid as long as the engine lives.
//
// Of `params` it reads num_threads, parallel_for (refused: ONNX Runtime has its own threads) and the
// onnxruntime_* members; the library, and what it loads, come from there and nowhere else.
//
// GRT_ERROR_UNSUPPORTED: no library, one that is too old, or no such provider. GRT_ERROR_BUNDLE: the bundle
// has no graphs of this precision, or others than `genie-rt export` writes.
Engine* make_onnxruntime_engine(const Files& files, Bundle& bundle, bool int8, const grt_world_params& params,
                                const Allocator& allocator, Error& error);

}  // namespace grt
