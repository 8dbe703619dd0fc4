/* Sizes, numbers and what is passed around. */

#pragma once

#include <stdint.h>
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

/* LANES: numbers in a vector, as many as a register holds: of vectors that are larger the compiler keeps every one in
   memory. SUMS: vectors of sums at a time, beside what is multiplied in as many registers as there are. */
#if defined(__AVX512BW__)
#define LANES 16
#define SUMS 16
#elif defined(__AVX2__)
#define LANES 8
#define SUMS 8
#else
#define LANES 4
#define SUMS 8
#endif
#define MOST_LANES 16 /* of any processor */
#define STEP 64   /* columns a step */
#define GROUP 32  /* 4-bit weights that share a level; numbers in a vector of bfloat16 where these are multiplied */
#define OUTPUTS 4 /* rows of a matrix at a time */
#define ROWS (LANES == 16 ? 6 : 3) /* rows of activations at a time */
#define TURNED 256 /* columns, at most, that are mixed with each other before 8 bits */
#define FOUR 4    /* columns of a matrix in 8 bits that lie together */
#define NEAR 12288 /* bytes of activations, in the first cache beside weights on their way */
#define PHASES 5 /* of a pass, in which threads take what is next */
#define CHUNK 32  /* rows of a matrix that a thread takes at a time */
#define SOON 32 /* positions */
#define AHEAD 2048 /* bytes, of what is read in one go */
#define MOST_VECTORS 8 /* of a value at a time */
#define TOGETHER (SUMS / 2) /* rows of a sequence whose sums are in registers at a time */
#define MOST_ROWS 24 /* rows of a sequence that look at some of its keys and values while these are near */
#define BLOCK 64 /* positions whose values are near at a time */
#define INLINE static inline __attribute__((always_inline))

enum kind { FLOAT32, BFLOAT16, INT8, INT4 };
enum activation { GELU, GELU_TANH, RELU };

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef uint8_t ubytes __attribute__((vector_size(LANES)));
typedef uint16_t bf16;

/* A matrix (rows, columns). FLOAT32 and BFLOAT16 by rows. INT8: each CHUNK of rows four columns by four, so that products
   are added up in as many lanes as there are rows; each number plus 128; of a matrix that was turned (see `turn`). The
   last CHUNK is a whole one, whatever its rows. INT4: in blocks of 64 columns, and of these the ones of 4 rows side by
   side, so that memory is read in one go; byte i holds column i in its low half and column 32 + i in its high half, each
   plus 8; 32 columns share one of 256 levels, two for each block. Both: times one float32 a row. */
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
   capacity is a multiple of LANES. The keys of LANES positions lie so that one vector has the same two numbers of each of
   them (of float32 the same one), and as many products with a query are had without adding up across a vector. In bfloat16 the
   values of an even position and the next lie number beside number. */
struct places {
    int32_t rows;
    const int32_t *position;
    void *const *keys;
    void *const *values;
    const int64_t *capacity;
};
