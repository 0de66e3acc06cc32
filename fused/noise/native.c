/* Philox words, the normals and uniforms made from them, and sums of normal pairs, on a CPU.

   The formulas are those of philox.py, seeded.py, uniforms.py and normal_pairs.py. Words, uniforms
   and pairs have the bits of the numpy forms; log, sine and cosine are polynomials, so normals
   differ from them in the last place. There is no fused multiply-add (-ffp-contract=off) and every
   value is made by the same code in a whole vector, so the bits depend neither on the instruction
   set nor on where an element stands. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "arithmetic in more than the given precision changes the bits; numpy is used instead"
#endif

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#define __restrict__ __restrict
#endif

enum { WORDS, NORMALS, UNIFORMS };
/* blocks worked on at a time */
enum { LANES = 64 };
/* where the first of two floats is, read as one number */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
enum { FIRST = 32 };
#else
enum { FIRST = 0 };
#endif

typedef uint32_t Lanes[LANES];
typedef struct {
    int kind;
    int each;                      /* elements a block: 4, or 8 half words */
    Py_ssize_t rows, size;         /* size: elements a row */
    Py_ssize_t blocks;             /* blocks a row */
    const int64_t *keys, *last;    /* (2, rows); the fourth counter word of each row, or NULL */
    uint32_t stream, draw, fourth; /* fourth: that of all rows where last is NULL */
} Job;

#define ROUND(k0, k1)                                                                              \
    {                                                                                              \
        uint64_t p0 = (uint64_t)c0 * 0xD2511F53u, p1 = (uint64_t)c2 * 0xCD9E8D57u;                 \
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ (k0);                                                     \
        c1 = (uint32_t)p1;                                                                         \
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ (k1);                                                     \
        c3 = (uint32_t)p0;                                                                         \
    }
typedef void (*Philox)(Lanes *, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);
#define TEN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)

/* The words of LANES blocks of one row from counter ``first`` on. */
static void philox_row(Lanes *__restrict__ w, uint32_t first, uint32_t s, uint32_t d, uint32_t l,
                       uint32_t k0, uint32_t k1) {
    for (uint32_t i = 0; i < LANES; i++) {
        uint32_t c0 = first + i, c1 = s, c2 = d, c3 = l;
#define STEP(r) ROUND(k0 + r * 0x9E3779B9u, k1 + r * 0xBB67AE85u)
        TEN(STEP)
#undef STEP
        w[0][i] = c0, w[1][i] = c1, w[2][i] = c2, w[3][i] = c3;
    }
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
/* philox_row by hand, two sets of 64-bit lanes for the even and the odd blocks of a vector: a
   product reads the low half of a lane only, so what is left in the high halves does no harm. */
#define PHILOX_ROW(name, target, vector, width, xor3, mul, shr, shl, set64, join)                  \
    target static void name(Lanes *w, uint32_t first, uint32_t s, uint32_t d, uint32_t l,          \
                            uint32_t k0, uint32_t k1) {                                            \
        const vector m0 = set64(0xD2511F53u), m1 = set64(0xCD9E8D57u);                             \
        long long key[20];                                                                         \
        for (uint32_t r = 0; r < 10; r++)                                                          \
            key[2 * r] = k0 + r * 0x9E3779B9u, key[2 * r + 1] = k1 + r * 0xBB67AE85u;              \
        for (uint32_t i = 0; i < LANES; i += width) {                                              \
            uint32_t counter[width];                                                               \
            for (uint32_t j = 0; j < width; j++) counter[j] = first + i + j;                       \
            vector c[2][4];                                                                        \
            memcpy(&c[0][0], counter, sizeof counter);                                             \
            c[1][0] = shr(c[0][0], 32);                                                            \
            for (int h = 0; h < 2; h++)                                                            \
                c[h][1] = set64(s), c[h][2] = set64(d), c[h][3] = set64(l);                        \
            for (uint32_t r = 0; r < 10; r++) {                                                    \
                vector a = set64(key[2 * r]), b = set64(key[2 * r + 1]);                           \
                for (int h = 0; h < 2; h++) {                                                      \
                    vector p0 = mul(c[h][0], m0), p1 = mul(c[h][2], m1);                           \
                    c[h][0] = xor3(shr(p1, 32), c[h][1], a);                                       \
                    c[h][2] = xor3(shr(p0, 32), c[h][3], b);                                       \
                    c[h][1] = p1, c[h][3] = p0;                                                    \
                }                                                                                  \
            }                                                                                      \
            for (int j = 0; j < 4; j++) {                                                          \
                vector both = join(c[0][j], shl(c[1][j], 32));                                     \
                memcpy(&w[j][i], &both, sizeof both);                                              \
            }                                                                                      \
        }                                                                                          \
    }
#define XOR3_512(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#define XOR3_256(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define JOIN_512(a, b) _mm512_mask_blend_epi32(0xAAAA, a, b)
#define JOIN_256(a, b) _mm256_blend_epi32(a, b, 0xAA)
PHILOX_ROW(philox_row_avx512, AVX512, __m512i, 16, XOR3_512, _mm512_mul_epu32,
           _mm512_srli_epi64, _mm512_slli_epi64, _mm512_set1_epi64, JOIN_512)
PHILOX_ROW(philox_row_avx2, AVX2, __m256i, 8, XOR3_256, _mm256_mul_epu32, _mm256_srli_epi64,
           _mm256_slli_epi64, _mm256_set1_epi64x, JOIN_256)
#endif

/* The words of LANES blocks, each with a row of its own. */
INLINE void philox_any(Lanes *__restrict__ w, const uint32_t *__restrict__ first, uint32_t s,
                       uint32_t d, const uint32_t *__restrict__ l, const uint32_t *__restrict__ k0,
                       const uint32_t *__restrict__ k1) {
    for (uint32_t i = 0; i < LANES; i++) {
        uint32_t c0 = first[i], c1 = s, c2 = d, c3 = l[i], a = k0[i], b = k1[i];
#define STEP(r) ROUND(a + r * 0x9E3779B9u, b + r * 0xBB67AE85u)
        TEN(STEP)
#undef STEP
        w[0][i] = c0, w[1][i] = c1, w[2][i] = c2, w[3][i] = c3;
    }
}

INLINE uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

INLINE float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* sqrt(-2 log u) for u in (0, 1], u >= 2^-33: u = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), and
   log(1 + f) = f - f^2/2 + f^3 P(f), |f^2 error| <= 6e-9; e times the first part of log 2 is exact. */
INLINE float radius_of(float u) {
    uint32_t shifted = bits_of(u) + (0x3f800000u - 0x3f3504f3u);
    float e = (float)((int32_t)(shifted >> 23) - 127);
    float f = float_of((shifted & 0x7fffffu) + 0x3f3504f3u) - 1.0f, g = f * f;
    float p = -7.859629393e-02f;
    p = p * f + 1.288166791e-01f;
    p = p * f - 1.312875748e-01f;
    p = p * f + 1.418118924e-01f;
    p = p * f - 1.662455350e-01f;
    p = p * f + 2.000228614e-01f;
    p = p * f - 2.500081062e-01f;
    p = p * f + 3.333331645e-01f;
    float y = f * g * p + e * -2.12194440e-4f;
    y = f + (y - 0.5f * g) + e * 0.693359375f;
    return sqrtf(-2.0f * y);
}

/* Cosine and sine of 0 <= a <= 6.2831855: a = k pi/2 + r, |r| <= pi/4, where pi/2 has three parts
   and k times the first two is exact; polynomial errors are below 2e-9. */
INLINE void turn(float a, float *c, float *s) {
    int32_t k = (int32_t)(a * 0.636619772f + 0.5f);
    float n = (float)k;
    float r = ((a - n * 1.5703125f) - n * 4.837512969970703125e-4f) - n * 7.54978995489188e-8f;
    float q = r * r;
    float sine = r + r * q * (-1.666665077e-01f + q * (8.331978694e-03f - q * 1.949560246e-04f));
    float cosine = 4.166664556e-02f + q * (-1.388736768e-03f + q * 2.443841549e-05f);
    cosine = 1.0f - (0.5f * q - q * q * cosine);
    uint32_t odd = 0u - ((uint32_t)k & 1u), x = bits_of(cosine), y = bits_of(sine);
    uint32_t swap = (x ^ y) & odd;
    *c = float_of((x ^ swap) ^ ((((uint32_t)k + 1u) & 2u) << 30));
    *s = float_of((y ^ swap) ^ (((uint32_t)k & 2u) << 30));
}

INLINE float unit_of(uint32_t w) { return ((float)w + 0.5f) * 0x1p-32f; }

INLINE void normals_of(Lanes *__restrict__ w) {
    for (int j = 0; j < 4; j += 2) {
        for (int i = 0; i < LANES; i++) {
            float r = radius_of(unit_of(w[j][i])), c, s;
            turn(unit_of(w[j + 1][i]) * 6.28318530717958647692f, &c, &s);
            w[j][i] = bits_of(r * c);
            w[j + 1][i] = bits_of(r * s);
        }
    }
}

INLINE void uniforms_of(Lanes *__restrict__ w) {
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < LANES; i++)
            w[j][i] = bits_of(((float)(int32_t)(w[j][i] >> 9) + 0.5f) * 0x1p-23f);
}

/* What the blocks at, at + 1, ... hold, those of all rows counted through, into ``out``, LANES
   blocks; the number of blocks that count, none from ``end`` on. */
INLINE Py_ssize_t draw(const Job *job, Philox philox, uint32_t *__restrict__ out, Py_ssize_t at,
                       Py_ssize_t end) {
    Lanes w[4];
    Py_ssize_t row = at / job->blocks, col = at % job->blocks;
    Py_ssize_t many = end - at < LANES ? end - at : LANES;
    if (job->blocks >= LANES) {
        if (many > job->blocks - col) many = job->blocks - col;
        philox(w, (uint32_t)col, job->stream, job->draw,
               job->last ? (uint32_t)job->last[row] : job->fourth, (uint32_t)job->keys[row],
               (uint32_t)job->keys[job->rows + row]);
    } else {
        Lanes c = {0}, l = {0}, k0 = {0}, k1 = {0};
        for (int i = 0; i < many; i++) {
            c[i] = (uint32_t)col;
            l[i] = job->last ? (uint32_t)job->last[row] : job->fourth;
            k0[i] = (uint32_t)job->keys[row], k1[i] = (uint32_t)job->keys[job->rows + row];
            if (++col == job->blocks) col = 0, row++;
        }
        philox_any(w, c, job->stream, job->draw, l, k0, k1);
    }
    if (job->kind == NORMALS) normals_of(w);
    if (job->kind == UNIFORMS) uniforms_of(w);
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < 4; j++) out[4 * i + j] = w[j][i];
    return many;
}

/* Of ``left`` blocks from ``at`` on, those in its row: their number, their first element, and how
   many elements they have. */
INLINE Py_ssize_t stretch(const Job *job, Py_ssize_t at, Py_ssize_t left, Py_ssize_t *first,
                          Py_ssize_t *count) {
    Py_ssize_t row = at / job->blocks, col = at % job->blocks;
    Py_ssize_t n = left < job->blocks - col ? left : job->blocks - col;
    Py_ssize_t rest = job->size - job->each * col;
    *first = row * job->size + job->each * col;
    *count = job->each * n < rest ? job->each * n : rest;
    return n;
}

INLINE void fill_blocks(const Job *job, Philox philox, uint32_t *out, Py_ssize_t begin,
                        Py_ssize_t end) {
    uint32_t part[4 * LANES];
    Py_ssize_t many, n, first, count;
    for (Py_ssize_t at = begin; at < end; at += many) {
        many = draw(job, philox, part, at, end);
        for (Py_ssize_t i = 0; i < many; i += n) {
            n = stretch(job, at + i, many - i, &first, &count);
            memcpy(out + first, part + 4 * i, 4 * count);
        }
    }
}

/* A pair of normals of each element: c1 z1 + c2 z2, the normals from counter (., stream, draw,
   last), for the sum number ``target``. */
typedef struct {
    uint32_t stream, draw, last, target;
    double c1, c2;
} Term;

/* z += c1 first + c2 second, for the pairs that ``k`` picks; a pair of floats is read as one. */
INLINE void pick_f32(float *__restrict__ z, const void *pairs, const int32_t *__restrict__ k,
                     Py_ssize_t count, float c1, float c2) {
    const uint64_t *pair = pairs;
    for (Py_ssize_t e = 0; e < count; e++) {
        uint64_t both = pair[k[e]];
        uint32_t first = (uint32_t)(both >> FIRST), second = (uint32_t)(both >> (32 - FIRST));
        z[e] += float_of(first) * c1 + float_of(second) * c2;
    }
}

INLINE void pick_f64(double *__restrict__ z, const void *pairs, const int32_t *__restrict__ k,
                     Py_ssize_t count, double c1, double c2) {
    const double *pair = pairs;
    for (Py_ssize_t e = 0; e < count; e++) z[e] += pair[2 * k[e]] * c1 + pair[2 * k[e] + 1] * c2;
}

/* out += the pairs of the blocks begin .. end, all terms of LANES blocks before the next ones. Terms
   of one counter that follow each other share its words. */
INLINE void pair_blocks(Job job, Philox philox, const Term *terms, Py_ssize_t terms_end, int wide,
                        void *out, const void *pairs, Py_ssize_t begin, Py_ssize_t end) {
    uint32_t part[4 * LANES];
    int32_t half[8 * LANES];
    Py_ssize_t many = 0, n, first, count;
    for (Py_ssize_t at = begin; at < end; at += many) {
        for (const Term *t = terms; t < terms + terms_end; t++) {
            if (t == terms || memcmp(t, t - 1, 3 * sizeof t->stream)) {
                job.stream = t->stream, job.draw = t->draw, job.fourth = t->last;
                many = draw(&job, philox, part, at, end);
                for (int i = 0; i < 4 * LANES; i++)
                    half[2 * i] = part[i] & 0xffff, half[2 * i + 1] = part[i] >> 16;
            }
            for (Py_ssize_t i = 0; i < many; i += n) {
                n = stretch(&job, at + i, many - i, &first, &count);
                first += t->target * job.rows * job.size;
                if (wide)
                    pick_f64((double *)out + first, pairs, half + 8 * i, count, t->c1, t->c2);
                else
                    pick_f32((float *)out + first, pairs, half + 8 * i, count, (float)t->c1,
                             (float)t->c2);
            }
        }
    }
}

/* The same code for each instruction set: what is inlined is compiled for that of its caller. */
typedef struct {
    void (*fill)(const Job *, void *, Py_ssize_t, Py_ssize_t);
    void (*pairs)(const Job *, const Term *, Py_ssize_t, int, void *, const void *, Py_ssize_t,
                  Py_ssize_t);
} Version;
#define VERSION(name, target, philox)                                                              \
    target static void fill_##name(const Job *job, void *out, Py_ssize_t begin, Py_ssize_t end) {  \
        fill_blocks(job, philox, (uint32_t *)out, begin, end);                                     \
    }                                                                                              \
    target static void pairs_##name(const Job *job, const Term *terms, Py_ssize_t count, int wide, \
                                    void *out, const void *pairs, Py_ssize_t begin,                \
                                    Py_ssize_t end) {                                              \
        pair_blocks(*job, philox, terms, count, wide, out, pairs, begin, end);                     \
    }
#define NOTHING
VERSION(any, NOTHING, philox_row)
#if defined(__x86_64__) && defined(__GNUC__)
VERSION(avx2, AVX2, philox_row_avx2)
VERSION(avx512, AVX512, philox_row_avx512)
static const Version VERSIONS[] = {
    {fill_any, pairs_any}, {fill_avx2, pairs_avx2}, {fill_avx512, pairs_avx512}};
#else
static const Version VERSIONS[] = {{fill_any, pairs_any}};
#endif

/* How many of the versions this processor runs. */
static int usable(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2")) return 1;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? 3
               : 2;
#else
    return 1;
#endif
}

static const Version *version_of(int version) {
    if (version >= 0 && version < usable()) return &VERSIONS[version];
    PyErr_SetString(PyExc_ValueError, "no such version on this processor");
    return NULL;
}

/* fill(version, begin, end, kind, out, keys, last, rows, size, stream, draw, fourth): the blocks
   begin .. end of (rows, size) numbers; out, keys and last are addresses, last may be 0. */
static PyObject *fill(PyObject *self, PyObject *args) {
    Job job = {.each = 4};
    int version;
    Py_ssize_t begin, end;
    unsigned long long out, keys, last;
    unsigned long stream, number, fourth;
    if (!PyArg_ParseTuple(args, "inniKKKnnkkk", &version, &begin, &end, &job.kind, &out, &keys,
                          &last, &job.rows, &job.size, &stream, &number, &fourth))
        return NULL;
    const Version *chosen = version_of(version);
    if (!chosen) return NULL;
    job.keys = (const int64_t *)(uintptr_t)keys, job.last = (const int64_t *)(uintptr_t)last;
    job.stream = (uint32_t)stream, job.draw = (uint32_t)number, job.fourth = (uint32_t)fourth;
    job.blocks = (job.size + 3) / 4;
    Py_BEGIN_ALLOW_THREADS
    chosen->fill(&job, (void *)(uintptr_t)out, begin, end);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* add_pairs(version, begin, end, wide, out, keys, pairs, rows, size, terms): add the terms to the
   blocks begin .. end of (targets, rows, size) numbers, double where wide; out, keys and pairs are
   addresses, terms the bytes of an array of Term. */
static PyObject *add_pairs(PyObject *self, PyObject *args) {
    Job job = {.kind = WORDS, .each = 8};
    int version, wide;
    Py_ssize_t begin, end;
    unsigned long long out, keys, pairs;
    Py_buffer terms;
    if (!PyArg_ParseTuple(args, "inniKKKnny*", &version, &begin, &end, &wide, &out, &keys, &pairs,
                          &job.rows, &job.size, &terms))
        return NULL;
    const Version *chosen = version_of(version);
    if (chosen) {
        job.keys = (const int64_t *)(uintptr_t)keys;
        job.blocks = (job.size + 7) / 8;
        Py_BEGIN_ALLOW_THREADS
        chosen->pairs(&job, (const Term *)terms.buf, terms.len / (Py_ssize_t)sizeof(Term), wide,
                      (void *)(uintptr_t)out, (const void *)(uintptr_t)pairs, begin, end);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&terms);
    if (!chosen) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"fill", fill, METH_VARARGS, "Words, normals or uniforms; see native.py."},
    {"add_pairs", add_pairs, METH_VARARGS, "Sums of pairs of normals; see native.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, METHODS,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&MODULE);
    if (module && PyModule_AddIntConstant(module, "VERSIONS", usable())) return NULL;
    return module;
}
