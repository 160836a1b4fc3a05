/* A CUDA driver without a GPU, for the real bindings: it says that there is one of compute capability 9.0, whose memory is this
   process's. Kernels do not run: cuLaunchKernelEx writes down what it gets, in `launched`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t word;
enum { SUCCESS, INVALID_VALUE, INVALID_CONTEXT = 201, NOT_FOUND = 500 };

/* Functions that have nothing to do; that say one thing, in their first argument; make something, with a number of its own. */
#define NOTHING(name) int name(void) { return SUCCESS; }
#define SAYS(name, type, value) int name(type *result) { *result = (value); return SUCCESS; }
#define MAKES(name) SAYS(name, word, made += 16)
static word made = 0x10000;
static __thread word current;
enum { CONTEXT = 0x1000 };

NOTHING(cuInit) SAYS(cuDriverGetVersion, int, 13000)
SAYS(cuDeviceGetCount, int, 1) SAYS(cuDeviceGet, int, 0) SAYS(cuDeviceTotalMem_v2, size_t, 80ull << 30)
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "no GPU"); return SUCCESS; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 7, 16); return SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    static const int known[256] = {[1] = 1024, [2] = 1024, [3] = 1024, [4] = 64, [5] = 0x7fffffff, [6] = 65535, [7] = 65535,
        [8] = 49152, [10] = 32, [12] = 65536, [16] = 132, [39] = 2048, [75] = 9, [81] = 233472, [82] = 65536, [97] = 232448};
    *value = attribute < 256 ? known[attribute] : 0;
    return SUCCESS;
}

SAYS(cuDevicePrimaryCtxRetain, word, CONTEXT) NOTHING(cuDevicePrimaryCtxRelease_v2)
SAYS(cuCtxGetCurrent, word, current) SAYS(cuStreamGetCtx, word, CONTEXT) NOTHING(cuCtxSynchronize)
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0, *active = 1; return SUCCESS; }
int cuCtxSetCurrent(word context) { current = context; return SUCCESS; }
int cuCtxPushCurrent_v2(word context) { current = context; return SUCCESS; }
int cuCtxPopCurrent_v2(word *context) { *context = current, current = 0; return SUCCESS; }
int cuCtxGetDevice(int *device) { *device = 0; return current ? SUCCESS : INVALID_CONTEXT; }

int cuMemGetInfo_v2(size_t *unused, size_t *all) { *unused = *all = 80ull << 30; return SUCCESS; }
int cuMemAlloc_v2(word *at, size_t size) { *at = (word)aligned_alloc(512, (size / 512 + 1) * 512); return SUCCESS; }
int cuMemFree_v2(word at) { free((void *)at); return SUCCESS; }
#define COPIES(name) int name(word to, word from, size_t size) { memcpy((void *)to, (void *)from, size); return SUCCESS; }
COPIES(cuMemcpyHtoD_v2) COPIES(cuMemcpyDtoH_v2) COPIES(cuMemcpyDtoD_v2)
COPIES(cuMemcpyHtoDAsync_v2) COPIES(cuMemcpyDtoHAsync_v2) COPIES(cuMemcpyDtoDAsync_v2)
SAYS(cuPointerGetAttribute, int, 0) /* the device */

MAKES(cuStreamCreate) NOTHING(cuStreamDestroy_v2) NOTHING(cuStreamSynchronize) NOTHING(cuStreamWaitEvent)
int cuStreamIsCapturing(word stream, int *status) { *status = 0; return SUCCESS; }
NOTHING(cuThreadExchangeStreamCaptureMode)
MAKES(cuEventCreate) NOTHING(cuEventRecord) NOTHING(cuEventSynchronize) NOTHING(cuEventQuery) NOTHING(cuEventDestroy_v2)

MAKES(cuLibraryLoadData) MAKES(cuLibraryGetKernel) NOTHING(cuLibraryUnload)
struct { word kernel; int grid[3], block[3], shared; word stream, first; } launched[4096];
int launches;
static int granted[1 << 16]; /* bytes of shared memory, of each kernel */
int cuKernelGetAttribute(int *value, int attribute, word kernel, int device) { *value = 0; return SUCCESS; }
int cuKernelSetAttribute(int attribute, int value, word kernel, int device) {
    granted[kernel / 16 % (1 << 16)] = value;
    return SUCCESS;
}
int cuLaunchKernel(word kernel, int gx, int gy, int gz, int bx, int by, int bz, int shared, word stream, word **words) {
    int most = granted[kernel / 16 % (1 << 16)], one = launches++ % 4096;
    if (gx < 1 || bx * by * bz > 1024 || shared > (most > 49152 ? most : 49152)) return INVALID_VALUE;
    launched[one].kernel = kernel, launched[one].shared = shared, launched[one].stream = stream, launched[one].first = *words[0];
    memcpy(launched[one].grid, (int[]){gx, gy, gz}, 12), memcpy(launched[one].block, (int[]){bx, by, bz}, 12);
    return SUCCESS;
}
struct configuration { int grid[3], block[3], shared; word stream; void *attributes; unsigned count; };
int cuLaunchKernelEx(struct configuration *c, word kernel, word **words, void *more) {
    if (c->attributes || c->count || more) return INVALID_VALUE;
    return cuLaunchKernel(kernel, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2], c->shared, c->stream, words);
}

/* As the real ones these refuse memory for the map that is not aligned, and what maps have no room for. */
static int encode(word map, unsigned rank, word array, word *strides) {
    if (map % 64 || array % 16) return INVALID_VALUE;
    for (unsigned i = 0; i + 1 < rank; i++) if (strides[i] % 16 || strides[i] >> 40) return INVALID_VALUE;
    memset((void *)map, 0xff, 128);
    return SUCCESS;
}
int cuTensorMapEncodeIm2col(word map, int type, unsigned rank, word array, word *sizes, word *strides, int *lower, int *upper,
        unsigned channels, unsigned pixels, unsigned *steps, int interleave, int swizzle, int l2, int fill) {
    return channels > 256 || pixels > 1024 || swizzle != 3 || fill ? INVALID_VALUE : encode(map, rank, array, strides);
}
int cuTensorMapEncodeTiled(word map, int type, unsigned rank, word array, word *sizes, word *strides, unsigned *box,
        unsigned *steps, int interleave, int swizzle, int l2, int fill) {
    return box[0] > 256 || box[rank - 1] > 256 || swizzle != 3 || fill ? INVALID_VALUE : encode(map, rank, array, strides);
}

int cuGetErrorName(int error, const char **text) { *text = "AN_ERROR"; return SUCCESS; }
int cuGetErrorString(int error, const char **text) { *text = "an error"; return SUCCESS; }

/* The newest version of a function. */
int cuGetProcAddress_v2(const char *name, void **function, int version, word flags, int *status) {
    Dl_info here;
    char newer[256];
    dladdr((void *)cuInit, &here);
    void *self = dlopen(here.dli_fname, RTLD_LAZY);
    snprintf(newer, sizeof newer, "%s_v2", name);
    if (!(*function = dlsym(self, newer))) *function = dlsym(self, name);
    if (status) *status = !*function;
    return *function ? SUCCESS : NOT_FOUND;
}
int cuGetProcAddress(const char *name, void **function, int version, word flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
