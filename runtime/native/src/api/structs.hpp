// Structs of the header, which begin with struct_size: a program may be older than this library, or newer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "support/error.hpp"

namespace grt {

// The number in an enumeration of the caller, which may be none of its values: as such it must not be read.
template <typename T>
int32_t number_of(const T& value) {
  static_assert(sizeof(T) == sizeof(int32_t));
  int32_t number;
  std::memcpy(&number, &value, sizeof number);
  return number;
}

// The size that a struct had in the first version that has it. When one grows, its first size stays here:
//   template <> inline constexpr size_t kFirstSize<grt_plan> = offsetof(grt_plan, first_new_member);
template <typename T>
inline constexpr size_t kFirstSize = sizeof(T);

// No struct will ever be that large: the size was never set.
inline constexpr size_t kMostStructSize = 4096;

template <typename T>
bool is_struct_size(size_t size) {
  return size >= kFirstSize<T> && size <= kMostStructSize && size % alignof(T) == 0;
}

// Whether a struct of the caller can be what it says. `name` is that of its type: "grt_plan".
template <typename T>
[[nodiscard]] bool check_struct(const T* given, const char* parameter, const char* name, Error& error) {
  if (given == nullptr) {
    return error.fail(GRT_ERROR_INPUT, "%s: expected a %s, found NULL", parameter, name);
  }
  if (!is_struct_size<T>(given->struct_size)) {
    return error.fail(GRT_ERROR_INPUT,
                      "%s: expected a struct_size of %zu or more, found %zu: set the %s up with %s_init",
                      parameter, kFirstSize<T>, given->struct_size, name, name);
  }
  return true;
}

// Copies a struct of the caller: members that an older program does not know are 0. Refuses what a newer one
// sets and this library does not know.
template <typename T>
[[nodiscard]] bool read_struct(const T* given, T& value, const char* parameter, const char* name,
                               Error& error) {
  if (!check_struct(given, parameter, name, error)) return false;
  const size_t size = given->struct_size;
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (size_t i = sizeof(T); i < size; i++) {
    if (bytes[i] != 0) {
      return error.fail(GRT_ERROR_UNSUPPORTED,
                        "%s: expected a %s as version %d.%d.%d knows it, found one of a newer header that "
                        "sets more; use a newer library",
                        parameter, name, GRT_VERSION_MAJOR, GRT_VERSION_MINOR, GRT_VERSION_PATCH);
    }
  }
  T copy;
  std::memset(static_cast<void*>(&copy), 0, sizeof copy);
  std::memcpy(static_cast<void*>(&copy), given, size < sizeof(T) ? size : sizeof(T));
  copy.struct_size = sizeof(T);
  value = copy;
  return true;
}

// Fills a struct of the caller, which check_struct accepted, as far as the caller knows it.
template <typename T>
void write_struct(T* given, const T& value) {
  const size_t size = given->struct_size < sizeof(T) ? given->struct_size : sizeof(T);
  std::memcpy(reinterpret_cast<unsigned char*>(given) + sizeof(size_t),
              reinterpret_cast<const unsigned char*>(&value) + sizeof(size_t), size - sizeof(size_t));
}

// Entry `i` of an array of structs: they lie as far apart as the caller's header says.
template <typename T>
T* struct_at(T* first, size_t i) {
  using Byte = std::conditional_t<std::is_const_v<T>, const unsigned char, unsigned char>;
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(first) + i * first->struct_size);
}

// Whether all entries of an array have the first one's size.
template <typename T>
[[nodiscard]] bool check_structs(const T* first, size_t count, const char* parameter, const char* name,
                                 Error& error) {
  for (size_t i = 0; i < count; i++) {
    if (!check_struct(struct_at(first, i), parameter, name, error)) return false;
    if (struct_at(first, i)->struct_size != first->struct_size) {
      return error.fail(GRT_ERROR_INPUT,
                        "%s[%zu]: expected a struct_size of %zu as the first has, found %zu: set up every "
                        "entry with %s_init",
                        parameter, i, first->struct_size, struct_at(first, i)->struct_size, name);
    }
  }
  return true;
}

}  // namespace grt
