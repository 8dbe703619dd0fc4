/* Matrices in 8 bits, multiplied as they are. */

#pragma once

#include "vector.h"
#include "widened.h"

/* What a matrix in 8 bits is multiplied with: rows of bytes, `parts` for each row of activations; of two parts the first
   counts 256 times. Some rows of bytes lie together, of each 64 columns one after the other, since they are multiplied
   together. Behind all of them a factor for each row, and the sum of each row and part. */
INLINE float *factors_of(const void *x, int rows, const struct matrix *matrix) {
    return (float *)((char *)x + (int64_t)rows * matrix->parts * matrix->columns);
}

/* The rows of bytes, of `all`, that lie together with the one `at`: the first of them, and how many. */
INLINE int group_of(int all, int at, int *size) {
    const int first = all <= MOST_BYTES ? 0 : at / ROWS * ROWS;
    *size = all <= MOST_BYTES ? all : all - first < ROWS ? all - first : ROWS;
    return first;
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
    int8_t *to[2] = {NULL, NULL};
    int64_t stride[2] = {0, 0}; /* from 64 columns to the next */
    for (int p = 0; p < parts; p++) {
        int size;
        const int first = group_of(rows * parts, r * parts + p, &size);
        to[p] = (int8_t *)x + first * columns + (r * parts + p - first) * STEP;
        stride[p] = size * STEP;
    }
    ivec sums[2] = {{0}, {0}};
    for (int64_t i = 0; i < columns; i += LANES) {
        const ivec number = (ivec)(load(row + i) * per_unit + 12582912.0f) - (ivec)all(12582912.0f);
        const ivec high = parts == 2 ? (number + 128) >> 8 : number;
        const bytes some = __builtin_convertvector(high, bytes);
        memcpy(to[0] + i / STEP * stride[0] + i % STEP, &some, sizeof some);
        sums[0] += high;
        if (parts == 2) {
            const ivec low = number - (high << 8);
            const bytes others = __builtin_convertvector(low, bytes);
            memcpy(to[1] + i / STEP * stride[1] + i % STEP, &others, sizeof others);
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

typedef int32_t four __attribute__((vector_size(16)));

/* The sums of the parts of four vectors. */
INLINE four add_up(integers a, integers b, integers c, integers d) {
    four sums;
#if FOURS
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const __m512i abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1));
    const __m128i quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    memcpy(&sums, &quarter, sizeof sums);
#else
    const integers each[OUTPUTS] = {a, b, c, d};
    for (int n = 0; n < OUTPUTS; n++) {
        int32_t parts[sizeof a / sizeof(int32_t)];
        memcpy(parts, each + n, sizeof parts);
        sums[n] = 0;
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) sums[n] += parts[i];
    }
#endif
    return sums;
}

/* `outputs` rows of a block of 4 rows and `width` columns, from `skipped` on, times `rows` rows of bytes, onto `out` (rows, 4);
   both are constants wherever this is inlined. Meanwhile what lies `ahead` bytes further on is fetched. */
INLINE void tile_bytes(int outputs, int rows, const char *weights, int64_t width, int skipped, int64_t ahead,
                       const int8_t *x, int32_t *out) {
    integers total[MOST_BYTES][OUTPUTS];
    _Pragma("GCC unroll 8") /* or the sums are not kept in registers */
    for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 4")
        for (int n = 0; n < OUTPUTS; n++) total[r][n] = (integers){0};
    weights += skipped * STEP;
    for (int64_t column = 0; column < width; column += STEP, weights += OUTPUTS * STEP, x += rows * STEP) {
        several w[OUTPUTS];
        _Pragma("GCC unroll 4")
        for (int n = 0; n < outputs; n++) {
            w[n] = several_at(weights + n * STEP);
            __builtin_prefetch(weights + ahead + n * STEP, 0, 2);
        }
        _Pragma("GCC unroll 8")
        for (int r = 0; r < rows; r++) {
            const several these = several_at(x + r * STEP);
            _Pragma("GCC unroll 4")
            for (int n = 0; n < outputs; n++) add_products(&total[r][n], w[n], these);
        }
    }
    if (outputs == OUTPUTS) {
        _Pragma("GCC unroll 8")
        for (int r = 0; r < rows; r++) {
            four sums;
            memcpy(&sums, out + r * OUTPUTS, sizeof sums);
            sums += add_up(total[r][0], total[r][1], total[r][2], total[r][3]);
            memcpy(out + r * OUTPUTS, &sums, sizeof sums);
        }
    } else {
        _Pragma("GCC unroll 4")
        for (int r = 0; r < rows; r += 2) {
            const int then = r + 1 < rows ? r + 1 : r;
            const four sums = add_up(total[r][0], total[r][1], total[then][0], total[then][1]);
            for (int n = 0; n < 2; n++) {
                out[r * OUTPUTS + skipped + n] += sums[n];
                if (then > r) out[then * OUTPUTS + skipped + n] += sums[2 + n];
            }
        }
    }
}

/* A few more rows than there are registers for: two outputs at a time, so that weights are read once all the same. */
INLINE void two_by_two(int rows, const char *weights, int64_t width, int64_t ahead, const int8_t *x, int32_t *out) {
    for (int n = 0; n < OUTPUTS; n += 2) tile_bytes(2, rows, weights, width, n, ahead, x, out);
}

/* A block of 4 rows of the matrix times rows of bytes that lie together, onto `out`. */
static void add_block(const char *weights, int64_t width, int64_t ahead, const int8_t *x, int rows, int32_t *out) {
    switch (rows) {
    case 1: tile_bytes(OUTPUTS, 1, weights, width, 0, ahead, x, out); break;
    case 2: tile_bytes(OUTPUTS, 2, weights, width, 0, ahead, x, out); break;
    case 3: tile_bytes(OUTPUTS, 3, weights, width, 0, ahead, x, out); break;
    case 4: tile_bytes(OUTPUTS, 4, weights, width, 0, ahead, x, out); break;
    case 5: tile_bytes(OUTPUTS, 5, weights, width, 0, ahead, x, out); break;
    case 6: tile_bytes(OUTPUTS, 6, weights, width, 0, ahead, x, out); break;
    case 7: two_by_two(7, weights, width, ahead, x, out); break;
    default: two_by_two(8, weights, width, ahead, x, out);
    }
}

/* `chunk` for a matrix in 8 bits; its rows are a multiple of four. A few rows of bytes stay in the first cache while all
   rows of a piece are multiplied with them. Of one row of activations the weights are read in one go, and what is fetched
   ahead by itself needs little help. */
static void chunk_of_bytes(const struct matrix *matrix, int64_t first, int count, int64_t next, const void *x, int rows,
                           float *out, int32_t *scratch) {
    const int64_t columns = matrix->columns;
    const int parts = matrix->parts, all = rows * parts;
    const char *weights = (const char *)matrix->numbers + first * columns, *end = weights + count * columns;
    const char *after = (const char *)matrix->numbers + next * columns;
    memset(scratch, 0, (size_t)all * CHUNK * sizeof *scratch);
    for (int64_t at = 0; at < columns; at += PIECE, weights += count * PIECE) {
        const int64_t width = columns - at < PIECE ? columns - at : PIECE;
        for (int r = 0, size; r < all; r += size) {
            const int8_t *these = (const int8_t *)x + r * columns;
            group_of(all, r, &size);
            for (int n = 0; n < count; n += OUTPUTS) {
                const char *block = weights + n * width;
                int64_t ahead = block + OUTPUTS * width < end ? OUTPUTS * width : after - block;
                if (rows == 1) ahead = AHEAD;
                if (r > 0) ahead = 0; /* is near by now */
                add_block(block, width, ahead, these + at * size, size, scratch + n * all + r * OUTPUTS);
            }
        }
    }
    const float *factors = factors_of(x, rows, matrix);
    const int32_t *sums = (const int32_t *)(factors + rows);
    for (int r = 0; r < rows; r++) {
        const int32_t *off = sums + r * parts; /* each weight is 128 too large */
        for (int n = 0; n < count; n++) {
            const int32_t *made = scratch + (n / OUTPUTS * all + r * parts) * OUTPUTS + n % OUTPUTS;
            float number = (float)(made[0] - 128 * off[0]);
            if (parts == 2) number = number * 256 + (float)(made[OUTPUTS] - 128 * off[1]);
            out[r * CHUNK + n] = number * (factors[r] * matrix->scales[first + n]);
        }
    }
}
