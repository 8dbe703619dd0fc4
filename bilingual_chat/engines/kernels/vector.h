/* Arithmetic on LANES numbers at a time. */

#pragma once

#include "shapes.h"

#include <math.h>
#include <string.h>

INLINE vec all(float x) {
    return x - (vec){0}; /* of minus zero, too */
}

INLINE vec load(const float *from) {
    vec x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(float *to, vec x) {
    memcpy(to, &x, sizeof x);
}

/* The first `count` of them, where there are no more. */
INLINE vec load_some(const float *from, int count) {
    if (count >= LANES) return load(from);
    vec x = all(0.0f);
    memcpy(&x, from, count * sizeof *from);
    return x;
}

INLINE void store_some(float *to, vec x, int count) {
    if (count >= LANES) store(to, x);
    else memcpy(to, &x, count * sizeof *to);
}

/* Some integers, unsigned. GCC 12 takes shorter vectors apart, number by number, where it is not told how. */
INLINE ivec integers_of(const bf16 *from) {
#if LANES == 8
    return (ivec)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
#elif defined(__SSE4_1__) && LANES == 4
    return (ivec)_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)from));
#else
    halves x;
    memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, ivec);
#endif
}

INLINE ivec integers_of_bytes(const uint8_t *from) {
#if LANES == 8
    return (ivec)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
#elif defined(__SSE4_1__) && LANES == 4
    int32_t four;
    memcpy(&four, from, sizeof four);
    return (ivec)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
#else
    ubytes x;
    memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, ivec);
#endif
}

INLINE vec widen(const bf16 *from) {
    return (vec)(integers_of(from) << 16);
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

/* Halves onto each other, four times: the order of `sum_four`, too. */
INLINE float sum(vec x) {
#if PAIRS
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

/* The sums of four vectors: half the work of four times `sum`, bit for bit the same. */
INLINE void sum_four(const vec x[4], float *to) {
#if PAIRS
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
    for (int i = 0; i < 4; i++) to[i] = sum(x[i]);
#endif
}

INLINE vec larger(vec a, vec b) {
    ivec mask = a > b;
    return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

INLINE vec smaller(vec a, vec b) {
    return -larger(-a, -b);
}

/* e**x of x up to 88: 2**n times a polynomial of the rest; relative error about 1e-7. */
INLINE vec exponential(vec x) {
    x = larger(x, all(-87.0f));
    vec shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2**23 rounds to an integer */
    ivec n = (ivec)shifted - (ivec)all(12582912.0f);
    vec whole = shifted - 12582912.0f;
    vec rest = x - whole * 0.693145752f;
    rest = rest - whole * 1.42860677e-6f;
    vec square = rest * rest;
    vec y = (square * (1.0f / 720) + (rest * (1.0f / 120) + 1.0f / 24)) * square + (rest * (1.0f / 6) + 0.5f);
    y = y * square + (rest + 1.0f);
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
    if (how == GELU_TANH) return x / (1.0f + exponential(smaller(-1.59576912f * (x + 0.044715f * x * x * x), all(88.0f))));
    return larger(x, all(0.0f));
}
