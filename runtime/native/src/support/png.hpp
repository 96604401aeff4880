// PNG pictures (ISO 15948) as prompts of a bundle have to be: RGB of one size, 8 bits or 16, interlaced or
// not.
//
// What Python's decode_prompt makes of them: of 16 bits the upper 8; transparency, colour spaces and
// animation are ignored; grey, palette and alpha are refused; so are other checksums than there should be,
// before the pixels and of what they inflate to. Chunks behind the pixels are not looked at.
#pragma once

#include "support/memory.hpp"

namespace grt {

// Decodes into `rgb`, [height, width, 3]. `shown` is what messages call the file. Takes at most
// size + 6 height width + 8 height + 64 bytes of memory meanwhile. Fails with GRT_ERROR_BUNDLE.
[[nodiscard]] bool decode_png(const uint8_t* data, size_t size, int32_t height, int32_t width, uint8_t* rgb,
                              const char* shown, const Allocator& allocator, Error& error);

}  // namespace grt
