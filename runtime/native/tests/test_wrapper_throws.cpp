// test_wrapper.cpp with exceptions, which tests have off otherwise.

#if !defined(__cpp_exceptions)
#error "expected to be compiled with -fexceptions"
#endif

#include "test_wrapper.cpp"
