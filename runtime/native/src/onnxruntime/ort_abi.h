/*
 * What we use of ONNX Runtime's C API, declared by ourselves: nothing of it is needed to build.
 *
 * The library exports one function, OrtGetApiBase. It gives a table of functions that only ever grows at its
 * end, so a place in it means the same in all versions that have it: the numbers below.
 */
#ifndef GRT_ORT_ABI_H
#define GRT_ORT_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define GRT_ORT_CALL __stdcall
typedef wchar_t OrtPathChar;
#else
#define GRT_ORT_CALL
typedef char OrtPathChar;
#endif

/* Of the API, not of the library: the newest whose table was looked at, and the oldest that has all functions
 * below. 1.24.1 is also the first without a known hole in how it reads the files that a graph names. */
#define GRT_ORT_NEWEST_API 29
#define GRT_ORT_OLDEST_API 24
#define GRT_ORT_OLDEST_PATCH 1

typedef struct OrtStatus OrtStatus; /* NULL: it went well */
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtEpDevice OrtEpDevice;
typedef struct OrtEpAssignedSubgraph OrtEpAssignedSubgraph;
typedef struct OrtEpAssignedNode OrtEpAssignedNode;
typedef struct OrtCUDAProviderOptionsV2 OrtCUDAProviderOptionsV2;
typedef struct OrtTensorRTProviderOptionsV2 OrtTensorRTProviderOptionsV2;

enum { GRT_ORT_LOG_FATAL = 4 };
enum { GRT_ORT_DEVICE_ALLOCATOR = 0, GRT_ORT_MEMORY_DEFAULT = 0 };

/* Element types are numbered as in ONNX's TensorProto. */
enum {
  GRT_ONNX_FLOAT32 = 1,
  GRT_ONNX_UINT8 = 2,
  GRT_ONNX_INT8 = 3,
  GRT_ONNX_INT64 = 7,
  GRT_ONNX_BOOL = 9,
  GRT_ONNX_FLOAT16 = 10,
  GRT_ONNX_BFLOAT16 = 16
};

typedef void(GRT_ORT_CALL* OrtFunction)(void);

typedef struct OrtApiBase {
  const OrtFunction*(GRT_ORT_CALL* GetApi)(uint32_t version); /* the table; NULL: no such version */
  const char*(GRT_ORT_CALL* GetVersionString)(void);          /* such as "1.24.1" */
} OrtApiBase;

typedef const OrtApiBase*(GRT_ORT_CALL* OrtGetApiBaseFunction)(void);

/* X(place in the table, name, result, parameters) */
#define GRT_ORT_FUNCTIONS(X)                                                                                 \
  X(2, GetErrorMessage, const char*, (const OrtStatus*))                                                     \
  X(3, CreateEnv, OrtStatus*, (int level, const char* name, OrtEnv** out))                                   \
  X(6, DisableTelemetryEvents, OrtStatus*, (const OrtEnv*))                                                  \
  X(8, CreateSessionFromArray, OrtStatus*,                                                                   \
    (const OrtEnv*, const void* model, size_t size, const OrtSessionOptions*, OrtSession** out))             \
  X(9, Run, OrtStatus*,                                                                                      \
    (OrtSession*, const OrtRunOptions*, const char* const* input_names, const OrtValue* const* inputs,       \
     size_t num_inputs, const char* const* output_names, size_t num_outputs, OrtValue** outputs))            \
  X(10, CreateSessionOptions, OrtStatus*, (OrtSessionOptions * *out))                                        \
  X(22, SetSessionLogSeverityLevel, OrtStatus*, (OrtSessionOptions*, int level))                             \
  X(24, SetIntraOpNumThreads, OrtStatus*, (OrtSessionOptions*, int))                                         \
  X(25, SetInterOpNumThreads, OrtStatus*, (OrtSessionOptions*, int))                                         \
  X(30, SessionGetInputCount, OrtStatus*, (const OrtSession*, size_t* out))                                  \
  X(31, SessionGetOutputCount, OrtStatus*, (const OrtSession*, size_t* out))                                 \
  X(33, SessionGetInputTypeInfo, OrtStatus*, (const OrtSession*, size_t index, OrtTypeInfo** out))           \
  X(34, SessionGetOutputTypeInfo, OrtStatus*, (const OrtSession*, size_t index, OrtTypeInfo** out))          \
  X(36, SessionGetInputName, OrtStatus*, (const OrtSession*, size_t index, OrtAllocator*, char** out))       \
  X(37, SessionGetOutputName, OrtStatus*, (const OrtSession*, size_t index, OrtAllocator*, char** out))      \
  X(39, CreateRunOptions, OrtStatus*, (OrtRunOptions * *out))                                                \
  X(41, RunOptionsSetRunLogSeverityLevel, OrtStatus*, (OrtRunOptions*, int level))                           \
  X(49, CreateTensorWithDataAsOrtValue, OrtStatus*,                                                          \
    (const OrtMemoryInfo*, void* data, size_t size, const int64_t* shape, size_t rank, int type,             \
     OrtValue** out))                                                                                        \
  X(55, CastTypeInfoToTensorInfo, OrtStatus*, (const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo** out))   \
  X(60, GetTensorElementType, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int* out))                      \
  X(61, GetDimensionsCount, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, size_t* out))                     \
  X(62, GetDimensions, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int64_t* out, size_t rank))            \
  X(69, CreateCpuMemoryInfo, OrtStatus*, (int allocator_type, int memory_type, OrtMemoryInfo** out))         \
  X(76, AllocatorFree, OrtStatus*, (OrtAllocator*, void*))                                                   \
  X(78, GetAllocatorWithDefaultOptions, OrtStatus*, (OrtAllocator * *out))                                   \
  X(92, ReleaseEnv, void, (OrtEnv*))                                                                         \
  X(93, ReleaseStatus, void, (OrtStatus*))                                                                   \
  X(94, ReleaseMemoryInfo, void, (OrtMemoryInfo*))                                                           \
  X(95, ReleaseSession, void, (OrtSession*))                                                                 \
  X(96, ReleaseValue, void, (OrtValue*))                                                                     \
  X(97, ReleaseRunOptions, void, (OrtRunOptions*))                                                           \
  X(98, ReleaseTypeInfo, void, (OrtTypeInfo*))                                                               \
  X(100, ReleaseSessionOptions, void, (OrtSessionOptions*))                                                  \
  X(125, GetAvailableProviders, OrtStatus*, (char*** out, int* count))                                       \
  X(126, ReleaseAvailableProviders, OrtStatus*, (char**, int count))                                         \
  X(130, AddSessionConfigEntry, OrtStatus*, (OrtSessionOptions*, const char* key, const char* value))        \
  X(170, SessionOptionsAppendExecutionProvider_TensorRT_V2, OrtStatus*,                                      \
    (OrtSessionOptions*, const OrtTensorRTProviderOptionsV2*))                                               \
  X(171, CreateTensorRTProviderOptions, OrtStatus*, (OrtTensorRTProviderOptionsV2 * *out))                   \
  X(174, ReleaseTensorRTProviderOptions, void, (OrtTensorRTProviderOptionsV2*))                              \
  X(204, SessionOptionsAppendExecutionProvider_CUDA_V2, OrtStatus*,                                          \
    (OrtSessionOptions*, const OrtCUDAProviderOptionsV2*))                                                   \
  X(205, CreateCUDAProviderOptions, OrtStatus*, (OrtCUDAProviderOptionsV2 * *out))                           \
  X(208, ReleaseCUDAProviderOptions, void, (OrtCUDAProviderOptionsV2*))                                      \
  X(210, AddExternalInitializers, OrtStatus*,                                                                \
    (OrtSessionOptions*, const char* const* names, const OrtValue* const* values, size_t count))             \
  X(216, SessionOptionsAppendExecutionProvider, OrtStatus*,                                                  \
    (OrtSessionOptions*, const char* name, const char* const* keys, const char* const* values,               \
     size_t num_keys))                                                                                       \
  X(301, RegisterExecutionProviderLibrary, OrtStatus*, (OrtEnv*, const char* name, const OrtPathChar* path)) \
  X(303, GetEpDevices, OrtStatus*, (const OrtEnv*, const OrtEpDevice* const** out, size_t* count))           \
  X(304, SessionOptionsAppendExecutionProvider_V2, OrtStatus*,                                               \
    (OrtSessionOptions*, OrtEnv*, const OrtEpDevice* const* devices, size_t num_devices,                     \
     const char* const* keys, const char* const* values, size_t num_keys))                                   \
  X(312, EpDevice_EpName, const char*, (const OrtEpDevice*))                                                 \
  X(407, Session_GetEpGraphAssignmentInfo, OrtStatus*,                                                       \
    (const OrtSession*, const OrtEpAssignedSubgraph* const** out, size_t* count))                            \
  X(408, EpAssignedSubgraph_GetEpName, OrtStatus*, (const OrtEpAssignedSubgraph*, const char** out))         \
  X(409, EpAssignedSubgraph_GetNodes, OrtStatus*,                                                            \
    (const OrtEpAssignedSubgraph*, const OrtEpAssignedNode* const** out, size_t* count))

#endif /* GRT_ORT_ABI_H */
