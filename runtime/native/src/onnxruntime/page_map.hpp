// Pages as graphs have them, without padding behind a head's numbers.
#pragma once

#include <cstring>

#include "engine/page_layout.hpp"
#include "engine/pages.hpp"

namespace grt {

// Where a head's numbers come in whole groups of 16 a page's own memory is what graphs read and write. Else
// it is copied, there and back.
class PageMap {
 public:
  PageMap() = default;
  explicit PageMap(const PageLayout& layout) : layout_(layout) {}

  bool is_direct() const { return layout_.head_stride() == layout_.head_width; }
  size_t floats() const { return static_cast<size_t>(layout_.packed_floats()); }

  // The page for a graph to read; `scratch` [floats] is used where it has to be copied.
  const float* read(const Page& page, float* scratch) const {
    if (is_direct()) return page.data;
    copy(page.data, static_cast<size_t>(layout_.head_stride()), scratch, head_width());
    return scratch;
  }

  // Where a graph writes a new page, and what has to be done once it has.
  float* target(Page& page, float* scratch) const { return is_direct() ? page.data : scratch; }
  void written(Page& page, const float* scratch) const {
    if (is_direct()) return;
    std::memset(page.data, 0, static_cast<size_t>(layout_.floats()) * sizeof(float));
    copy(scratch, head_width(), page.data, static_cast<size_t>(layout_.head_stride()));
  }

 private:
  size_t head_width() const { return static_cast<size_t>(layout_.head_width); }

  void copy(const float* from, size_t from_stride, float* to, size_t to_stride) const {
    const size_t heads = floats() / head_width();
    for (size_t i = 0; i < heads; i++)
      std::memcpy(to + i * to_stride, from + i * from_stride, head_width() * sizeof(float));
  }

  PageLayout layout_;
};

}  // namespace grt
