/* Matrices in 8 bits, multiplied as they are. */

#pragma once

#include "vector.h"
#include "widened.h"

/* TAKEN: rows of the matrix at a time. MOST_DIGITS: rows of digits at a time, an even number, so that both bytes of a row
   lie together; there are registers for the sums of so many.
   PIECE: columns at a time, so that what they are multiplied with stays in the first cache, or they themselves where a
   CHUNK is not taken whole; and so that products add up within 32 bits.
   A digit is what an activation is multiplied as: a byte of it, or all of it where 16 bits are multiplied. `whole` is what
   all columns add up to. */
#if FOURS
#define TAKEN CHUNK
#define MOST_DIGITS 12
#define PIECE 3072
#define VECTORS (TAKEN / LANES)
#define DIGITS(matrix) (matrix)->parts
typedef __m512i integers;
typedef __m512i several;
typedef int8_t digit;
typedef int32_t whole;
#else
#define VECTORS 2
#define TAKEN (VECTORS * LANES / 2)
#define MOST_DIGITS 6
#define PIECE 512
#define DIGITS(matrix) 1
typedef ivec integers; /* for each row of the matrix two sums, of every other two columns */
typedef int16_t several __attribute__((vector_size(4 * LANES)));
typedef int16_t digit;
typedef int64_t whole;
#endif
typedef digit digits __attribute__((vector_size(LANES * sizeof(digit))));

/* What a matrix in 8 bits is multiplied with: rows of digits, DIGITS for each row of activations; of two the first counts
   256 times. Some rows lie together, of each four columns one after the other, since they are multiplied
   together. Behind all of them a factor for each row, and the sum of each row and part. */
INLINE float *factors_of(const void *x, int rows, const struct matrix *matrix) {
    return (float *)((char *)x + (int64_t)rows * DIGITS(matrix) * matrix->columns * sizeof(digit));
}

/* The rows of digits, of `all`, that lie together with the one `at`: the first of them, and how many. */
INLINE int group_of(int all, int at, int *size) {
    const int first = at / MOST_DIGITS * MOST_DIGITS;
    *size = all - first < MOST_DIGITS ? all - first : MOST_DIGITS;
    return first;
}

#if FOURS
/* `turn` of TURNED numbers, which are as many as there are room for in registers. */
INLINE void turn_block(float *block) {
    const vec one = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
    const vec two = {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
    const vec four = {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1};
    const vec eight = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
    enum { VECTORS_TURNED = TURNED / LANES };
    vec y[VECTORS_TURNED];
    _Pragma("GCC unroll 16")
    for (int i = 0; i < VECTORS_TURNED; i++) y[i] = load(block + i * LANES);
    _Pragma("GCC unroll 4")
    for (int half = 1; half < VECTORS_TURNED; half *= 2)
        _Pragma("GCC unroll 16")
        for (int i = 0; i < VECTORS_TURNED; i++) {
            if (i & half) continue;
            const vec a = y[i], b = y[i + half];
            y[i] = a + b;
            y[i + half] = a - b;
        }
    _Pragma("GCC unroll 16")
    for (int i = 0; i < VECTORS_TURNED; i++) {
        vec x = y[i];
        x = x * one + (vec)_mm512_permute_ps((__m512)x, 0xb1);
        x = x * two + (vec)_mm512_permute_ps((__m512)x, 0x4e);
        x = x * four + (vec)_mm512_shuffle_f32x4((__m512)x, (__m512)x, 0xb1);
        x = x * eight + (vec)_mm512_shuffle_f32x4((__m512)x, (__m512)x, 0x4e);
        store(block + i * LANES, x);
    }
}
#endif

/* Each `size` columns times a Hadamard matrix, in place: a number larger than the others becomes as many smaller ones,
   and so does not take their digits from them. The rows of the matrix were turned likewise, so the products stay the
   same. Quantising such rows: QuaRot, Ashkboos et al. 2024. Returns how much longer the numbers are now. */
static float turn(float *x, int64_t columns) {
    const int64_t most = columns & -columns, size = most < TURNED ? most : TURNED;
    for (int64_t at = 0; at < columns; at += size) {
        float *block = x + at;
#if FOURS
        if (size == TURNED) {
            turn_block(block);
            continue;
        }
#endif
        for (int half = LANES; half < size; half *= 2)
            for (int first = 0; first < size; first += 2 * half)
                for (int i = first; i < first + half; i += LANES) {
                    const vec a = load(block + i), b = load(block + i + half);
                    store(block + i, a + b);
                    store(block + i + half, a - b);
                }
        for (int half = 1; half < LANES; half *= 2)
            for (int first = 0; first < size; first += 2 * half)
                for (int i = first; i < first + half; i++) {
                    const float a = block[i], b = block[i + half];
                    block[i] = a + b;
                    block[i + half] = a - b;
                }
    }
    return sqrtf((float)size);
}

/* Some numbers as digits, four by four. */
INLINE void put_some(digit *to, int64_t stride, ivec numbers) {
    const digits some = __builtin_convertvector(numbers, digits);
    for (int i = 0; i < LANES / FOUR; i++)
        memcpy(to + i * stride, (const digit *)&some + i * FOUR, FOUR * sizeof(digit));
}

/* The same in two rows of bytes, one beside the other. */
INLINE void put_two(digit *to, int64_t stride, ivec numbers, ivec others) {
#if FOURS
    const __m128i a = _mm512_cvtepi32_epi8((__m512i)numbers), b = _mm512_cvtepi32_epi8((__m512i)others);
    const __m128i first = _mm_unpacklo_epi32(a, b), second = _mm_unpackhi_epi32(a, b);
    _mm_storel_epi64((__m128i *)to, first);
    _mm_storeh_pd((double *)(to + stride), (__m128d)first);
    _mm_storel_epi64((__m128i *)(to + 2 * stride), second);
    _mm_storeh_pd((double *)(to + 3 * stride), (__m128d)second);
#else
    put_some(to, stride, numbers);
    put_some(to + FOUR, stride, others);
#endif
}

/* Row r of what `matrix` is multiplied with, from its numbers, which are lost. What is no number is none afterwards. */
static void put_bytes(const struct matrix *matrix, void *x, int rows, int r, float *row) {
    const int64_t columns = matrix->columns;
    const int parts = DIGITS(matrix);
    const float longer = turn(row, columns);
    vec most = all(0.0f), total = all(0.0f);
    for (int64_t i = 0; i < columns; i += LANES) {
        const vec size = (vec)((ivec)load(row + i) & 0x7fffffff);
        most = larger(most, size);
        total += size;
    }
    float highest = 0;
    for (int i = 0; i < LANES; i++) highest = most[i] > highest ? most[i] : highest;
    const float largest = matrix->parts == 2 ? 127 * 256 : 127, unit = highest / largest;
    const vec per_unit = all(highest > 0 ? largest / highest : 0);
    int size;
    const int first = group_of(rows * parts, r * parts, &size);
    digit *to = (digit *)x + first * columns + (r * parts - first) * FOUR;
    const int64_t stride = size * FOUR; /* from four columns to the next */
    ivec sums[2] = {{0}, {0}};
    for (int64_t i = 0; i < columns; i += LANES, to += LANES / FOUR * stride) {
        const ivec number = (ivec)(load(row + i) * per_unit + 12582912.0f) - (ivec)all(12582912.0f);
        if (parts == 2) {
            const ivec high = (number + 128) >> 8, low = number - (high << 8);
            put_two(to, stride, high, low);
            sums[0] += high;
            sums[1] += low;
        } else {
            put_some(to, stride, number);
            sums[0] += number;
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

INLINE several several_at(const char *from) {
#if FOURS
    return _mm512_loadu_si512(from);
#elif LANES == 16
    return (several)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)from));
#elif LANES == 8
    return (several)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from));
#elif defined(__SSE4_1__)
    return (several)_mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)from));
#else
    uint8_t some __attribute__((vector_size(2 * LANES)));
    memcpy(&some, from, sizeof some);
    return __builtin_convertvector(some, several);
#endif
}

/* Four digits, once for each row of the matrix. */
INLINE several repeated(const digit *from) {
#if FOURS
    int32_t four;
    memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(four);
#else
    typedef int64_t fours __attribute__((vector_size(4 * LANES)));
    int64_t four;
    memcpy(&four, from, sizeof four);
    return (several)(four - (fours){0});
#endif
}

/* Onto `sums`: weights times activations. */
INLINE void add_products(integers *sums, several weights, several x) {
#if FOURS
    /* GCC 12 moves the sums around, and out of registers, where it is told by an intrinsic. */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(weights), "v"(x));
#elif LANES == 16
    *sums += (ivec)_mm512_madd_epi16((__m512i)weights, (__m512i)x);
#elif LANES == 8
    *sums += (ivec)_mm256_madd_epi16((__m256i)weights, (__m256i)x);
#elif defined(__SSE2__)
    *sums += (ivec)_mm_madd_epi16((__m128i)weights, (__m128i)x);
#else
    *sums += ((ivec)weights << 16 >> 16) * ((ivec)x << 16 >> 16) + ((ivec)weights >> 16) * ((ivec)x >> 16);
#endif
}

/* Onto `out`: what was summed up for each of TAKEN rows. */
INLINE void add_sums(const integers sums[VECTORS], whole *out) {
#if FOURS
    for (int v = 0; v < VECTORS; v++)
        _mm512_storeu_si512(out + v * LANES, _mm512_add_epi32(sums[v], _mm512_loadu_si512(out + v * LANES)));
#else
    const int each = sizeof *sums / sizeof(int32_t) * VECTORS / TAKEN;
    for (int n = 0; n < TAKEN; n++)
        for (int i = 0; i < each; i++) out[n] += ((const int32_t *)sums)[n * each + i];
#endif
}

/* TAKEN of CHUNK rows, `width` columns of them, times `rows` rows of digits, onto `out` (rows, CHUNK). Meanwhile what is
   needed next is fetched, `pace` bytes for each four columns. `rows` is a constant wherever this is inlined. */
INLINE void tile_bytes(int rows, const char *weights, int64_t width, const char *next, int pace, const digit *x,
                       whole *out) {
    integers total[MOST_DIGITS][VECTORS];
    _Pragma("GCC unroll 12") /* or the sums are not kept in registers */
    for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 2")
        for (int v = 0; v < VECTORS; v++) total[r][v] = (integers){0};
    for (int64_t column = 0; column < width; column += FOUR, weights += FOUR * CHUNK, x += FOUR * rows, next += pace) {
        several w[VECTORS];
        _Pragma("GCC unroll 2")
        for (int v = 0; v < VECTORS; v++) {
            w[v] = several_at(weights + v * (FOUR * TAKEN / VECTORS));
            if (v * 64 < FOUR * TAKEN) __builtin_prefetch(next + v * 64, 0, 2);
        }
        _Pragma("GCC unroll 12")
        for (int r = 0; r < rows; r++) {
            const several these = repeated(x + FOUR * r);
            _Pragma("GCC unroll 2")
            for (int v = 0; v < VECTORS; v++) add_products(&total[r][v], w[v], these);
        }
    }
    _Pragma("GCC unroll 12")
    for (int r = 0; r < rows; r++) add_sums(total[r], out + r * CHUNK);
}

static void add_rows(const char *weights, int64_t width, const char *next, int pace, const digit *x, int rows,
                     whole *out) {
    for (int n = 0; n < CHUNK; n += TAKEN, weights += FOUR * TAKEN, out += TAKEN, next += width / FOUR * pace)
        switch (rows) {
#define CASE(n) case n: tile_bytes(n, weights, width, next, pace, x, out); break
        CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6);
#if FOURS
        CASE(7); CASE(8); CASE(9); CASE(10); CASE(11); CASE(12);
#endif
#undef CASE
        }
}

/* `chunk` for a matrix in 8 bits. A few rows of bytes stay in the first cache while a piece is multiplied with them, and
   that in the second while all rows are; the next piece is fetched bit by bit meanwhile. Where one multiplication does,
   the weights are read in one go. */
static void chunk_of_bytes(const struct matrix *matrix, int64_t first, int count, int64_t next, const void *x, int rows,
                           float *out, whole *scratch) {
    const int64_t columns = matrix->columns;
    const int parts = DIGITS(matrix), all = rows * parts, groups = (all + MOST_DIGITS - 1) / MOST_DIGITS;
    const int pace = (FOUR * TAKEN + groups - 1) / groups;
    const char *weights = (const char *)matrix->numbers + first * columns;
    memset(scratch, 0, (size_t)all * CHUNK * sizeof *scratch);
    for (int64_t at = 0, width; at < columns; at += width, weights += width * CHUNK) {
        width = columns - at < PIECE ? columns - at : PIECE;
        const char *after = at + width < columns ? weights + width * CHUNK
                                                 : (const char *)matrix->numbers + next * columns;
        if (groups == 1 && TAKEN == CHUNK) after = weights + rows * AHEAD;
        for (int r = 0, size; r < all; r += size, after += width / FOUR * pace * (CHUNK / TAKEN)) {
            group_of(all, r, &size);
            add_rows(weights, width, after, pace, (const digit *)x + r * columns + at * size, size, scratch + r * CHUNK);
        }
    }
    const float *factors = factors_of(x, rows, matrix);
    const int32_t *sums = (const int32_t *)(factors + rows);
    for (int r = 0; r < rows; r++) {
        const int32_t *off = sums + r * parts; /* each weight is 128 too large */
        const whole *made = scratch + r * parts * CHUNK;
        for (int n = 0; n < count; n++) {
            float number = (float)(made[n] - (whole)128 * off[0]);
            if (parts == 2) number = number * 256 + (float)(made[CHUNK + n] - 128 * off[1]);
            out[r * CHUNK + n] = number * (factors[r] * matrix->scales[first + n]);
        }
    }
}
