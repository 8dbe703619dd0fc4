/* Matrices that are multiplied in floating point: float32, bfloat16 and int4.

   A tile multiplies TILE_OUTPUTS rows of the matrix by up to TILE_ROWS rows of activations. Every product of a row and a
   column goes to the same lane in the same order, however many rows a tile has; so a row's sums depend on nothing else.
   int4 is dequantized in registers, or once for many rows into scratch memory: the same numbers, the same sums.

   Tests: test_logits_are_those_of_torch_with_the_same_weights, test_a_row_does_not_depend_on_its_neighbours_to_the_last_bit
   (tiles of each size; dequantized in registers and in memory), test_what_four_bits_can_say_is_kept_exactly. */

#pragma once

#include "simd.h"

/* The factor of an int4 group for each level: 2**((i - 127) / 12) for i < 128, then the same values negated. Twelve steps
   an octave, as weights/quantized_matrix.py has them. */
static float level_value[256];
#if HAS_BF16
/* The 16 weights of each level, twice: a permutation index has five bits, an int4 number four. */
static bf16 int4_values[256][32];
#endif

static void init_int4_tables(void) {
    for (int i = 0; i < 256; i++) {
        level_value[i] = exp2f(((i & 127) - 127) / 12.0f) * (i < 128 ? 1 : -1);
#if HAS_BF16
        for (int j = 0; j < 32; j++) int4_values[i][j] = to_bf16((j % 16 - 8) * level_value[i]);
#endif
    }
}

#if HAS_BF16
typedef __m512bh bf16vec;

/* The weights of one COLUMN_BLOCK, without the scale of the row, as two registers of bfloat16. */
INLINE void load_weight_pairs(int kind, const char *row, const uint8_t *levels, int64_t column, bf16vec w[2]) {
    if (kind == BFLOAT16) {
        w[0] = (bf16vec)_mm512_loadu_si512(row + 2 * column);
        w[1] = (bf16vec)_mm512_loadu_si512(row + 2 * column + 64);
    } else {
        __m512i packed = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(row + TILE_OUTPUTS * column / 2)));
        levels += TILE_OUTPUTS * column / INT4_GROUP;
        w[0] = (bf16vec)_mm512_permutexvar_epi16(packed, _mm512_loadu_si512(int4_values[levels[0]]));
        w[1] = (bf16vec)_mm512_permutexvar_epi16(_mm512_srli_epi16(packed, 4), _mm512_loadu_si512(int4_values[levels[1]]));
    }
}

INLINE bf16vec load_bf16_pairs(const bf16 *x) {
    return (bf16vec)_mm512_loadu_si512(x);
}

/* Two neighbouring numbers in all 16 lanes of 32 bits. */
INLINE bf16vec broadcast_pair(const bf16 *x) {
    int32_t two;
    memcpy(&two, x, sizeof two);
    return (bf16vec)_mm512_set1_epi32(two);
}
#endif

/* LANES weights in float32, without the scale of the row: columns `at` ... of the given half of the block at `column`. */
INLINE vec load_weights(int kind, const char *row, const uint8_t *levels, int64_t column, int half, int at) {
    if (kind == FLOAT32) return load((const float *)row + column + half * HALF_BLOCK + at);
    if (kind == BFLOAT16) return load_bf16((const bf16 *)row + column + half * HALF_BLOCK + at);
    ivec wide = load_u8((const uint8_t *)row + TILE_OUTPUTS * column / 2 + at);
    wide = (half ? wide >> 4 : wide & 15) - 8;
    return __builtin_convertvector(wide, vec) * level_value[levels[TILE_OUTPUTS * column / INT4_GROUP + half]];
}

/* Some rows of a matrix, the operand of `tile`: as stored, or dequantized into scratch memory. */
struct panel {
    const char *weights;
    const uint8_t *levels;
    int64_t stride; /* bytes of a row */
    int64_t columns;
};

/* The address of the first block of a row. int4 has the blocks of TILE_OUTPUTS rows side by side. */
INLINE const char *row_start(int kind, const struct panel *panel, int row) {
    if (kind == FLOAT32 || kind == BFLOAT16) return panel->weights + row * panel->stride;
    return panel->weights + row / TILE_OUTPUTS * TILE_OUTPUTS * panel->stride + row % TILE_OUTPUTS * (COLUMN_BLOCK / 2);
}

/* The address of the levels of that block; NULL unless int4. */
INLINE const uint8_t *row_levels(int kind, const struct panel *panel, int row) {
    if (kind != INT4) return NULL;
    return panel->levels + row / TILE_OUTPUTS * TILE_OUTPUTS * (panel->columns / INT4_GROUP) +
           row % TILE_OUTPUTS * (COLUMN_BLOCK / INT4_GROUP);
}

/* Prefetches row n's share of the tile at `next`, for one block of the current tile. The `prefetch_rows` rows of a tile
   fetch the next tile in the order of memory, because the hardware prefetcher starts anew at each row. The target is the
   L2 cache: L1 can wait for few lines at a time, and the arithmetic would stall behind them. */
INLINE void prefetch_weights(int kind, int prefetch_rows, const char *next, int64_t column, int n) {
    const int64_t bytes = COLUMN_BLOCK * (kind == FLOAT32 ? 32 : kind == BFLOAT16 ? 16 : 4) / 8;
    for (int64_t i = n * bytes; i < (n + 1) * bytes; i += 64)
        if (i % 64 == 0) __builtin_prefetch(next + prefetch_rows * column / COLUMN_BLOCK * bytes + i, 0, 2);
}

/* Reads the matrix row by row instead of in tiles? For one row of activations that stays in L1 this is faster: one stream
   of memory. `bytes` is the size of that row. Short vectors need a tile: with one sum, each addition waits for the last. */
INLINE int reads_row_by_row(int kind, int rows, int64_t bytes) {
    return LANES == 16 && rows == 1 && bytes <= L1_BYTES && (kind == FLOAT32 || kind == BFLOAT16);
}

/* out[r][n] = row `first` + n of the panel times row r of x, for n < outputs and r < rows. `out` has ROWS_PER_TASK columns.
   Meanwhile it prefetches the tile at `next`. The callers inline it with constant kind, outputs, rows and is_bf16, so that
   every sum has a register. */
INLINE void tile(int kind, int outputs, int rows, int is_bf16, const struct panel *panel, int first, const char *next,
                 const void *x, float *out) {
    vec total[TILE_OUTPUTS][TILE_ROWS];
    const int64_t columns = panel->columns;
    const char *row[TILE_OUTPUTS];
    const uint8_t *levels[TILE_OUTPUTS];
    const int prefetch_rows = kind == INT4 ? TILE_OUTPUTS : outputs;
    (void)is_bf16; /* unused without HAS_BF16 */
    _Pragma("GCC unroll 4")
    for (int n = 0; n < outputs; n++) {
        row[n] = row_start(kind, panel, first + n);
        levels[n] = row_levels(kind, panel, first + n);
        _Pragma("GCC unroll 6")
        for (int r = 0; r < rows; r++) total[n][r] = broadcast(0.0f);
    }
#if HAS_BF16
    if (is_bf16) {
        for (int64_t column = 0; column < columns; column += COLUMN_BLOCK) {
            bf16vec w[TILE_OUTPUTS][2];
            for (int n = 0; n < outputs; n++) {
                load_weight_pairs(kind, row[n], levels[n], column, w[n]);
                prefetch_weights(kind, prefetch_rows, next, column, n);
            }
            _Pragma("GCC unroll 2")
            for (int half = 0; half < 2; half++)
                _Pragma("GCC unroll 8")
                for (int r = 0; r < rows; r++) {
                    bf16vec activations = load_bf16_pairs((const bf16 *)x + r * columns + column + half * HALF_BLOCK);
                    for (int n = 0; n < outputs; n++)
                        total[n][r] = (vec)_mm512_dpbf16_ps((__m512)total[n][r], w[n][half], activations);
                }
        }
    } else
#endif
        for (int64_t column = 0; column < columns; column += COLUMN_BLOCK) {
            for (int n = 0; n < outputs; n++) prefetch_weights(kind, prefetch_rows, next, column, n);
            _Pragma("GCC unroll 2")
            for (int half = 0; half < 2; half++)
                for (int at = 0; at < HALF_BLOCK; at += LANES) {
                    const float *activations = (const float *)x + column + half * HALF_BLOCK + at;
                    _Pragma("GCC unroll 4")
                    for (int n = 0; n < outputs; n++) {
                        const vec w = load_weights(kind, row[n], levels[n], column, half, at);
                        _Pragma("GCC unroll 6")
                        for (int r = 0; r < rows; r++) total[n][r] += w * load(activations + r * columns);
                    }
                }
        }
    _Pragma("GCC unroll 6")
    for (int r = 0; r < rows; r++) {
        if (outputs == TILE_OUTPUTS) {
            const vec sums[TILE_OUTPUTS] = {total[0][r], total[1][r], total[2][r], total[3][r]};
            horizontal_sum4(sums, out + r * ROWS_PER_TASK);
        } else
            _Pragma("GCC unroll 4")
            for (int n = 0; n < outputs; n++) out[r * ROWS_PER_TASK + n] = horizontal_sum(total[n][r]);
    }
}

/* `tile` for any number of rows of activations. */
INLINE void tile_all_rows(int kind, int outputs, int is_bf16, const struct panel *panel, int first, const char *next,
                          const char *x, int rows, float *out) {
    const int64_t size = is_bf16 ? sizeof(bf16) : sizeof(float);
    for (int r = 0; r < rows; r += TILE_ROWS) {
        const char *activations = x + r * panel->columns * size;
        float *to = out + r * ROWS_PER_TASK;
        switch (rows - r < TILE_ROWS ? rows - r : TILE_ROWS) {
        case 1: tile(kind, outputs, 1, is_bf16, panel, first, next, activations, to); break;
        case 2: tile(kind, outputs, 2, is_bf16, panel, first, next, activations, to); break;
#if LANES == 16
        case 3: tile(kind, outputs, 3, is_bf16, panel, first, next, activations, to); break;
        case 4: tile(kind, outputs, 4, is_bf16, panel, first, next, activations, to); break;
        case 5: tile(kind, outputs, 5, is_bf16, panel, first, next, activations, to); break;
#endif
        default: tile(kind, outputs, TILE_ROWS, is_bf16, panel, first, next, activations, to);
        }
        next = row_start(kind, panel, first); /* is in the cache: the first tile has prefetched what follows */
    }
}

/* Dequantizes `count` rows of int4 to bfloat16 or float32, without the scales of the rows, and prefetches the rows at
   `next`. */
INLINE void dequantize_rows(int is_bf16, const struct panel *panel, int first, int count, const char *next, char *to) {
    (void)is_bf16, (void)next; /* unused without HAS_BF16 */
    for (int n = 0; n < count; n++) {
        const char *row = row_start(INT4, panel, first + n);
        const uint8_t *levels = row_levels(INT4, panel, first + n);
#if HAS_BF16
        if (is_bf16) {
            for (int64_t column = 0; column < panel->columns; column += COLUMN_BLOCK, to += 2 * COLUMN_BLOCK) {
                bf16vec w[2];
                __builtin_prefetch(next + (n * panel->columns + column) / 2, 0, 2);
                load_weight_pairs(INT4, row, levels, column, w);
                memcpy(to, w, sizeof w);
            }
            continue;
        }
#endif
        for (int64_t column = 0; column < panel->columns; column += COLUMN_BLOCK)
            _Pragma("GCC unroll 2")
            for (int half = 0; half < 2; half++)
                for (int at = 0; at < HALF_BLOCK; at += LANES, to += sizeof(vec))
                    store((float *)to, load_weights(INT4, row, levels, column, half, at));
    }
}

/* One task: out (rows, ROWS_PER_TASK) = x (rows, columns) times rows `first` ... `first` + count - 1 of the matrix. The
   thread's next task begins at row `next`. For more than TILE_ROWS rows of activations, int4 is dequantized once, into
   `scratch`, instead of once for each tile. */
INLINE void matmul_float(int kind, int is_bf16, const struct matrix *matrix, int64_t first, int count, int64_t next,
                         const char *x, int rows, float *out, char *scratch) {
    const int64_t columns = matrix->columns;
    const int is_int4 = kind == INT4;
    const int wide_kind = is_bf16 ? BFLOAT16 : FLOAT32;
    const int64_t stride = kind == FLOAT32 ? 4 * columns : kind == BFLOAT16 ? 2 * columns : columns / 2;
    const struct panel panel = {(const char *)matrix->weights + first * stride,
                                kind == INT4 ? matrix->levels + first * (columns / INT4_GROUP) : NULL, stride, columns};
    const struct panel wide = {scratch, NULL, columns * (is_bf16 ? 2 : 4), columns};
    for (int n = 0; n < count; n += TILE_OUTPUTS) {
        const int outputs = count - n < TILE_OUTPUTS ? count - n : TILE_OUTPUTS;
        const int is_full = outputs == TILE_OUTPUTS;
        const int64_t next_row = n + TILE_OUTPUTS < count ? first + n + TILE_OUTPUTS : next;
        const char *after = (const char *)matrix->weights + next_row * stride;
        if (rows > TILE_ROWS && is_int4) {
            dequantize_rows(is_bf16, &panel, n, outputs, after, scratch);
            if (is_full) tile_all_rows(wide_kind, TILE_OUTPUTS, is_bf16, &wide, 0, scratch, x, rows, out + n);
            for (int i = 0; i < outputs && !is_full; i++)
                tile_all_rows(wide_kind, 1, is_bf16, &wide, i, scratch, x, rows, out + n + i);
        } else {
            const int is_tile = is_full && !reads_row_by_row(kind, rows, columns * (is_bf16 ? 2 : 4));
            if (is_tile) tile_all_rows(kind, TILE_OUTPUTS, is_bf16, &panel, n, after, x, rows, out + n);
            for (int i = 0; i < outputs && !is_tile; i++) {
                const char *ahead = row_start(kind, &panel, n + i) + PREFETCH_BYTES;
                tile_all_rows(kind, 1, is_bf16, &panel, n + i, ahead, x, rows, out + n + i);
            }
        }
    }
    if (is_int4)
        for (int r = 0; r < rows; r++)
            for (int n = 0; n < count; n++) out[r * ROWS_PER_TASK + n] *= matrix->scales[first + n];
}
