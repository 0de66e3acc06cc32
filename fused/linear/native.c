/* One pass over memory for one linear step: outputs[j] = sum_t c_t inputs[i_t].

   Elements are treated in blocks that stay in the first-level cache, so every input is read from
   memory once and every output written once. The accumulator is float, or double where one of the
   tensors is double; terms are added in the order given, each by one fused multiply-add where the
   processor has it; the sum is rounded to the output once. These are the bits of eager.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#define __restrict__ __restrict
#endif

enum { F32, BF16, F16, F64, TYPES };
enum { BLOCK = 2048, MOST = 64 };
static const int SIZE[TYPES] = {4, 2, 2, 8};

INLINE float from_bf16(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

INLINE uint16_t to_bf16(float f) { /* to nearest, ties to even; a NaN stays one */
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (u & 0x7fffffffu) > 0x7f800000u ? (uint16_t)0x7fc0u : (uint16_t)rounded;
}

#define READ(x) (x)
#define FIRST(name, acc, type, read)                                                               \
    INLINE void name(acc *__restrict__ a, const type *__restrict__ x, acc c, Py_ssize_t n) {       \
        for (Py_ssize_t i = 0; i < n; i++) a[i] = c * (acc)read(x[i]);                             \
    }
#define NEXT(name, acc, type, read)                                                                \
    INLINE void name(acc *__restrict__ a, const type *__restrict__ x, acc c, Py_ssize_t n) {       \
        for (Py_ssize_t i = 0; i < n; i++) a[i] += c * (acc)read(x[i]);                            \
    }
FIRST(first_f32, float, float, READ)
NEXT(next_f32, float, float, READ)
FIRST(first_bf16, float, uint16_t, from_bf16)
NEXT(next_bf16, float, uint16_t, from_bf16)
FIRST(first_d32, double, float, READ)
NEXT(next_d32, double, float, READ)
FIRST(first_d16, double, uint16_t, from_bf16)
NEXT(next_d16, double, uint16_t, from_bf16)
FIRST(first_f64, double, double, READ)
NEXT(next_f64, double, double, READ)
#ifdef __FLT16_MAX__
FIRST(first_f16, float, _Float16, READ)
NEXT(next_f16, float, _Float16, READ)
FIRST(first_dh, double, _Float16, READ)
NEXT(next_dh, double, _Float16, READ)
INLINE void round_f16(_Float16 *__restrict__ out, const float *__restrict__ a, Py_ssize_t n) {
    for (Py_ssize_t i = 0; i < n; i++) out[i] = (_Float16)a[i];
}
#endif

INLINE void round_bf16(uint16_t *__restrict__ out, const float *__restrict__ a, Py_ssize_t n) {
    for (Py_ssize_t i = 0; i < n; i++) out[i] = to_bf16(a[i]);
}

#define ADD(first_of, next_of, type)                                                               \
    do {                                                                                           \
        if (first) first_of(a, (const type *)x, c, n);                                             \
        else next_of(a, (const type *)x, c, n);                                                    \
    } while (0)

INLINE void add_float(float *a, const char *x, int kind, float c, int first, Py_ssize_t n) {
    if (kind == F32) ADD(first_f32, next_f32, float);
    else if (kind == BF16) ADD(first_bf16, next_bf16, uint16_t);
#ifdef __FLT16_MAX__
    else ADD(first_f16, next_f16, _Float16);
#endif
}

INLINE void add_double(double *a, const char *x, int kind, double c, int first, Py_ssize_t n) {
    if (kind == F64) ADD(first_f64, next_f64, double);
    else if (kind == F32) ADD(first_d32, next_d32, float);
    else if (kind == BF16) ADD(first_d16, next_d16, uint16_t);
#ifdef __FLT16_MAX__
    else ADD(first_dh, next_dh, _Float16);
#endif
}

typedef struct {
    int32_t input; /* -1 begins the terms of the next output */
    int32_t unused;
    double c;
} Term;

typedef struct {
    char *at;
    int type;
} Place;

INLINE void block(const Term *terms, Py_ssize_t count, const Place *in, const Place *out,
                  Py_ssize_t begin, Py_ssize_t n) {
    float wide[BLOCK];
    Py_ssize_t t = 0;
    for (int j = 0; t < count; j++) {
        const Place *o = &out[j];
        char *target = o->at + begin * SIZE[o->type];
        int whole = o->type == F32 || o->type == F64, first = 1;
        float *a = whole ? (float *)target : wide;
        for (t++; t < count && terms[t].input >= 0; t++, first = 0) {
            const Place *i = &in[terms[t].input];
            const char *x = i->at + begin * SIZE[i->type];
            if (o->type == F64) {
                add_double((double *)target, x, i->type, terms[t].c, first, n);
            } else {
                add_float(a, x, i->type, (float)terms[t].c, first, n);
            }
        }
        if (first) memset(o->type == F64 ? target : (char *)a, 0, n * (o->type == F64 ? 8 : 4));
        if (o->type == BF16) round_bf16((uint16_t *)target, wide, n);
#ifdef __FLT16_MAX__
        if (o->type == F16) round_f16((_Float16 *)target, wide, n);
#endif
    }
}

/* The same code for each instruction set: what is inlined is compiled for that of its caller. */
#define VERSION(name, target)                                                                      \
    target static void name(const Term *terms, Py_ssize_t count, const Place *in,                  \
                            const Place *out, Py_ssize_t begin, Py_ssize_t end) {                  \
        for (Py_ssize_t at = begin; at < end; at += BLOCK)                                         \
            block(terms, count, in, out, at, end - at < BLOCK ? end - at : BLOCK);                 \
    }
typedef void (*Run)(const Term *, Py_ssize_t, const Place *, const Place *, Py_ssize_t, Py_ssize_t);
#define NOTHING
VERSION(run_any, NOTHING)
#if defined(__x86_64__) && defined(__GNUC__)
VERSION(run_avx2, __attribute__((target("avx2,fma,f16c"))))
VERSION(run_avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c"))))
#endif
static Run run = run_any;

static void choose(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        run = run_avx512;
    } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        run = run_avx2;
    }
#endif
}

/* step(terms, begin, end, inputs, address, type, ..., address, type): the elements begin .. end of a
   step; the tensors are dense and of one shape, the first ``inputs`` of them are read. */
static PyObject *step(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    Place places[MOST];
    Py_buffer view;
    Py_ssize_t tensors = (nargs - 4) / 2;
    if (nargs < 6 || tensors > MOST || PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "wrong number of tensors");
        return NULL;
    }
    Py_ssize_t begin = PyLong_AsSsize_t(args[1]), end = PyLong_AsSsize_t(args[2]);
    Py_ssize_t inputs = PyLong_AsSsize_t(args[3]);
    for (Py_ssize_t i = 0; i < tensors; i++) {
        places[i].at = (char *)PyLong_AsVoidPtr(args[4 + 2 * i]);
        places[i].type = (int)PyLong_AsLong(args[5 + 2 * i]);
    }
    if (PyErr_Occurred()) {
        PyBuffer_Release(&view);
        return NULL;
    }
    const Term *terms = (const Term *)view.buf;
    Py_ssize_t count = view.len / (Py_ssize_t)sizeof(Term);
    Py_BEGIN_ALLOW_THREADS
    run(terms, count, places, places + inputs, begin, end);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"step", (PyCFunction)(void (*)(void))step, METH_FASTCALL, "One linear step; see native.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, METHODS,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    choose();
    PyObject *module = PyModule_Create(&MODULE);
#ifdef __FLT16_MAX__
    if (module && PyModule_AddIntConstant(module, "HALF", 1)) return NULL;
#else
    if (module && PyModule_AddIntConstant(module, "HALF", 0)) return NULL;
#endif
    return module;
}
