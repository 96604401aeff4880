// The header of safetensors: what is read, and what is refused; and the search for numbers that are none.
#include "support/safetensors.hpp"

#include <cmath>
#include <cstring>
#include <string>

#include "check.hpp"

namespace {

std::string file(const std::string& header, size_t data_bytes) {
  std::string whole;
  for (int i = 0; i < 8; i++) whole += static_cast<char>(uint64_t{header.size()} >> (8 * i) & 255);
  return whole + header + std::string(data_bytes, '\1');
}

bool parse(const std::string& bytes, grt::StoredTensors& stored, grt::Error& error) {
  const uint8_t* data = reinterpret_cast<const uint8_t*>(bytes.data());
  return stored.parse(data, bytes.size(), bytes.size(), grt::Allocator(), error);
}

void refuses(const std::string& bytes, const char* part) {
  grt::StoredTensors stored;
  grt::Error error;
  if (!GRT_CHECK(!parse(bytes, stored, error))) std::fprintf(stderr, "    %.100s\n", bytes.c_str() + 8);
  GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_BUNDLE));
  GRT_CHECK_CONTAINS(error.message, part);
  GRT_CHECK_EQ(stored.tensors.size(), size_t{0});
}

// A tensor "a" of four bytes whose entry is changed.
void refuses_entry(const std::string& entry, const char* part) {
  refuses(file("{\"a\":" + entry + "}", 4), part);
}

void taken() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
      R"("a":{"shape":[],"data_offsets":[0,4],"dtype":"F32"},)"
      R"("empty":{"dtype":"F32","shape":[5,0],"data_offsets":[4,4]},)"
      R"("deep":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1],"data_offsets":[16,20]}} )";
  grt::StoredTensors stored;
  grt::Error error;
  if (!GRT_CHECK(parse(file(header, 20), stored, error))) std::fprintf(stderr, "    %s\n", error.message);
  GRT_REQUIRE(stored.tensors.size() == 4);
  const uint64_t start = 8 + header.size();
  GRT_CHECK(stored.tensors[0].name.is("a") && stored.tensors[0].rank == 0 && !stored.tensors[0].is_bf16);
  GRT_CHECK(stored.tensors[0].offset == start && stored.tensors[0].length == 4);
  GRT_CHECK(stored.tensors[1].name.is("empty") && stored.tensors[1].length == 0);
  GRT_CHECK(stored.tensors[2].name.is("b") && stored.tensors[2].is_bf16 && stored.tensors[2].rank == 2);
  GRT_CHECK(stored.tensors[2].shape[0] == 2 && stored.tensors[2].shape[1] == 3);
  GRT_CHECK(stored.tensors[2].offset == start + 4 && stored.tensors[2].length == 12);
  GRT_CHECK(stored.tensors[3].name.is("deep") && stored.tensors[3].rank == 8);
  grt::StoredTensors none;
  GRT_CHECK(parse(file("{}", 0), none, error) && none.tensors.size() == 0);
}

void refused() {
  refuses("", "a header of 0 bytes in a file of 0");
  refuses(std::string(7, '\0'), "a header of 0 bytes in a file of 7");
  refuses(file("{}", 0).substr(0, 9), "a header of 2 bytes in a file of 9");
  refuses(std::string(8, '\xff') + "{}", "a header of 18446744073709551615 bytes");
  refuses(std::string("\0\0\0\0\1\0\0\0{}", 10), "a header of 4294967296 bytes");
  refuses(file(std::string(4194305, ' '), 0), "a header of 4194305 bytes");
  refuses(file("", 0), "a header that is no JSON");
  refuses(file("[]", 0), "a header that is no object");
  refuses(file("{\"a\":1,\"a\":2}", 0), "the key 'a' more than once");
  refuses(file("{}", 1), "tensors up to byte 10 in a file of 11");
  refuses(file("{\"__metadata__\":5}", 1), "tensors up to byte");
  refuses_entry("5", "'a' without dtype, shape and data_offsets, and these alone");
  refuses_entry("{}", "without dtype");
  refuses_entry(R"({"dtype":"F32","shape":[1]})", "without dtype");
  refuses_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1})", "and these alone");
  refuses_entry(R"({"dtype":"F32","shape":[1],"offsets":[0,4]})", "without dtype");
  for (const char* dtype :
       {"\"F64\"", "\"f32\"", "\"\"", "\"F32\\u0000\"", "null", "5", "[\"F32\"]", "\"F16\""}) {
    refuses_entry(std::string("{\"dtype\":") + dtype + R"(,"shape":[1],"data_offsets":[0,4]})",
                  "expected dtype F32 or BF16, found ");
  }
  for (const char* shape : {"1", "null", "{}", "[1.0]", "[\"1\"]", "[true]", "[-1]", "[281474976710656]",
                            "[18446744073709551617]", "[1,1,1,1,1,1,1,1,1]", "[[1]]"}) {
    refuses_entry(std::string("{\"dtype\":\"F32\",\"shape\":") + shape + R"(,"data_offsets":[0,4]})",
                  "a shape that is none");
  }
  for (const char* place : {"4", "null", "{}", "[0]", "[]", "[0,4,4]", "[0.0,4]", "[true,4]", "[-4,0]",
                            "[0,\"4\"]", "[0,9223372036854775808]", "{\"0\":0,\"4\":4}"}) {
    refuses_entry(std::string(R"({"dtype":"F32","shape":[1],"data_offsets":)") + place + "}",
                  "data_offsets that are no two places");
  }
  for (const char* shape : {"[]", "[0]", "[281474976710655,281474976710655]", "[4294967296,4294967296]",
                            "[16777216,16777216,16777216,16777216,16777216,16777216,16777216,16777216]"}) {
    refuses_entry(std::string("{\"dtype\":\"BF16\",\"shape\":") + shape + R"(,"data_offsets":[0,4]})",
                  "for a shape that has others in BF16");
  }
  refuses_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", "-4 bytes");
  refuses_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", "'a' at byte");
  refuses_entry(R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})", "tensors up to byte");
  const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  refuses(file("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
          "the one before it");
  refuses(file("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})", 12), "'b' at byte");
  refuses(file("{" + a + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]}})", 10), "'b' at byte");
  refuses(file("{" + a + "}", 3), "tensors up to byte");
}

void not_finite() {
  uint8_t data[40];
  const float good = -3.0e38f;
  for (size_t i = 0; i < 10; i++) std::memcpy(data + 4 * i, &good, 4);
  GRT_CHECK_EQ(grt::count_not_finite(data, 40, false), size_t{0});
  GRT_CHECK_EQ(grt::count_not_finite(data, 0, false), size_t{0});
  for (size_t i = 0; i < 10; i++) {
    for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
      std::memcpy(data + 4 * i, &bad, 4);
      GRT_CHECK_EQ(grt::count_not_finite(data, 40, false), size_t{1});
      GRT_CHECK_EQ(grt::count_not_finite(data, 4 * i, false), size_t{0});
      GRT_CHECK_EQ(grt::count_not_finite(data + 4 * i, 4, false), size_t{1});
      std::memcpy(data + 4 * i, &good, 4);
    }
  }
  const uint16_t large = 0xFF7F;  // the largest of BF16, below 0
  for (size_t i = 0; i < 20; i++) std::memcpy(data + 2 * i, &large, 2);
  GRT_CHECK_EQ(grt::count_not_finite(data, 40, true), size_t{0});
  for (size_t i = 0; i < 20; i++) {
    for (const uint16_t bad : {0x7F80, 0xFF80, 0x7FC0, 0xFFFF, 0x7F81}) {
      std::memcpy(data + 2 * i, &bad, 2);
      GRT_CHECK_EQ(grt::count_not_finite(data, 40, true), size_t{1});
      GRT_CHECK_EQ(grt::count_not_finite(data, 2 * i, true), size_t{0});
      std::memcpy(data + 2 * i, &large, 2);
    }
  }
  std::memset(data, 0xFF, sizeof data);
  GRT_CHECK_EQ(grt::count_not_finite(data, 38, true), size_t{19});
  GRT_CHECK_EQ(grt::count_not_finite(data, 36, false), size_t{9});
}

}  // namespace

int main() {
  taken();
  refused();
  not_finite();
  return grt::test::failures();
}
