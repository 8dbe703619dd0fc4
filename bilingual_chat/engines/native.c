/* One layer of GPT-NeoX for a few rows on a CPU, and its output head: what engines/native compiles and calls.

   Single-token steps are limited by how fast weights come from memory, so everything else has to hide behind that:
   a layer is one call, its matrices are read once for all rows, 8-bit weights are multiplied as they are, and 4-bit
   ones are widened in registers.
   Each row's numbers are added up in the same order however many rows there are: a row's result does not depend on
   its neighbours, bit for bit, which is what lets several tokens be tried in one pass without changing a reply.

   Activations are float32; where the processor multiplies bfloat16 (AVX512_BF16) they are rounded to that before each
   matrix in 16 or 4 bits, as the model's own arithmetic does, and added up in float32. Before a matrix in 8 bits they
   are rounded to integers of 16 bits, or of 8 where that is asked for; those products are added up exactly.
   C11 with the vector extensions of GCC and Clang, and POSIX threads. */

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__AVX512BF16__) && defined(__AVX512VBMI__)
#define PAIRS 1 /* bfloat16 products in pairs */
#else
#define PAIRS 0
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define FOURS 1 /* products of bytes in fours */
#else
#define FOURS 0
#endif

#define LANES 16  /* numbers in a vector */
#define STEP 64   /* columns a step */
#define GROUP 32  /* numbers in a vector of bfloat16; 4-bit weights that share a level */
#define OUTPUTS 4 /* rows of a matrix at a time */
#define ROWS 6    /* rows of activations at a time */
#define TURNED 256 /* columns, at most, that are mixed with each other before 8 bits */
#define MOST_BYTES 8 /* rows of bytes at a time */
#define NEAR 24576 /* bytes of activations, in the first cache beside weights on their way */
#define CHUNK 32  /* rows of a matrix that a thread takes at a time */
#define SOON 32 /* positions */
#define MOST_PARTS 4 /* times 32 numbers of a value at a time */
#define TOGETHER 8 /* rows of a sequence that look at its keys and values at a time */
#define COMPARED 8 /* of these, rows that are compared with a key at a time */
#define INLINE static inline __attribute__((always_inline))

enum kind { FLOAT32, BFLOAT16, INT8, INT4 };
enum activation { GELU, GELU_TANH, RELU };

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));
typedef int8_t bytes __attribute__((vector_size(16)));
typedef uint8_t ubytes __attribute__((vector_size(16)));
typedef uint16_t bf16;

/* A matrix (rows, columns). FLOAT32 and BFLOAT16 by rows. INT8 and INT4 in blocks of 64 columns, and of these the ones
   of 4 rows side by side, so that memory is read in one go. INT8: each plus 128; of a matrix that was turned (see
   `turn`). INT4: byte i holds column i in its low half and column 32 + i in its high half, each plus 8; 32 columns
   share one of 256 levels, two for each block. Both: times one float32 a row. */
struct matrix {
    const void *numbers;
    const uint8_t *levels;
    const float *scales;
    const float *bias; /* or NULL */
    int64_t rows, columns;
    int32_t kind;
    int32_t parts; /* INT8: bytes of an activation, 1 or 2 */
};

struct layer {
    struct matrix qkv, dense, up, down;
    const float *norm[4]; /* weight and bias before attention, weight and bias before the MLP */
};

struct shape {
    int32_t hidden, heads, head_size, wide, rotary_dims, parallel, activation;
    int32_t narrow;        /* whether activations are rounded to bfloat16; only where it is multiplied */
    int32_t narrow_cache;  /* whether the KV cache is in bfloat16 */
    float epsilon;
    const float *cos, *sin; /* (positions, rotary_dims / 2) */
};

/* Where each row stands, and the keys and values of its sequence in this layer, (heads, capacity, head size); the
   capacity is a multiple of 16. The keys of 16 positions lie so that one vector has the same two numbers of each of
   them (of float32 the same one), and 16 products with a query are had without adding up across a vector. */
struct places {
    int32_t rows;
    const int32_t *position;
    void *const *keys;
    void *const *values;
    const int64_t *capacity;
};

struct pool {
    int threads;
    atomic_int generation, arrived, sense, asleep, next[10];
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    void (*work)(struct pool *, int);
    void *argument;
    void *shared;
    size_t shared_size;
    void **own;
    size_t *own_size;
};

/* ---- arithmetic ------------------------------------------------------------------------------------------------ */

INLINE vec all(float x) {
    return (vec){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

INLINE vec load(const float *from) {
    vec x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(float *to, vec x) {
    memcpy(to, &x, sizeof x);
}

INLINE vec widen(const bf16 *from) {
    halves x;
    memcpy(&x, from, sizeof x);
    ivec wide = __builtin_convertvector(x, ivec) << 16;
    return (vec)wide;
}

INLINE float widen_one(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

INLINE bf16 round_one(float x) { /* to nearest, ties to even; no model here makes NaN of a number */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bf16)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

INLINE float sum(vec x) {
#if PAIRS
    return _mm512_reduce_add_ps((__m512)x);
#endif
    float part[LANES];
    memcpy(part, &x, sizeof part);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

INLINE vec larger(vec a, vec b) {
    ivec mask = a > b;
    return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

INLINE vec smaller(vec a, vec b) {
    return -larger(-a, -b);
}

/* e**x: 2**n times a polynomial of the rest; relative error about 1e-7. */
INLINE vec exponential(vec x) {
    x = smaller(larger(x, all(-87.0f)), all(88.0f));
    vec shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2**23 rounds to an integer */
    ivec n = (ivec)shifted - (ivec)all(12582912.0f);
    vec whole = shifted - 12582912.0f;
    vec rest = x - whole * 0.693145752f;
    rest = rest - whole * 1.42860677e-6f;
    vec y = all(1.0f / 720);
    y = y * rest + 1.0f / 120;
    y = y * rest + 1.0f / 24;
    y = y * rest + 1.0f / 6;
    y = y * rest + 0.5f;
    y = y * rest + 1.0f;
    y = y * rest + 1.0f;
    return y * (vec)((n + 127) << 23);
}

/* Abramowitz and Stegun 7.1.26: absolute error 1.5e-7. */
INLINE vec error_function(vec x) {
    vec size = larger(x, -x);
    vec t = 1.0f / (1.0f + 0.3275911f * size);
    vec y = all(1.061405429f);
    y = y * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = y * t + 0.254829592f;
    y = 1.0f - y * t * exponential(-size * size);
    return (vec)((ivec)y | ((ivec)x & (int32_t)0x80000000));
}

INLINE vec activate(int how, vec x) {
    if (how == GELU) return 0.5f * x * (1.0f + error_function(x * 0.70710678f));
    if (how == GELU_TANH) return x / (1.0f + exponential(-1.59576912f * (x + 0.044715f * x * x * x)));
    return larger(x, all(0.0f));
}

/* ---- threads --------------------------------------------------------------------------------------------------- */

INLINE void breathe(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* All threads meet. On a busy machine a spinning thread gives way to the one it waits for. */
static void meet(struct pool *pool) {
    int sense = atomic_load_explicit(&pool->sense, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) == pool->threads - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->sense, !sense, memory_order_release);
        return;
    }
    for (int turn = 0; atomic_load_explicit(&pool->sense, memory_order_acquire) == sense; turn++) {
        if (turn < 4000) breathe();
        else sched_yield();
    }
}

struct member {
    struct pool *pool;
    int index;
};

static void *serve(void *argument) {
    struct member *self = argument;
    struct pool *pool = self->pool;
    for (int seen = 0;; seen++) {
        int turn = 0;
        while (atomic_load_explicit(&pool->generation, memory_order_acquire) == seen) {
            if (turn++ < 20000) {
                breathe();
                continue;
            }
            pthread_mutex_lock(&pool->mutex);
            atomic_fetch_add(&pool->asleep, 1);
            while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
            atomic_fetch_sub(&pool->asleep, 1);
            pthread_mutex_unlock(&pool->mutex);
        }
        pool->work(pool, self->index);
        meet(pool);
    }
    return NULL;
}

/* `work` in every thread; returns when all have done it. */
static void together(struct pool *pool, void (*work)(struct pool *, int), void *argument) {
    pool->work = work;
    pool->argument = argument;
    for (int i = 0; i < 10; i++) atomic_store_explicit(&pool->next[i], 0, memory_order_relaxed);
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->asleep)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
    work(pool, 0);
    meet(pool);
}

static void *room(void **block, size_t *size, size_t wanted) {
    if (*size < wanted) {
        free(*block);
        wanted = (wanted + wanted / 4 + 4095) / 4096 * 4096;
        if (posix_memalign(block, 64, wanted)) *block = NULL;
        *size = *block ? wanted : 0;
    }
    return *block;
}

/* ---- matrices -------------------------------------------------------------------------------------------------- */

/* What a group of 4-bit weights may be scaled by: 2**((i - 127) / 12) for i below 128, then the same with a minus. */
static float level[256];
#if PAIRS
static bf16 values_of[256][32]; /* the 16 weights of each level, twice: the permutation looks at five bits */
#endif

static void fill_tables(void) {
    for (int i = 0; i < 256; i++) {
        level[i] = exp2f(((i & 127) - 127) / 12.0f) * (i < 128 ? 1 : -1);
#if PAIRS
        for (int j = 0; j < 32; j++) values_of[i][j] = round_one((j % 16 - 8) * level[i]);
#endif
    }
}

/* 64 weights of one row, without what they share. */
#if PAIRS
typedef __m512bh pairs;

INLINE void codes(int kind, const char *row, const uint8_t *levels, int64_t column, pairs w[2]) {
    if (kind == BFLOAT16) {
        w[0] = (pairs)_mm512_loadu_si512(row + 2 * column);
        w[1] = (pairs)_mm512_loadu_si512(row + 2 * column + 64);
    } else {
        __m512i packed = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(row + OUTPUTS * column / 2)));
        levels += OUTPUTS * column / GROUP;
        w[0] = (pairs)_mm512_permutexvar_epi16(packed, _mm512_loadu_si512(values_of[levels[0]]));
        w[1] = (pairs)_mm512_permutexvar_epi16(_mm512_srli_epi16(packed, 4), _mm512_loadu_si512(values_of[levels[1]]));
    }
}

INLINE pairs pairs_at(const bf16 *x) {
    return (pairs)_mm512_loadu_si512(x);
}
#endif

INLINE vec code(int kind, const char *row, const uint8_t *levels, int64_t column) { /* 16 of them */
    if (kind == FLOAT32) return load((const float *)row + column);
    if (kind == BFLOAT16) return widen((const bf16 *)row + column);
    const int64_t block = column / STEP * STEP;
    const int within = column % STEP, is_second = within / GROUP;
    ubytes packed;
    memcpy(&packed, row + OUTPUTS * block / 2 + within % GROUP, sizeof packed);
    ivec wide = __builtin_convertvector(packed, ivec);
    wide = (is_second ? wide >> 4 : wide & 15) - 8;
    return __builtin_convertvector(wide, vec) * level[levels[OUTPUTS * block / GROUP + is_second]];
}

/* A part of a matrix as `tile` wants it: as it lies in memory, or widened beforehand. */
struct part {
    const char *numbers;
    const uint8_t *levels;
    int64_t stride; /* bytes from row to row */
    int64_t columns;
};

/* The first of 64 columns of one row, and its levels; `row` of 8- and 4-bit matrices is of the part's own blocks. */
INLINE const char *start_of(int kind, const struct part *part, int row) {
    if (kind == FLOAT32 || kind == BFLOAT16) return part->numbers + row * part->stride;
    return part->numbers + row / OUTPUTS * OUTPUTS * part->stride + row % OUTPUTS * (kind == INT8 ? STEP : STEP / 2);
}

INLINE const uint8_t *levels_of(int kind, const struct part *part, int row) {
    if (kind != INT4) return NULL;
    return part->levels + row / OUTPUTS * OUTPUTS * (part->columns / GROUP) + row % OUTPUTS * (STEP / GROUP);
}

/* While 4 rows are computed, the next 4 of this thread are fetched, in the order in which they lie in memory: what
   fetches ahead by itself starts anew at each page and each row. Into the second cache only: the first has too few
   places for what is on its way, and the arithmetic would wait for one. */
INLINE void fetch_next(int kind, const char *next, int64_t column, int n) {
    const int64_t bytes = STEP * (kind == FLOAT32 ? 32 : kind == BFLOAT16 ? 16 : kind == INT8 ? 8 : 4) / 8;
    for (int64_t i = n * bytes; i < (n + 1) * bytes; i += 64)
        if (i % 64 == 0) __builtin_prefetch(next + OUTPUTS * column / STEP * bytes + i, 0, 2);
}

/* `outputs` rows of the matrix, stored as `kind`, times `rows` rows of activations. All but `part`, `x` and `out` are
   constants wherever this is inlined. */
INLINE void tile(int kind, int outputs, int rows, int narrow, const struct part *part, int first, const char *next,
                 const void *x, float *out) {
    vec total[OUTPUTS][ROWS];
    const int64_t columns = part->columns;
    const char *row[OUTPUTS];
    const uint8_t *levels[OUTPUTS];
    for (int n = 0; n < outputs; n++) {
        row[n] = start_of(kind, part, first + n);
        levels[n] = levels_of(kind, part, first + n);
        for (int r = 0; r < rows; r++) total[n][r] = all(0.0f);
    }
#if PAIRS
    if (narrow) {
        for (int64_t column = 0; column < columns; column += STEP) {
            pairs w[OUTPUTS][2];
            for (int n = 0; n < outputs; n++) {
                codes(kind, row[n], levels[n], column, w[n]);
                fetch_next(kind, next, column, n);
            }
            _Pragma("GCC unroll 2")
            for (int half = 0; half < 2; half++)
                _Pragma("GCC unroll 8")
                for (int r = 0; r < rows; r++) {
                    pairs these = pairs_at((const bf16 *)x + r * columns + column + half * GROUP);
                    for (int n = 0; n < outputs; n++)
                        total[n][r] = (vec)_mm512_dpbf16_ps((__m512)total[n][r], w[n][half], these);
                }
        }
    } else
#endif
        for (int64_t column = 0; column < columns; column += LANES) {
            for (int n = 0; n < outputs; n++) {
                if (column % STEP == 0) fetch_next(kind, next, column, n);
                vec w = code(kind, row[n], levels[n], column);
                for (int r = 0; r < rows; r++) total[n][r] += w * load((const float *)x + r * columns + column);
            }
        }
    for (int n = 0; n < outputs; n++)
        for (int r = 0; r < rows; r++) out[r * CHUNK + n] = sum(total[n][r]);
}

INLINE void some_rows(int kind, int outputs, int narrow, const struct part *part, int first, const char *next,
                      const char *x, int rows, float *out) {
    const int64_t size = narrow ? sizeof(bf16) : sizeof(float);
    for (int r = 0; r < rows; r += ROWS) {
        const char *these = x + r * part->columns * size;
        float *to = out + r * CHUNK;
        switch (rows - r) {
        case 1: tile(kind, outputs, 1, narrow, part, first, next, these, to); break;
        case 2: tile(kind, outputs, 2, narrow, part, first, next, these, to); break;
        case 3: tile(kind, outputs, 3, narrow, part, first, next, these, to); break;
        case 4: tile(kind, outputs, 4, narrow, part, first, next, these, to); break;
        case 5: tile(kind, outputs, 5, narrow, part, first, next, these, to); break;
        default: tile(kind, outputs, 6, narrow, part, first, next, these, to);
        }
        next = start_of(kind, part, first); /* is there by now */
    }
}

/* Some rows of 4-bit numbers as bfloat16 or float32, while those at `next` are fetched. */
INLINE void widen_rows(int narrow, const struct part *part, int first, int count, const char *next, char *to) {
    for (int n = 0; n < count; n++) {
        const char *row = start_of(INT4, part, first + n);
        const uint8_t *levels = levels_of(INT4, part, first + n);
#if PAIRS
        if (narrow) {
            for (int64_t column = 0; column < part->columns; column += STEP, to += 2 * STEP) {
                pairs w[2];
                __builtin_prefetch(next + (n * part->columns + column) / 2, 0, 2);
                codes(INT4, row, levels, column, w);
                memcpy(to, w, sizeof w);
            }
            continue;
        }
#endif
        for (int64_t column = 0; column < part->columns; column += LANES, to += sizeof(vec))
            store((float *)to, code(INT4, row, levels, column));
    }
}

/* Rows first … first + count of the matrix (count at most CHUNK) times all rows of activations; those from `next` on
   come after them. With many rows, 4-bit numbers are widened once, into `scratch`: the same numbers in the same order, so
   the same sums. */
INLINE void chunk(int kind, int narrow, const struct matrix *matrix, int64_t first, int count, int64_t next,
                  const char *x, int rows, float *out, char *scratch) {
    const int64_t columns = matrix->columns;
    const int is_wide = kind != INT4;
    const int widened = narrow ? BFLOAT16 : FLOAT32;
    const int64_t stride = kind == FLOAT32 ? 4 * columns : kind == BFLOAT16 ? 2 * columns : columns / 2;
    const struct part part = {(const char *)matrix->numbers + first * stride,
                              kind == INT4 ? matrix->levels + first * (columns / GROUP) : NULL, stride, columns};
    const struct part wide = {scratch, NULL, columns * (narrow ? 2 : 4), columns};
    for (int n = 0; n < count; n += OUTPUTS) {
        const int outputs = count - n < OUTPUTS ? count - n : OUTPUTS;
        const int is_whole = outputs == OUTPUTS;
        const char *after = (const char *)matrix->numbers + (n + OUTPUTS < count ? first + n + OUTPUTS : next) * stride;
        if (rows > ROWS && !is_wide) {
            widen_rows(narrow, &part, n, outputs, after, scratch);
            if (is_whole) some_rows(widened, OUTPUTS, narrow, &wide, 0, scratch, x, rows, out + n);
            for (int i = 0; i < outputs && !is_whole; i++)
                some_rows(widened, 1, narrow, &wide, i, scratch, x, rows, out + n + i);
        } else {
            if (is_whole) some_rows(kind, OUTPUTS, narrow, &part, n, after, x, rows, out + n);
            for (int i = 0; i < outputs && !is_whole; i++)
                some_rows(kind, 1, narrow, &part, n + i, after, x, rows, out + n + i);
        }
    }
    if (!is_wide)
        for (int r = 0; r < rows; r++)
            for (int n = 0; n < count; n++) out[r * CHUNK + n] *= matrix->scales[first + n];
}

/* ---- 8 bits ---------------------------------------------------------------------------------------------------- */

/* What a matrix in 8 bits is multiplied with: rows of `parts` times `columns` bytes; of two parts the first counts 256
   times. Behind all of them a factor for each row, and the sum of each row and part. */
INLINE float *factors_of(const void *x, int rows, const struct matrix *matrix) {
    return (float *)((char *)x + (int64_t)rows * matrix->parts * matrix->columns);
}

/* Each `size` columns times a Hadamard matrix, in place: a number larger than the others becomes as many smaller ones,
   and so does not take their digits from them. The rows of the matrix were turned likewise, so the products stay the
   same. Quantising such rows: QuaRot, Ashkboos et al. 2024. Returns how much longer the numbers are now. */
static float turn(float *x, int64_t columns) {
    const int64_t most = columns & -columns, size = most < TURNED ? most : TURNED;
    for (int64_t at = 0; at < columns; at += size) {
        float *block = x + at;
        for (int half = LANES; half < size; half *= 2)
            for (int first = 0; first < size; first += 2 * half)
                for (int i = first; i < first + half; i += LANES) {
                    const vec a = load(block + i), b = load(block + i + half);
                    store(block + i, a + b);
                    store(block + i + half, a - b);
                }
#if FOURS
        for (int i = 0; i < size; i += LANES) {
            __m512 y = (__m512)load(block + i);
            y = _mm512_mask_sub_ps(_mm512_add_ps(y, _mm512_permute_ps(y, 0xb1)), 0xaaaa, _mm512_permute_ps(y, 0xb1), y);
            y = _mm512_mask_sub_ps(_mm512_add_ps(y, _mm512_permute_ps(y, 0x4e)), 0xcccc, _mm512_permute_ps(y, 0x4e), y);
            __m512 other = _mm512_shuffle_f32x4(y, y, 0xb1);
            y = _mm512_mask_sub_ps(_mm512_add_ps(y, other), 0xf0f0, other, y);
            other = _mm512_shuffle_f32x4(y, y, 0x4e);
            y = _mm512_mask_sub_ps(_mm512_add_ps(y, other), 0xff00, other, y);
            store(block + i, (vec)y);
        }
#else
        for (int half = 1; half < LANES; half *= 2)
            for (int first = 0; first < size; first += 2 * half)
                for (int i = first; i < first + half; i++) {
                    const float a = block[i], b = block[i + half];
                    block[i] = a + b;
                    block[i + half] = a - b;
                }
#endif
    }
    return sqrtf((float)size);
}

/* Row r of what `matrix` is multiplied with, from its numbers, which are lost. What is no number is none afterwards. */
static void put_bytes(const struct matrix *matrix, void *x, int rows, int r, float *row) {
    const int64_t columns = matrix->columns;
    const int parts = matrix->parts;
    const float longer = turn(row, columns);
    vec most = all(0.0f), total = all(0.0f);
    for (int64_t i = 0; i < columns; i += LANES) {
        const vec size = larger(load(row + i), -load(row + i));
        most = larger(most, size);
        total += size;
    }
    float highest = 0;
    for (int i = 0; i < LANES; i++) highest = most[i] > highest ? most[i] : highest;
    const float largest = parts == 2 ? 127 * 256 : 127, unit = highest / largest;
    const vec per_unit = all(highest > 0 ? largest / highest : 0);
    int8_t *to = (int8_t *)x + (int64_t)r * parts * columns;
    ivec sums[2] = {{0}, {0}};
    for (int64_t i = 0; i < columns; i += LANES) {
        const ivec number = (ivec)(load(row + i) * per_unit + 12582912.0f) - (ivec)all(12582912.0f);
        const ivec high = parts == 2 ? (number + 128) >> 8 : number;
        const bytes some = __builtin_convertvector(high, bytes);
        memcpy(to + i, &some, sizeof some);
        sums[0] += high;
        if (parts == 2) {
            const ivec low = number - (high << 8);
            const bytes others = __builtin_convertvector(low, bytes);
            memcpy(to + columns + i, &others, sizeof others);
            sums[1] += low;
        }
    }
    float *factors = factors_of(x, rows, matrix);
    factors[r] = unit / longer + 0.0f * sum(total);
    for (int p = 0; p < parts; p++) {
        int32_t all_of_it = 0;
        for (int i = 0; i < LANES; i++) all_of_it += sums[p][i];
        ((int32_t *)(factors + rows))[r * parts + p] = all_of_it;
    }
}

#if FOURS
typedef __m512i integers;
#elif defined(__AVX2__)
typedef __m256i integers;
#else
typedef ivec integers;
#endif

/* 64 of what is multiplied. */
#if FOURS
typedef __m512i several;
#else
typedef struct {
    const void *at;
} several;
#endif

INLINE several several_at(const void *from) {
#if FOURS
    return _mm512_loadu_si512(from);
#else
    return (several){from};
#endif
}

/* Onto `sums`: weights times activations. */
INLINE void add_products(integers *sums, several weights, several x) {
#if FOURS
    /* GCC 12 moves the sums around, and out of registers, where it is told by an intrinsic. */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(weights), "v"(x));
#elif defined(__AVX2__)
    for (int i = 0; i < 4; i++) {
        const __m256i some = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)weights.at + i));
        const __m256i others = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)x.at + i));
        *sums = _mm256_add_epi32(*sums, _mm256_madd_epi16(some, others));
    }
#else
    for (int i = 0; i < 4; i++) {
        ubytes some;
        bytes others;
        memcpy(&some, (const char *)weights.at + 16 * i, sizeof some);
        memcpy(&others, (const char *)x.at + 16 * i, sizeof others);
        *sums += __builtin_convertvector(some, ivec) * __builtin_convertvector(others, ivec);
    }
#endif
}

/* The sums of the parts of four vectors. */
INLINE void add_up(const integers sums[OUTPUTS], int32_t *out) {
#if FOURS
    __m512i two[2];
    for (int i = 0; i < 2; i++)
        two[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(sums[2 * i], sums[2 * i + 1]),
                                  _mm512_unpackhi_epi32(sums[2 * i], sums[2 * i + 1]));
    const __m512i four = _mm512_add_epi32(_mm512_unpacklo_epi64(two[0], two[1]), _mm512_unpackhi_epi64(two[0], two[1]));
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(four), _mm512_extracti64x4_epi64(four, 1));
    const __m128i quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    memcpy(out, &quarter, sizeof quarter);
#else
    for (int n = 0; n < OUTPUTS; n++) {
        int32_t each[sizeof *sums / sizeof(int32_t)];
        memcpy(each, sums + n, sizeof each);
        out[n] = 0;
        for (size_t i = 0; i < sizeof each / sizeof *each; i++) out[n] += each[i];
    }
#endif
}

/* Columns of a matrix in 8 bits, and of what it is multiplied with. */
struct piece {
    int64_t width;
    int64_t columns; /* of the whole */
};

/* `outputs` rows of a block of 4 rows, from `skipped` on, times `rows` rows of bytes, onto `out`; both are constants
   wherever this is inlined. */
INLINE void tile_bytes(int outputs, int rows, const struct piece *piece, const char *weights, int skipped,
                       const char *next, const int8_t *x, int32_t *out) {
    integers total[MOST_BYTES][OUTPUTS];
    weights += skipped * STEP;
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < OUTPUTS; n++) total[r][n] = (integers){0};
    for (int64_t column = 0; column < piece->width; column += STEP, weights += OUTPUTS * STEP) {
        several w[OUTPUTS];
        for (int n = 0; n < outputs; n++) {
            w[n] = several_at(weights + n * STEP);
            fetch_next(INT8, next, column, skipped + n);
        }
        _Pragma("GCC unroll 8")
        for (int r = 0; r < rows; r++) {
            const several these = several_at(x + r * piece->columns + column);
            _Pragma("GCC unroll 4")
            for (int n = 0; n < outputs; n++) add_products(&total[r][n], w[n], these);
        }
    }
    for (int r = 0; r < rows; r++) {
        int32_t sums[OUTPUTS];
        add_up(total[r], sums);
        for (int n = 0; n < outputs; n++) out[r * CHUNK + skipped + n] += sums[n];
    }
}

/* A few more rows than there are registers for: two outputs at a time, so that weights are read once all the same. */
INLINE void two_by_two(int rows, const struct piece *piece, const char *weights, const char *next, const int8_t *x,
                       int32_t *out) {
    for (int n = 0; n < OUTPUTS; n += 2) tile_bytes(2, rows, piece, weights, n, next, x, out);
}

/* A block of 4 rows of the matrix times `rows` rows of bytes, onto `out`. */
static void add_block(const struct piece *piece, const char *weights, const char *next, const int8_t *x, int rows,
                      int32_t *out) {
    if (rows == 7) two_by_two(7, piece, weights, next, x, out);
    if (rows == 8) two_by_two(8, piece, weights, next, x, out);
    if (rows == 7 || rows == 8) return;
    for (int r = 0; r < rows; r += ROWS) {
        const int8_t *these = x + r * piece->columns;
        int32_t *to = out + r * CHUNK;
        switch (rows - r) {
        case 1: tile_bytes(OUTPUTS, 1, piece, weights, 0, next, these, to); break;
        case 2: tile_bytes(OUTPUTS, 2, piece, weights, 0, next, these, to); break;
        case 3: tile_bytes(OUTPUTS, 3, piece, weights, 0, next, these, to); break;
        case 4: tile_bytes(OUTPUTS, 4, piece, weights, 0, next, these, to); break;
        case 5: tile_bytes(OUTPUTS, 5, piece, weights, 0, next, these, to); break;
        default: tile_bytes(OUTPUTS, 6, piece, weights, 0, next, these, to);
        }
        next = weights; /* is there by now */
    }
}

/* `chunk` for a matrix in 8 bits; its rows are a multiple of four. Of a few rows of activations as many columns at a time
   as stay in the first cache while all rows of the chunk are multiplied with them. */
static void chunk_of_bytes(const struct matrix *matrix, int64_t first, int count, int64_t next, const void *x, int rows,
                           float *out, int32_t *scratch) {
    const int64_t columns = matrix->columns;
    const int parts = matrix->parts;
    const char *numbers = (const char *)matrix->numbers + first * columns;
    const int64_t near = rows * parts <= MOST_BYTES ? NEAR / (rows * parts) / STEP * STEP : columns;
    memset(scratch, 0, (size_t)rows * parts * CHUNK * sizeof *scratch);
    for (int64_t at = 0; at < columns; at += near) {
        const struct piece piece = {columns - at < near ? columns - at : near, columns};
        const char *here = numbers + OUTPUTS * at;
        const char *after = at + near < columns ? here + OUTPUTS * near : (const char *)matrix->numbers + next * columns;
        for (int n = 0; n < count; n += OUTPUTS)
            add_block(&piece, here + n * columns, n + OUTPUTS < count ? here + (n + OUTPUTS) * columns : after,
                      (const int8_t *)x + at, rows * parts, scratch + n);
    }
    const float *factors = factors_of(x, rows, matrix);
    const int32_t *sums = (const int32_t *)(factors + rows);
    for (int r = 0; r < rows; r++) {
        const int32_t *made = scratch + r * parts * CHUNK, *off = sums + r * parts; /* each weight is 128 too large */
        for (int n = 0; n < count; n++) {
            float number = (float)(made[n] - 128 * off[0]);
            if (parts == 2) number = number * 256 + (float)(made[CHUNK + n] - 128 * off[1]);
            out[r * CHUNK + n] = number * (factors[r] * matrix->scales[first + n]);
        }
    }
}

/* ---- a matrix of any kind -------------------------------------------------------------------------------------- */

enum result { PLAIN, ADDED, ACTIVATED };

static void put_narrow(int narrow, void *to, int64_t at, const float *from, int64_t count) {
    if (!narrow) {
        memcpy((float *)to + at, from, count * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < count; i++) ((bf16 *)to + at)[i] = round_one(from[i]);
}

/* Row r of what `matrix` is multiplied with, from its numbers, which are lost. */
static void put(const struct shape *shape, const struct matrix *matrix, void *x, int rows, int r, float *row) {
    if (matrix->kind == INT8) put_bytes(matrix, x, rows, r, row);
    else put_narrow(shape->narrow, x, r * matrix->columns, row, matrix->columns);
}

static int64_t take(struct pool *pool, int phase) {
    return (int64_t)atomic_fetch_add_explicit(&pool->next[phase], 1, memory_order_relaxed) * CHUNK;
}

/* x (rows, columns), as `put` left it, times the transposed matrix, plus its bias: into out (PLAIN), onto out (ADDED), or
   through the activation into out (ACTIVATED). Threads take the next CHUNK in turn. */
static void multiply(struct pool *pool, int thread, int phase, const struct shape *shape, const struct matrix *matrix,
                     const void *x, int rows, enum result result, float *out) {
    const int narrow = shape->narrow;
    const size_t tile_size = (size_t)rows * CHUNK * sizeof(float);
    char *own = pool->own[thread];
    float *values = (float *)own;
    char *scratch = own + tile_size;
    int64_t next = take(pool, phase);
    while (next < matrix->rows) {
        const int64_t first = next;
        next = take(pool, phase);
        const int64_t then = next < matrix->rows ? next : first;
        int count = matrix->rows - first < CHUNK ? (int)(matrix->rows - first) : CHUNK;
        switch (matrix->kind * 2 + narrow) {
        case FLOAT32 * 2: chunk(FLOAT32, 0, matrix, first, count, then, x, rows, values, scratch); break;
        case BFLOAT16 * 2: chunk(BFLOAT16, 0, matrix, first, count, then, x, rows, values, scratch); break;
        case BFLOAT16 * 2 + 1: chunk(BFLOAT16, 1, matrix, first, count, then, x, rows, values, scratch); break;
        case INT8 * 2:
        case INT8 * 2 + 1: chunk_of_bytes(matrix, first, count, then, x, rows, values, (int32_t *)scratch); break;
        case INT4 * 2: chunk(INT4, 0, matrix, first, count, then, x, rows, values, scratch); break;
        case INT4 * 2 + 1: chunk(INT4, 1, matrix, first, count, then, x, rows, values, scratch); break;
        default: return;
        }
        for (int r = 0; r < rows; r++) {
            float *row = values + r * CHUNK;
            if (matrix->bias)
                for (int n = 0; n < count; n++) row[n] += matrix->bias[first + n];
            int64_t at = r * matrix->rows + first;
            if (result == PLAIN) memcpy(out + at, row, count * sizeof(float));
            else if (result == ADDED)
                for (int n = 0; n < count; n++) out[at + n] += row[n];
            else {
                for (int n = 0; n < CHUNK; n += LANES) store(row + n, activate(shape->activation, load(row + n)));
                memcpy(out + at, row, count * sizeof(float));
            }
        }
    }
}

/* ---- a layer --------------------------------------------------------------------------------------------------- */

static void normalise(const struct shape *shape, const float *x, const float *weight, const float *bias, float *row) {
    const int size = shape->hidden;
    vec total = all(0.0f), squares = all(0.0f);
    for (int i = 0; i < size; i += LANES) total += load(x + i);
    float mean = sum(total) / size;
    for (int i = 0; i < size; i += LANES) {
        vec off = load(x + i) - mean;
        squares += off * off;
    }
    float factor = 1.0f / sqrtf(sum(squares) / size + shape->epsilon);
    for (int i = 0; i < size; i += LANES)
        store(row + i, (load(x + i) - mean) * factor * load(weight + i) + load(bias + i));
}

struct pass {
    const struct shape *shape;
    const struct layer *layer;
    const struct places *places;
    float *hidden; /* (rows, hidden) */
    void *normed, *normed_too, *mixed, *wide; /* what matrices are multiplied with */
    float *qkv;
    float *raw; /* before it becomes `mixed`, and then `wide` */
    /* the head alone */
    const struct matrix *head;
    const float *const *norm;
    float *logits;
};

static void rotate(const struct shape *shape, float *x, int position) {
    const int half = shape->rotary_dims / 2;
    const float *cos = shape->cos + (int64_t)position * half, *sin = shape->sin + (int64_t)position * half;
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

/* Queries and keys of one row and head turned to its position; key and value into the cache. */
static void place(const struct pass *pass, int row, int head) {
    const struct shape *shape = pass->shape;
    const struct places *places = pass->places;
    const int size = shape->head_size, position = places->position[row];
    float *query = pass->qkv + ((int64_t)row * shape->heads + head) * 3 * size;
    rotate(shape, query, position);
    rotate(shape, query + size, position);
    const int64_t at = (head * places->capacity[row] + position) * size;
    put_narrow(shape->narrow_cache, places->values[row], at, query + 2 * size, size);
    const int64_t block = at - position % LANES * size;
    for (int i = 0; i < size; i++) {
        if (shape->narrow_cache)
            ((bf16 *)places->keys[row])[block + i / 2 * GROUP + position % LANES * 2 + i % 2] = round_one(query[size + i]);
        else ((float *)places->keys[row])[block + i * LANES + position % LANES] = query[size + i];
    }
}

/* 32 numbers of a value, in the order in which they are quickest to have: of bfloat16 first every other one. Or two
   of 16 keys, one of each after the other. */
INLINE void value_at(int narrow, const char *numbers, int64_t at, vec part[2]) {
    if (narrow) {
        ivec both;
        memcpy(&both, (const bf16 *)numbers + at, sizeof both);
        part[0] = (vec)(both << 16);
        part[1] = (vec)(both & (int32_t)0xffff0000);
    } else {
        part[0] = load((const float *)numbers + at);
        part[1] = load((const float *)numbers + at + LANES);
    }
}

/* The products of some queries with 16 keys. `rows` is a constant wherever this is inlined. */
INLINE void compare(int narrow, int rows, const float *queries, const char *keys, int size, float *scores) {
    vec total[COMPARED][2];
    for (int r = 0; r < rows; r++) total[r][0] = total[r][1] = all(0.0f);
    for (int at = 0; at < size; at += 4)
        _Pragma("GCC unroll 2")
        for (int i = 0; i < 2; i++) {
            const char *these = keys + (at + 2 * i) * LANES * (narrow ? sizeof(bf16) : sizeof(float));
#if PAIRS
            if (narrow) {
                const pairs key = pairs_at((const bf16 *)these);
                _Pragma("GCC unroll 8")
                for (int r = 0; r < rows; r++) {
                    int32_t two;
                    memcpy(&two, (const bf16 *)(queries + r * size) + at + 2 * i, sizeof two);
                    total[r][i] = (vec)_mm512_dpbf16_ps((__m512)total[r][i], key, (pairs)_mm512_set1_epi32(two));
                }
                continue;
            }
#endif
            vec key[2];
            value_at(narrow, these, 0, key);
            for (int r = 0; r < rows; r++)
                total[r][i] += queries[r * size + at + 2 * i] * key[0] + queries[r * size + at + 2 * i + 1] * key[1];
        }
    for (int r = 0; r < rows; r++) store(scores + r * LANES, total[r][0] + total[r][1]);
}

/* Keys or values, of `bytes` each, that come soon after those from position `at` on. */
INLINE void fetch(const char *from, int at, int longest, int64_t bytes) {
    const int next = at + SOON, end = next + LANES < longest ? next + LANES : longest;
    for (int64_t i = next * bytes; i < end * bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

/* Softmax of `count` scores, in place, up to the factor that is returned; 0 from there to `length`. Of 16 positions the
   scores lie together, and those of the next 16 `stride` behind them. */
static float soften(float *scores, int64_t stride, int count, int64_t length, float factor) {
    const int blocks = (count + LANES - 1) / LANES;
    for (int i = count; i < blocks * LANES; i++) scores[i / LANES * stride + i % LANES] = -INFINITY;
    vec most = all(-INFINITY), total = all(0.0f);
    for (int i = 0; i < blocks; i++) most = larger(most, load(scores + i * stride));
    float highest = -INFINITY;
    for (int i = 0; i < LANES; i++) highest = most[i] > highest ? most[i] : highest;
    for (int i = 0; i < blocks; i++) {
        const vec share = exponential((load(scores + i * stride) - highest) * factor);
        store(scores + i * stride, share);
        total += share;
    }
    for (int i = count; i < length; i++) scores[i / LANES * stride + i % LANES] = 0;
    return 1.0f / sum(total);
}

/* Such numbers in their own order, times `share`. */
INLINE void in_order(int narrow, const vec part[2], float share, float *to) {
    for (int i = 0; i < LANES; i++) {
        to[narrow ? 2 * i : i] = part[0][i] * share;
        to[narrow ? 2 * i + 1 : i + LANES] = part[1][i] * share;
    }
}

/* The values up to `longest`, weighted by each row's scores: `parts` times 32 numbers from `at` on of each row. */
INLINE void mix(int narrow, int rows, int parts, const char *values, int size, int at, int longest,
                const float *scores, const float *share, float *mixed) {
    vec total[TOGETHER][MOST_PARTS][2];
    const int64_t bytes = size * (narrow ? sizeof(bf16) : sizeof(float));
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < parts; p++) total[r][p][0] = total[r][p][1] = all(0.0f);
    for (int first = 0; first < longest; first += LANES) {
        if (at == 0) fetch(values, first, longest, bytes);
        const int count = longest - first < LANES ? longest - first : LANES;
        const float *these = scores + first * rows;
        for (int i = 0; i < count; i++)
            for (int p = 0; p < parts; p++) {
                vec value[2];
                value_at(narrow, values + (first + i) * bytes, at + p * GROUP, value);
                for (int r = 0; r < rows; r++)
                    for (int half = 0; half < 2; half++) total[r][p][half] += these[r * LANES + i] * value[half];
            }
    }
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < parts; p++) in_order(narrow, total[r][p], share[r], mixed + r * size + at + p * GROUP);
}

/* `rows` rows of one sequence, from `first` on: each looks at every position up to its own. The keys and values of 16
   positions serve all rows while they are near. `rows` is a constant wherever this is inlined. */
INLINE void attend(int narrow, int rows, const struct pass *pass, int first, int head, float *own) {
    const struct shape *shape = pass->shape;
    const struct places *places = pass->places;
    const int size = shape->head_size, longest = places->position[first + rows - 1] + 1;
    const int64_t bytes = size * (narrow ? sizeof(bf16) : sizeof(float));
    const int64_t length = (longest + LANES - 1) / LANES * LANES;
    const char *keys = (const char *)places->keys[first] + head * places->capacity[first] * bytes;
    const char *values = (const char *)places->values[first] + head * places->capacity[first] * bytes;
    float *mixed = own, *queries = own + rows * size, *scores = queries + rows * size, share[TOGETHER];
    for (int r = 0; r < rows; r++)
        put_narrow(narrow && PAIRS, queries + r * size, 0,
                   pass->qkv + ((int64_t)(first + r) * shape->heads + head) * 3 * size, size);
    const int some = rows < COMPARED ? rows : COMPARED;
    for (int at = 0; at < longest; at += LANES) {
        fetch(keys, at, longest, bytes);
        for (int r = 0; r < rows; r += some)
            compare(narrow, some, queries + r * size, keys + at * bytes, size, scores + at * rows + r * LANES);
    }
    for (int r = 0; r < rows; r++)
        share[r] = soften(scores + r * LANES, rows * LANES, places->position[first + r] + 1, length,
                          1.0f / sqrtf((float)size));
    const int parts = rows == 1 ? MOST_PARTS : rows <= 4 ? MOST_PARTS / 2 : 1; /* as many sums as there are registers for */
    int at = 0;
    for (; parts > 1 && at + parts * GROUP <= size; at += parts * GROUP)
        mix(narrow, rows, parts, values, size, at, longest, scores, share, mixed);
    for (; at < size; at += GROUP) mix(narrow, rows, 1, values, size, at, longest, scores, share, mixed);
    for (int r = 0; r < rows; r++)
        memcpy(pass->raw + (int64_t)(first + r) * shape->hidden + head * size, mixed + r * size, size * sizeof(float));
}

INLINE void attend_some(int narrow, int rows, const struct pass *pass, int first, int head, float *own) {
    while (rows) { /* each row's numbers are the same whichever others are looked at with it */
        const int most = rows >= TOGETHER ? TOGETHER : rows >= 4 ? 4 : 1;
        if (most == TOGETHER) attend(narrow, TOGETHER, pass, first, head, own);
        else if (most == 4) attend(narrow, 4, pass, first, head, own);
        else attend(narrow, 1, pass, first, head, own);
        first += most;
        rows -= most;
    }
}

/* How many rows from `first` on belong to one sequence, TOGETHER at most. */
static int rows_together(const struct places *places, int first) {
    int count = 1;
    while (count < TOGETHER && first + count < places->rows && places->keys[first + count] == places->keys[first]) count++;
    return count;
}

static void attend_all(struct pool *pool, const struct pass *pass, float *own) {
    const struct places *places = pass->places;
    const int heads = pass->shape->heads;
    int item = atomic_fetch_add_explicit(&pool->next[1], 1, memory_order_relaxed), at = 0;
    for (int first = 0, count; first < places->rows; first += count, at += heads) {
        count = rows_together(places, first);
        for (; item < at + heads; item = atomic_fetch_add_explicit(&pool->next[1], 1, memory_order_relaxed)) {
            if (pass->shape->narrow_cache) attend_some(1, count, pass, first, item - at, own);
            else attend_some(0, count, pass, first, item - at, own);
        }
    }
}

static void work_on_layer(struct pool *pool, int thread) {
    const struct pass *pass = pool->argument;
    const struct shape *shape = pass->shape;
    const struct layer *layer = pass->layer;
    const int rows = pass->places->rows, heads = shape->heads;
    float *own = pool->own[thread];
    for (int r = thread; r < rows; r += pool->threads) {
        const float *row = pass->hidden + (int64_t)r * shape->hidden;
        normalise(shape, row, layer->norm[0], layer->norm[1], own);
        put(shape, &layer->qkv, pass->normed, rows, r, own);
        if (!shape->parallel) continue;
        normalise(shape, row, layer->norm[2], layer->norm[3], own);
        put(shape, &layer->up, pass->normed_too, rows, r, own);
    }
    meet(pool);
    multiply(pool, thread, 0, shape, &layer->qkv, pass->normed, rows, PLAIN, pass->qkv);
    meet(pool);
    for (int i = thread; i < rows * heads; i += pool->threads) place(pass, i / heads, i % heads);
    meet(pool);
    attend_all(pool, pass, own);
    meet(pool);
    for (int r = thread; r < rows; r += pool->threads)
        put(shape, &layer->dense, pass->mixed, rows, r, pass->raw + (int64_t)r * shape->hidden);
    meet(pool);
    multiply(pool, thread, 2, shape, &layer->dense, pass->mixed, rows, ADDED, pass->hidden);
    meet(pool);
    if (!shape->parallel) {
        for (int r = thread; r < rows; r += pool->threads) {
            normalise(shape, pass->hidden + (int64_t)r * shape->hidden, layer->norm[2], layer->norm[3], own);
            put(shape, &layer->up, pass->normed_too, rows, r, own);
        }
        meet(pool);
    }
    multiply(pool, thread, 3, shape, &layer->up, pass->normed_too, rows, ACTIVATED, pass->raw);
    meet(pool);
    for (int r = thread; r < rows; r += pool->threads)
        put(shape, &layer->down, pass->wide, rows, r, pass->raw + (int64_t)r * shape->wide);
    meet(pool);
    multiply(pool, thread, 4, shape, &layer->down, pass->wide, rows, ADDED, pass->hidden);
}

static void work_on_head(struct pool *pool, int thread) {
    const struct pass *pass = pool->argument;
    const struct shape *shape = pass->shape;
    const int rows = pass->places->rows;
    for (int r = thread; r < rows; r += pool->threads) {
        normalise(shape, pass->hidden + (int64_t)r * shape->hidden, pass->norm[0], pass->norm[1], pool->own[thread]);
        put(shape, pass->head, pass->normed, rows, r, pool->own[thread]);
    }
    meet(pool);
    multiply(pool, thread, 0, shape, pass->head, pass->normed, rows, PLAIN, pass->logits);
}

/* ---- what engines/native calls --------------------------------------------------------------------------------- */

int bchat_multiplies_bfloat16(void) {
    return PAIRS;
}

struct pool *bchat_pool(int threads) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    fill_tables();
    pool->own = calloc(threads, sizeof *pool->own);
    pool->own_size = calloc(threads, sizeof *pool->own_size);
    if (!pool->own || !pool->own_size || pthread_mutex_init(&pool->mutex, NULL) ||
        pthread_cond_init(&pool->wake, NULL))
        return NULL;
    pool->threads = 1;
    for (int i = 1; i < threads; i++) {
        struct member *member = malloc(sizeof *member);
        pthread_t thread;
        if (!member) break;
        *member = (struct member){pool, i};
        pool->threads = i + 1; /* before it runs: it reads this */
        if (pthread_create(&thread, NULL, serve, member)) {
            pool->threads = i;
            free(member);
            break;
        }
        pthread_detach(thread);
    }
    return pool;
}

static int prepare(struct pool *pool, struct pass *pass, int longest) {
    const struct shape *shape = pass->shape;
    const size_t rows = pass->places->rows, hidden = shape->hidden, wide = shape->wide;
    const size_t most = hidden > wide ? hidden : wide;
    size_t scores = TOGETHER * ((size_t)longest + LANES + 2 * shape->head_size) * sizeof(float);
    const size_t scratch = OUTPUTS * most > 2 * rows * CHUNK ? OUTPUTS * most : 2 * rows * CHUNK;
    size_t own = (rows * CHUNK + scratch) * sizeof(float) + 256;
    own = own > scores ? own : scores;
    own = own > hidden * sizeof(float) ? own : hidden * sizeof(float);
    for (int i = 0; i < pool->threads; i++)
        if (!room(&pool->own[i], &pool->own_size[i], own)) return 0;
    char *at = room(&pool->shared, &pool->shared_size, rows * (6 * hidden + wide + most) * sizeof(float) + 4096);
    if (!at) return 0;
    const size_t row = rows * hidden * sizeof(float);
    pass->normed = at;
    pass->normed_too = at + row;
    pass->mixed = at + 2 * row;
    pass->qkv = (float *)(at + 3 * row);
    pass->wide = at + 6 * row;
    pass->raw = (float *)(at + 6 * row + rows * wide * sizeof(float));
    return 1;
}

/* `hidden` (rows, hidden) through one layer, in place. 0 where memory is exhausted. */
int bchat_layer(struct pool *pool, const struct shape *shape, const struct layer *layer, const struct places *places,
                float *hidden) {
    struct pass pass = {.shape = shape, .layer = layer, .places = places, .hidden = hidden};
    int longest = 0;
    for (int r = 0; r < places->rows; r++) longest = places->position[r] > longest ? places->position[r] : longest;
    if (!prepare(pool, &pass, longest + 1)) return 0;
    together(pool, work_on_layer, &pass);
    return 1;
}

/* Logits (rows, vocabulary) of `hidden` (rows, hidden). 0 where memory is exhausted. */
int bchat_head(struct pool *pool, const struct shape *shape, const struct matrix *head, const float *const *norm,
               int rows, float *hidden, float *logits) {
    struct places places = {.rows = rows};
    struct pass pass = {.shape = shape, .places = &places, .hidden = hidden, .head = head, .norm = norm,
                        .logits = logits};
    if (!prepare(pool, &pass, 1)) return 0;
    together(pool, work_on_head, &pass);
    return 1;
}
