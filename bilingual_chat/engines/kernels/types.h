/* Sizes, types and the structures that neox/cpu_model.py fills in. README.md draws the layouts.

   Each size below says why it has its value. Two kinds exist. A "format" size is part of the layout of quantized matrices
   or of the KV cache: Python has the same number, and a change needs a new format number for converted files. All others
   are tuning: a change alters the speed only.

   Tests: test_logits_are_those_of_torch_with_the_same_weights (all layouts, beside torch),
   test_a_row_does_not_depend_on_its_neighbours_to_the_last_bit (all tile sizes),
   test_the_kernels_compile_without_a_warning. */

#pragma once

#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* HAS_BF16: vdpbf16ps multiplies pairs of bfloat16 and adds them in float32. Processors that have it and VBMI also have the
   other AVX-512 instructions that the code behind HAS_BF16 needs (BW, DQ). */
#if defined(__AVX512BF16__) && defined(__AVX512VBMI__)
#define HAS_BF16 1
#else
#define HAS_BF16 0
#endif

/* HAS_VNNI: vpdpbusd multiplies groups of four bytes and adds them in int32. */
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HAS_VNNI 1
#else
#define HAS_VNNI 0
#endif

/* LANES: 32-bit numbers in one register. GCC keeps a vector that is larger than a register in memory.
   ACCUMULATORS: vectors of sums that attention keeps in registers. The operands need the other half of the registers:
   AVX-512 has 32 of them, AVX2 and SSE have 16. NEON has 32, but nobody has measured more than 8 sums there. */
#if defined(__AVX512BW__)
#define LANES 16
#define ACCUMULATORS 16
#elif defined(__AVX2__)
#define LANES 8
#define ACCUMULATORS 8
#else
#define LANES 4
#define ACCUMULATORS 8
#endif
#define MAX_LANES 16 /* the LANES of the widest processor */

/* ---- format sizes ----------------------------------------------------------------------------------------------- */

/* A matrix has a multiple of 64 columns, and the floating-point kernels read 64 columns of a row at a time. int4 has two
   numbers in a byte, so half an AVX-512 register of bytes becomes two registers of 32 bfloat16. The models of the family
   have multiples of 64. */
#define COLUMN_BLOCK 64
/* Half a block is one register of bfloat16. One table permutation dequantizes a register of int4, so the 32 weights in
   it share one level. */
#define HALF_BLOCK (COLUMN_BLOCK / 2)
#define INT4_GROUP HALF_BLOCK
/* vpdpbusd adds the products of 4 bytes into one 32-bit lane, so 4 columns of a row of int8 lie together. */
#define INT8_GROUP 4
/* A thread takes 32 rows of a matrix at a time. In int8, 4 columns of 32 rows are 128 bytes: two registers, two cache
   lines. In the output, 32 floats are two cache lines, so two threads write to different lines. A matrix of 2,816 rows
   has 88 tasks, enough to balance 2 to 16 threads. */
#define ROWS_PER_TASK 32
/* A Hadamard transform mixes 256 columns (at most) before int8 rounding: 16 registers of 16 numbers, half of what
   AVX-512 has, so the whole transform runs in registers. */
#define HADAMARD_SIZE 256
/* int4 stores the blocks of 4 rows side by side: the rows of one tile, so that a tile reads one stream of memory. */
#define TILE_OUTPUTS 4

/* ---- tuning ------------------------------------------------------------------------------------------------------ */

/* A tile multiplies TILE_OUTPUTS rows of the matrix by TILE_ROWS rows of activations; each pair has one register of sums.
   AVX-512: 4 x 6 sums and 4 x 2 registers of weights are all 32 registers (the activations come from memory).
   AVX2 and SSE: 4 x 3 sums leave 4 of 16 registers. */
#define TILE_ROWS (LANES == 16 ? 6 : 3)
/* A row of activations up to this size stays in the L1 cache while weights pass through it. L1 has 32 KB or more; 12 KB
   leave room for the weights and for the prefetched lines. In bfloat16 that is 6,144 columns. */
#define L1_BYTES 12288
/* The prefetch distance where a thread reads memory in order: 2 KB, which is 32 cache lines. Measured. */
#define PREFETCH_BYTES 2048
/* The prefetch distance in the KV cache: 32 positions, which is two vectors of positions in AVX-512. Measured. */
#define PREFETCH_POSITIONS 32
/* One row alone sums 8 vectors of a value in registers: 128 numbers, a whole value in models with heads of 128. */
#define VALUE_VECTORS 8
/* Rows of one sequence whose scores are summed in registers together: each needs two accumulators. */
#define QUERY_ROWS (ACCUMULATORS / 2)
/* Rows of one sequence that share the keys and values in the L1 cache, and positions whose values stay there. Of heads of
   128: 64 values are 16 KB in bfloat16, the sums of 24 rows 12 KB, and their scores of 64 positions 6 KB; 34 of 48 KB. */
#define ROWS_PER_ATTENTION 24
#define VALUE_BLOCK 64

#define INLINE static inline __attribute__((always_inline))

/* The steps of a layer whose work the threads share task by task; each step counts its tasks separately. */
enum phase { QKV_PHASE, ATTENTION_PHASE, DENSE_PHASE, UP_PHASE, DOWN_PHASE, PHASES, HEAD_PHASE = QKV_PHASE };

enum kind { FLOAT32, BFLOAT16, INT8, INT4 };
enum activation { GELU, GELU_TANH, RELU };

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint16_t u16vec __attribute__((vector_size(2 * LANES)));
typedef uint8_t u8vec __attribute__((vector_size(LANES)));
typedef uint16_t bf16;

/* A matrix (rows, columns). README.md draws the four layouts of `weights`.
   FLOAT32, BFLOAT16: by rows.
   INT8: in tasks of ROWS_PER_TASK rows, and in a task INT8_GROUP columns of each row after the other. Unused rows fill the
   last task. Each byte is a number plus 128. The matrix has been through a Hadamard transform (see `hadamard`).
   INT4: in blocks of COLUMN_BLOCK columns, and the blocks of TILE_OUTPUTS rows side by side. Byte i of a block holds column
   i in its low half and column 32 + i in its high half, each plus 8. `levels` has one byte for INT4_GROUP columns, two for
   a block, in the order of the blocks.
   INT8 and INT4: `scales` has one factor for each row. */
struct matrix {
    const void *weights;
    const uint8_t *levels;
    const float *scales;
    const float *bias; /* NULL: none */
    int64_t rows, columns;
    int32_t kind;             /* enum kind */
    int32_t activation_bytes; /* INT8: the bytes of a quantized activation, 1 or 2 */
};

struct layer {
    struct matrix qkv, dense, up, down;
    const float *norm[4]; /* weight and bias before attention, weight and bias before the MLP */
};

struct shape {
    int32_t hidden, heads, head_size, intermediate, rotary_dims;
    int32_t parallel_residual; /* attention and MLP both read the layer's input */
    int32_t activation;        /* enum activation */
    int32_t bf16_activations;  /* round activations to bfloat16 before a matrix; needs HAS_BF16 */
    int32_t bf16_cache;        /* the KV cache is in bfloat16, else in float32 */
    float epsilon;
    const float *cos, *sin; /* (positions, rotary_dims / 2) */
};

/* The rows of a pass: the position of each row, and this layer's keys and values of its sequence. Both are (heads, capacity,
   head size) in the layout that README.md draws; `capacity` is a multiple of LANES. Rows of one sequence come one after the
   other, by position, without a gap. */
struct batch {
    int32_t rows;
    const int32_t *position;
    void *const *keys;
    void *const *values;
    const int64_t *capacity;
};
