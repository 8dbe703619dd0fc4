/* Matrices in int8, multiplied as integers.

   `quantize_row` sends a row of activations through a Hadamard transform and rounds it to integers of 16 bits, or of 8.
   The sums of products of integers are exact, so their order is free.

   A "digit" is the number that one multiplication takes from an activation. vpdpbusd multiplies bytes, so an activation of
   16 bits is two digits, and the high digit counts 256 times. Without VNNI a digit is the whole activation in 16 bits.

   Tests: test_bytes_are_multiplied_with_activations_of_sixteen_bits (each number of digit rows),
   test_the_largest_products_of_bytes_are_added_up_whole (no overflow),
   test_activations_that_are_no_numbers_stay_none_in_bytes,
   test_rows_that_lie_together_with_too_few_others_are_multiplied_too, test_columns_are_found_again_however_they_lie. */

#pragma once

#include "simd.h"

/* A tile multiplies INT8_OUTPUTS rows of the matrix by up to DIGIT_ROWS rows of digits, INT8_COLUMNS columns at a time. Each
   pair of a digit row and a register of weights has one register of sums. int_total holds the sum over all columns.

   VNNI: one register has 4 columns of 16 rows, so a task of 32 rows is 2 registers. 12 x 2 sums, 2 weights and the digits
   fit into 32 registers; 12 is even, so both digits of an activation are in one tile. 12 rows of 3,072 digits are 36 KB,
   which fits an L1 cache of 48 KB. A weight is at most 255 and a digit at most 128 in size, so a 32-bit lane can add
   65,536 products (2,139,095,040 < 2**31): neox/cpu_model.py allows that many columns, and int_total is int32.

   Without VNNI: 16-bit products need twice the lanes. One row has two lanes, each with every other pair of columns. 6 x 2
   sums and 2 weights fit into 16 registers. A weight is at most 255 and a digit at most 127 * 256 = 32,512 in size. In 512
   columns a lane adds 256 products: 2,122,383,360 < 2**31. 1,024 columns would overflow. So the tile ends after 512
   columns, and int_total is int64. The sum of 65,536 digits is below 2**31, too. */
#if HAS_VNNI
#define INT8_OUTPUTS ROWS_PER_TASK
#define DIGIT_ROWS 12
#define INT8_COLUMNS 3072
#define INT8_VECTORS (INT8_OUTPUTS / LANES)
#define DIGITS_PER_NUMBER(matrix) (matrix)->activation_bytes
typedef __m512i int_sums;
typedef __m512i weight_vec;
typedef int8_t digit;
typedef int32_t int_total;
#else
#define INT8_VECTORS 2
#define INT8_OUTPUTS (INT8_VECTORS * LANES / 2)
#define DIGIT_ROWS 6
#define INT8_COLUMNS 512
#define DIGITS_PER_NUMBER(matrix) 1
typedef ivec int_sums; /* two lanes for each row of the matrix */
typedef int16_t weight_vec __attribute__((vector_size(4 * LANES)));
typedef int16_t digit;
typedef int64_t int_total;
#endif
typedef digit digit_vec __attribute__((vector_size(LANES * sizeof(digit))));

/* The operand `x` of an int8 matrix: DIGITS_PER_NUMBER rows of digits for each row of activations, the high digits first.
   Up to DIGIT_ROWS rows form a group; a group stores 4 columns of each row, then the next 4 columns. Behind all groups lie
   one float factor for each row of activations and one int32 sum for each row of digits. README.md draws it.

   This function gives the address of the factors. */
INLINE float *row_factors(const void *x, int rows, const struct matrix *matrix) {
    return (float *)((char *)x + (int64_t)rows * DIGITS_PER_NUMBER(matrix) * matrix->columns * sizeof(digit));
}

/* The first digit row of the group that has digit row `at`, and the size of that group. */
INLINE int digit_group(int digit_rows, int at, int *size) {
    const int first = at / DIGIT_ROWS * DIGIT_ROWS;
    *size = digit_rows - first < DIGIT_ROWS ? digit_rows - first : DIGIT_ROWS;
    return first;
}

#if HAS_VNNI
/* The Hadamard transform of HADAMARD_SIZE numbers, in 16 registers. First the steps between registers, then the steps of
   distance 1, 2, 4 and 8 within each. */
INLINE void hadamard_block(float *block) {
    const vec one = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
    const vec two = {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
    const vec four = {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1};
    const vec eight = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
    enum { HADAMARD_VECTORS = HADAMARD_SIZE / LANES };
    vec y[HADAMARD_VECTORS];
    _Pragma("GCC unroll 16")
    for (int i = 0; i < HADAMARD_VECTORS; i++) y[i] = load(block + i * LANES);
    _Pragma("GCC unroll 4")
    for (int half = 1; half < HADAMARD_VECTORS; half *= 2)
        _Pragma("GCC unroll 16")
        for (int i = 0; i < HADAMARD_VECTORS; i++) {
            if (i & half) continue;
            const vec a = y[i], b = y[i + half];
            y[i] = a + b;
            y[i + half] = a - b;
        }
    _Pragma("GCC unroll 16")
    for (int i = 0; i < HADAMARD_VECTORS; i++) {
        vec x = y[i];
        x = x * one + (vec)_mm512_permute_ps((__m512)x, 0xb1);
        x = x * two + (vec)_mm512_permute_ps((__m512)x, 0x4e);
        x = x * four + (vec)_mm512_shuffle_f32x4((__m512)x, (__m512)x, 0xb1);
        x = x * eight + (vec)_mm512_shuffle_f32x4((__m512)x, (__m512)x, 0x4e);
        store(block + i * LANES, x);
    }
}
#endif

/* Multiplies each block of columns by a Hadamard matrix, in place. A block has HADAMARD_SIZE columns, or the largest power
   of two that divides `columns`. An outlier becomes many smaller numbers, so it does not take the precision of the other
   numbers. weights/quantized_matrix.py transforms the rows of the matrix in the same way, so the products stay the same
   (QuaRot, Ashkboos et al. 2024). The Hadamard matrix is not normalized: this function returns the factor by which the
   numbers have grown. */
static float hadamard(float *x, int64_t columns) {
    const int64_t most = columns & -columns, size = most < HADAMARD_SIZE ? most : HADAMARD_SIZE;
    for (int64_t at = 0; at < columns; at += size) {
        float *block = x + at;
#if HAS_VNNI
        if (size == HADAMARD_SIZE) {
            hadamard_block(block);
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

/* Stores LANES numbers as digits, INT8_GROUP at a time; `stride` is the distance between two groups of columns. */
INLINE void store_digits(digit *to, int64_t stride, ivec numbers) {
    const digit_vec some = __builtin_convertvector(numbers, digit_vec);
    for (int i = 0; i < LANES / INT8_GROUP; i++)
        memcpy(to + i * stride, (const digit *)&some + i * INT8_GROUP, INT8_GROUP * sizeof(digit));
}

/* The same for the two digit rows of an activation, which are neighbours. */
INLINE void store_digit_pairs(digit *to, int64_t stride, ivec high, ivec low) {
#if HAS_VNNI
    const __m128i a = _mm512_cvtepi32_epi8((__m512i)high), b = _mm512_cvtepi32_epi8((__m512i)low);
    const __m128i first = _mm_unpacklo_epi32(a, b), second = _mm_unpackhi_epi32(a, b);
    _mm_storel_epi64((__m128i *)to, first);
    _mm_storeh_pd((double *)(to + stride), (__m128d)first);
    _mm_storel_epi64((__m128i *)(to + 2 * stride), second);
    _mm_storeh_pd((double *)(to + 3 * stride), (__m128d)second);
#else
    store_digits(to, stride, high);
    store_digits(to + INT8_GROUP, stride, low);
#endif
}

/* Writes row r of the operand `x` from float32 activations, and destroys these. A NaN or an infinity makes the factor of
   the row NaN, so the row's results are NaN too. */
static void quantize_row(const struct matrix *matrix, void *x, int rows, int r, float *row) {
    const int64_t columns = matrix->columns;
    const int digits_per_number = DIGITS_PER_NUMBER(matrix);
    const float growth = hadamard(row, columns);
    vec most = broadcast(0.0f), total = broadcast(0.0f);
    for (int64_t i = 0; i < columns; i += LANES) {
        const vec size = (vec)((ivec)load(row + i) & 0x7fffffff);
        most = vmax(most, size);
        total += size;
    }
    float highest = 0;
    for (int i = 0; i < LANES; i++) highest = most[i] > highest ? most[i] : highest;
    const float largest = matrix->activation_bytes == 2 ? 127 * 256 : 127, unit = highest / largest;
    const vec per_unit = broadcast(highest > 0 ? largest / highest : 0);
    const float not_finite = 0.0f * horizontal_sum(total); /* NaN, or 0 */
    if (not_finite != 0) memset(row, 0, columns * sizeof *row); /* rounded, NaN would be integers of any size */
    int size;
    const int first = digit_group(rows * digits_per_number, r * digits_per_number, &size);
    digit *to = (digit *)x + first * columns + (r * digits_per_number - first) * INT8_GROUP;
    const int64_t stride = size * INT8_GROUP;
    ivec sums[2] = {{0}, {0}};
    for (int64_t i = 0; i < columns; i += LANES, to += LANES / INT8_GROUP * stride) {
        const ivec number = (ivec)(load(row + i) * per_unit + 12582912.0f) - (ivec)broadcast(12582912.0f);
        if (digits_per_number == 2) {
            const ivec high = (number + 128) >> 8, low = number - (high << 8);
            store_digit_pairs(to, stride, high, low);
            sums[0] += high;
            sums[1] += low;
        } else {
            store_digits(to, stride, number);
            sums[0] += number;
        }
    }
    float *factors = row_factors(x, rows, matrix);
    factors[r] = unit / growth + not_finite;
    for (int p = 0; p < digits_per_number; p++) {
        int32_t all_lanes = 0;
        for (int i = 0; i < LANES; i++) all_lanes += sums[p][i];
        ((int32_t *)(factors + rows))[r * digits_per_number + p] = all_lanes;
    }
}

INLINE weight_vec load_int8_weights(const char *from) {
#if HAS_VNNI
    return _mm512_loadu_si512(from);
#elif LANES == 16
    return (weight_vec)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)from));
#elif LANES == 8
    return (weight_vec)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from));
#elif defined(__SSE4_1__)
    return (weight_vec)_mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)from));
#else
    uint8_t some __attribute__((vector_size(2 * LANES)));
    memcpy(&some, from, sizeof some);
    return __builtin_convertvector(some, weight_vec);
#endif
}

/* Four digits of one row, repeated for each row of the matrix. */
INLINE weight_vec broadcast_digits(const digit *from) {
#if HAS_VNNI
    int32_t four;
    memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(four);
#else
    typedef int64_t fours __attribute__((vector_size(4 * LANES)));
    int64_t four;
    memcpy(&four, from, sizeof four);
    return (weight_vec)(four - (fours){0});
#endif
}

/* Adds the products of weights and digits to `sums`. */
INLINE void accumulate_dot(int_sums *sums, weight_vec weights, weight_vec x) {
#if HAS_VNNI
    /* With the intrinsic GCC 12 moves the sums out of their registers. */
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

/* Adds the sums of INT8_OUTPUTS rows to `out`. */
INLINE void add_sums(const int_sums sums[INT8_VECTORS], int_total *out) {
#if HAS_VNNI
    for (int v = 0; v < INT8_VECTORS; v++)
        _mm512_storeu_si512(out + v * LANES, _mm512_add_epi32(sums[v], _mm512_loadu_si512(out + v * LANES)));
#else
    const int each = sizeof *sums / sizeof(int32_t) * INT8_VECTORS / INT8_OUTPUTS;
    for (int n = 0; n < INT8_OUTPUTS; n++)
        for (int i = 0; i < each; i++) out[n] += ((const int32_t *)sums)[n * each + i];
#endif
}

/* Adds INT8_OUTPUTS rows of weights times `rows` rows of digits, over `width` columns, to `out` (rows, ROWS_PER_TASK). For
   each four columns it prefetches the next `pace` bytes from `next` on. The callers inline it with a constant `rows`, so
   that every sum has a register. */
INLINE void tile_int8(int rows, const char *weights, int64_t width, const char *next, int pace, const digit *x,
                      int_total *out) {
    int_sums total[DIGIT_ROWS][INT8_VECTORS];
    _Pragma("GCC unroll 12") /* otherwise GCC keeps the sums in memory */
    for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 2")
        for (int v = 0; v < INT8_VECTORS; v++) total[r][v] = (int_sums){0};
    for (int64_t column = 0; column < width; column += INT8_GROUP) {
        weight_vec w[INT8_VECTORS];
        _Pragma("GCC unroll 2")
        for (int v = 0; v < INT8_VECTORS; v++) {
            w[v] = load_int8_weights(weights + v * (INT8_GROUP * INT8_OUTPUTS / INT8_VECTORS));
            if (v * 64 < INT8_GROUP * INT8_OUTPUTS) __builtin_prefetch(next + v * 64, 0, 2);
        }
        _Pragma("GCC unroll 12")
        for (int r = 0; r < rows; r++) {
            const weight_vec digits = broadcast_digits(x + INT8_GROUP * r);
            _Pragma("GCC unroll 2")
            for (int v = 0; v < INT8_VECTORS; v++) accumulate_dot(&total[r][v], w[v], digits);
        }
        weights += INT8_GROUP * ROWS_PER_TASK;
        x += INT8_GROUP * rows;
        next += pace;
    }
    _Pragma("GCC unroll 12")
    for (int r = 0; r < rows; r++) add_sums(total[r], out + r * ROWS_PER_TASK);
}

/* `tile_int8` for all rows of a task; `rows` is a variable. */
static void tile_int8_all_outputs(const char *weights, int64_t width, const char *next, int pace, const digit *x, int rows,
                                  int_total *out) {
    for (int n = 0; n < ROWS_PER_TASK; n += INT8_OUTPUTS) {
        switch (rows) {
#define CASE(n) case n: tile_int8(n, weights, width, next, pace, x, out); break
        CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6);
#if HAS_VNNI
        CASE(7); CASE(8); CASE(9); CASE(10); CASE(11); CASE(12);
#endif
#undef CASE
        }
        weights += INT8_GROUP * INT8_OUTPUTS;
        out += INT8_OUTPUTS;
        next += width / INT8_GROUP * pace;
    }
}

/* `matmul_float` for an int8 matrix. A group of digit rows stays in L1 while INT8_COLUMNS columns of the task are multiplied
   by it, and these columns stay in L2 until all groups have had them. Meanwhile each group prefetches its part of the next
   columns. One group alone reads the weights as one stream, and prefetches at a fixed distance. */
static void matmul_int8(const struct matrix *matrix, int64_t first, int count, int64_t next, const void *x, int rows,
                        float *out, int_total *scratch) {
    const int64_t columns = matrix->columns;
    const int digits_per_number = DIGITS_PER_NUMBER(matrix), digit_rows = rows * digits_per_number;
    const int groups = (digit_rows + DIGIT_ROWS - 1) / DIGIT_ROWS;
    const int pace = (INT8_GROUP * INT8_OUTPUTS + groups - 1) / groups;
    const char *weights = (const char *)matrix->weights + first * columns;
    memset(scratch, 0, (size_t)digit_rows * ROWS_PER_TASK * sizeof *scratch);
    for (int64_t at = 0, width; at < columns; at += width, weights += width * ROWS_PER_TASK) {
        width = columns - at < INT8_COLUMNS ? columns - at : INT8_COLUMNS;
        const char *after = at + width < columns ? weights + width * ROWS_PER_TASK
                                                 : (const char *)matrix->weights + next * columns;
        if (groups == 1 && INT8_OUTPUTS == ROWS_PER_TASK) after = weights + rows * PREFETCH_BYTES;
        for (int r = 0, size; r < digit_rows; r += size) {
            digit_group(digit_rows, r, &size);
            const digit *digits = (const digit *)x + r * columns + at * size;
            tile_int8_all_outputs(weights, width, after, pace, digits, size, scratch + r * ROWS_PER_TASK);
            after += width / INT8_GROUP * pace * (ROWS_PER_TASK / INT8_OUTPUTS);
        }
    }
    const float *factors = row_factors(x, rows, matrix);
    const int32_t *sums = (const int32_t *)(factors + rows);
    for (int r = 0; r < rows; r++) {
        const int32_t *digit_sums = sums + r * digits_per_number; /* each stored weight is 128 too large */
        const int_total *total = scratch + r * digits_per_number * ROWS_PER_TASK;
        for (int n = 0; n < count; n++) {
            float number = (float)(total[n] - (int_total)128 * digit_sums[0]);
            if (digits_per_number == 2) number = number * 256 + (float)(total[ROWS_PER_TASK + n] - 128 * digit_sums[1]);
            out[r * ROWS_PER_TASK + n] = number * (factors[r] * matrix->scales[first + n]);
        }
    }
}
