/* Arithmetic on vectors of LANES numbers: load, store, convert, sum, exp, erf, activation functions.

   Tests: test_logits_are_those_of_torch_with_the_same_weights (each activation function; softmax uses `vexp`),
   test_a_row_does_not_depend_on_its_neighbours_to_the_last_bit (`horizontal_sum` and `horizontal_sum4` agree). */

#pragma once

#include "types.h"

#include <math.h>
#include <string.h>

INLINE vec broadcast(float x) {
    return x - (vec){0}; /* minus: -0 + 0 would be +0 */
}

INLINE vec load(const float *from) {
    vec x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(float *to, vec x) {
    memcpy(to, &x, sizeof x);
}

/* The first `count` numbers, the rest zero; `count` may be more than LANES. */
INLINE vec load_partial(const float *from, int count) {
    if (count >= LANES) return load(from);
    vec x = broadcast(0.0f);
    memcpy(&x, from, count * sizeof *from);
    return x;
}

INLINE void store_partial(float *to, vec x, int count) {
    if (count >= LANES) store(to, x);
    else memcpy(to, &x, count * sizeof *to);
}

/* LANES unsigned numbers of 16 bits as int32. Without the intrinsics GCC 12 converts short vectors number by number. */
INLINE ivec load_u16(const bf16 *from) {
#if LANES == 8
    return (ivec)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
#elif defined(__SSE4_1__) && LANES == 4
    return (ivec)_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)from));
#else
    u16vec x;
    memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, ivec);
#endif
}

/* The same from numbers of 8 bits. */
INLINE ivec load_u8(const uint8_t *from) {
#if LANES == 8
    return (ivec)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
#elif defined(__SSE4_1__) && LANES == 4
    int32_t four;
    memcpy(&four, from, sizeof four);
    return (ivec)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
#else
    u8vec x;
    memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, ivec);
#endif
}

INLINE vec load_bf16(const bf16 *from) {
    return (vec)(load_u16(from) << 16);
}

/* Rounds to nearest, ties to even. It does not look for NaN: the NaN that arithmetic makes (0x7fc00000, either sign) stays
   NaN. */
INLINE bf16 to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bf16)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

/* Adds the upper half to the lower half until one number is left. `horizontal_sum4` adds in the same order. */
INLINE float horizontal_sum(vec x) {
#if HAS_BF16
    const __m512 y = (__m512)x;
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(y), _mm512_extractf32x8_ps(y, 1));
    __m128 z = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    z = _mm_add_ps(z, _mm_permute_ps(z, 0x4e));
    return _mm_cvtss_f32(_mm_add_ps(z, _mm_permute_ps(z, 0xb1)));
#endif
    float part[LANES];
    memcpy(part, &x, sizeof part);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

/* The sums of four vectors: bit for bit those of `horizontal_sum`, at half the work. */
INLINE void horizontal_sum4(const vec x[4], float *to) {
#if HAS_BF16
    __m512 two[2];
    for (int i = 0; i < 2; i++) {
        const __m512 a = (__m512)x[2 * i], b = (__m512)x[2 * i + 1];
        two[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
    __m512 y = _mm512_add_ps(_mm512_shuffle_f32x4(two[0], two[1], 0x88), _mm512_shuffle_f32x4(two[0], two[1], 0xdd));
    y = _mm512_add_ps(y, _mm512_permute_ps(y, 0x4e));
    y = _mm512_add_ps(y, _mm512_permute_ps(y, 0xb1));
    _mm_storeu_ps(to, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, y)));
#else
    for (int i = 0; i < 4; i++) to[i] = horizontal_sum(x[i]);
#endif
}

INLINE vec vmax(vec a, vec b) {
    ivec mask = a > b;
    return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

INLINE vec vmin(vec a, vec b) {
    return -vmax(-a, -b);
}

/* exp(x) for x <= 88; below -87 it is exp(-87). 2**n times a polynomial of the remainder, relative error about 1e-7. */
INLINE vec vexp(vec x) {
    x = vmax(x, broadcast(-87.0f));
    vec shifted = x * 1.44269504f + 12582912.0f; /* adding 1.5 * 2**23 rounds to an integer */
    ivec n = (ivec)shifted - (ivec)broadcast(12582912.0f);
    vec power = shifted - 12582912.0f;
    vec rest = x - power * 0.693145752f;
    rest = rest - power * 1.42860677e-6f;
    vec square = rest * rest;
    vec y = (square * (1.0f / 720) + (rest * (1.0f / 120) + 1.0f / 24)) * square + (rest * (1.0f / 6) + 0.5f);
    y = y * square + (rest + 1.0f);
    return y * (vec)((n + 127) << 23);
}

/* erf(x) by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7. */
INLINE vec verf(vec x) {
    vec size = vmax(x, -x);
    vec t = 1.0f / (1.0f + 0.3275911f * size);
    vec y = broadcast(1.061405429f);
    y = y * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = y * t + 0.254829592f;
    y = 1.0f - y * t * vexp(-size * size);
    return (vec)((ivec)y | ((ivec)x & (int32_t)0x80000000));
}

INLINE vec activate(int activation, vec x) {
    if (activation == GELU) return 0.5f * x * (1.0f + verf(x * 0.70710678f));
    if (activation == GELU_TANH)
        return x / (1.0f + vexp(vmin(-1.59576912f * (x + 0.044715f * x * x * x), broadcast(88.0f))));
    return vmax(x, broadcast(0.0f));
}
