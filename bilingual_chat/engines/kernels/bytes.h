/* Matrices in 8 bits, multiplied as they are. */

#pragma once

#include "vector.h"
#include "widened.h"

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
    switch (rows) {
    case 7: two_by_two(7, piece, weights, next, x, out); return;
    case 8: two_by_two(8, piece, weights, next, x, out); return;
    default: break;
    }
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
