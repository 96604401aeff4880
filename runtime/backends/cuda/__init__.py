"""The `cuda` back end: Triton kernels and cuBLAS over static memory, one CUDA graph a frame."""
