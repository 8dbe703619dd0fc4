/* Matrices whose numbers are multiplied as floating point: 32, 16 and 4 bits. */

#pragma once

#include "vector.h"

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

/* One pair, sixteen times. */
INLINE pairs repeated_pair(const bf16 *x) {
    int32_t two;
    memcpy(&two, x, sizeof two);
    return (pairs)_mm512_set1_epi32(two);
}
#endif

/* LANES of them: of the 64 columns from `column` on those from `at` on in the first half, or the second. */
INLINE vec code(int kind, const char *row, const uint8_t *levels, int64_t column, int half, int at) {
    if (kind == FLOAT32) return load((const float *)row + column + half * GROUP + at);
    if (kind == BFLOAT16) return widen((const bf16 *)row + column + half * GROUP + at);
    ivec wide = integers_of_bytes((const uint8_t *)row + OUTPUTS * column / 2 + at);
    wide = (half ? wide >> 4 : wide & 15) - 8;
    return __builtin_convertvector(wide, vec) * level[levels[OUTPUTS * column / GROUP + half]];
}

/* A part of a matrix as `tile` wants it: as it lies in memory, or widened beforehand. */
struct part {
    const char *numbers;
    const uint8_t *levels;
    int64_t stride; /* bytes from row to row */
    int64_t columns;
};

/* The first of 64 columns of one row, and its levels; `row` of a 4-bit matrix is of the part's own blocks. */
INLINE const char *start_of(int kind, const struct part *part, int row) {
    if (kind == FLOAT32 || kind == BFLOAT16) return part->numbers + row * part->stride;
    return part->numbers + row / OUTPUTS * OUTPUTS * part->stride + row % OUTPUTS * (STEP / 2);
}

INLINE const uint8_t *levels_of(int kind, const struct part *part, int row) {
    if (kind != INT4) return NULL;
    return part->levels + row / OUTPUTS * OUTPUTS * (part->columns / GROUP) + row % OUTPUTS * (STEP / GROUP);
}

/* While `together` rows are computed, as much is fetched from `next` on, in the order in which it lies in memory: the
   next 4 rows of this thread, since what fetches ahead by itself starts anew at each row. Into the second cache only: the
   first has too few places for what is on its way, and the arithmetic would wait for one. */
INLINE void fetch_next(int kind, int together, const char *next, int64_t column, int n) {
    const int64_t bytes = STEP * (kind == FLOAT32 ? 32 : kind == BFLOAT16 ? 16 : 4) / 8;
    for (int64_t i = n * bytes; i < (n + 1) * bytes; i += 64)
        if (i % 64 == 0) __builtin_prefetch(next + together * column / STEP * bytes + i, 0, 2);
}

/* Whether a matrix by rows is quickest read row after row, in one go, instead of four at a time: of one row of activations
   that stays in the first cache beside it. Not in shorter vectors, of which one at a time waits for the one before. */
INLINE int streams(int kind, int rows, int64_t bytes) {
    return LANES == 16 && rows == 1 && bytes <= NEAR && (kind == FLOAT32 || kind == BFLOAT16);
}

/* `outputs` rows of the matrix, stored as `kind`, times `rows` rows of activations. All but `part`, `x` and `out` are
   constants wherever this is inlined. */
INLINE void tile(int kind, int outputs, int rows, int narrow, const struct part *part, int first, const char *next,
                 const void *x, float *out) {
    vec total[OUTPUTS][ROWS];
    const int64_t columns = part->columns;
    const char *row[OUTPUTS];
    const uint8_t *levels[OUTPUTS];
    const int together = kind == INT4 ? OUTPUTS : outputs;
    _Pragma("GCC unroll 4")
    for (int n = 0; n < outputs; n++) {
        row[n] = start_of(kind, part, first + n);
        levels[n] = levels_of(kind, part, first + n);
        _Pragma("GCC unroll 6")
        for (int r = 0; r < rows; r++) total[n][r] = all(0.0f);
    }
#if PAIRS
    if (narrow) {
        for (int64_t column = 0; column < columns; column += STEP) {
            pairs w[OUTPUTS][2];
            for (int n = 0; n < outputs; n++) {
                codes(kind, row[n], levels[n], column, w[n]);
                fetch_next(kind, together, next, column, n);
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
        for (int64_t column = 0; column < columns; column += STEP) {
            for (int n = 0; n < outputs; n++) fetch_next(kind, together, next, column, n);
            _Pragma("GCC unroll 2")
            for (int half = 0; half < 2; half++)
                for (int at = 0; at < GROUP; at += LANES) {
                    const float *these = (const float *)x + column + half * GROUP + at;
                    _Pragma("GCC unroll 4")
                    for (int n = 0; n < outputs; n++) {
                        const vec w = code(kind, row[n], levels[n], column, half, at);
                        _Pragma("GCC unroll 6")
                        for (int r = 0; r < rows; r++) total[n][r] += w * load(these + r * columns);
                    }
                }
        }
    _Pragma("GCC unroll 6")
    for (int r = 0; r < rows; r++) {
        if (outputs == OUTPUTS) {
            const vec row_of_sums[OUTPUTS] = {total[0][r], total[1][r], total[2][r], total[3][r]};
            sum_four(row_of_sums, out + r * CHUNK);
        } else
            _Pragma("GCC unroll 4")
            for (int n = 0; n < outputs; n++) out[r * CHUNK + n] = sum(total[n][r]);
    }
}

INLINE void some_rows(int kind, int outputs, int narrow, const struct part *part, int first, const char *next,
                      const char *x, int rows, float *out) {
    const int64_t size = narrow ? sizeof(bf16) : sizeof(float);
    for (int r = 0; r < rows; r += ROWS) {
        const char *these = x + r * part->columns * size;
        float *to = out + r * CHUNK;
        switch (rows - r < ROWS ? rows - r : ROWS) {
        case 1: tile(kind, outputs, 1, narrow, part, first, next, these, to); break;
        case 2: tile(kind, outputs, 2, narrow, part, first, next, these, to); break;
#if LANES == 16
        case 3: tile(kind, outputs, 3, narrow, part, first, next, these, to); break;
        case 4: tile(kind, outputs, 4, narrow, part, first, next, these, to); break;
        case 5: tile(kind, outputs, 5, narrow, part, first, next, these, to); break;
#endif
        default: tile(kind, outputs, ROWS, narrow, part, first, next, these, to);
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
        for (int64_t column = 0; column < part->columns; column += STEP)
            _Pragma("GCC unroll 2")
            for (int half = 0; half < 2; half++)
                for (int at = 0; at < GROUP; at += LANES, to += sizeof(vec))
                    store((float *)to, code(INT4, row, levels, column, half, at));
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
            const int many = is_whole && !streams(kind, rows, columns * (narrow ? 2 : 4));
            if (many) some_rows(kind, OUTPUTS, narrow, &part, n, after, x, rows, out + n);
            for (int i = 0; i < outputs && !many; i++)
                some_rows(kind, 1, narrow, &part, n + i, start_of(kind, &part, n + i) + AHEAD, x, rows, out + n + i);
        }
    }
    if (!is_wide)
        for (int r = 0; r < rows; r++)
            for (int n = 0; n < count; n++) out[r * CHUNK + n] *= matrix->scales[first + n];
}
