/* A matrix of any kind. */

#pragma once

#include "bytes.h"
#include "threads.h"
#include "widened.h"

enum result { PLAIN, ADDED, ACTIVATED };

static void put_narrow(int narrow, void *to, int64_t at, const float *from, int64_t count) {
    if (!narrow) {
        memcpy((float *)to + at, from, count * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < count; i++) ((bf16 *)to + at)[i] = round_one(from[i]);
}

/* Row r of what `matrix` is multiplied with, from its numbers, which are lost. */
static void put(const struct shape *shape, const struct matrix *matrix, void *x, int rows, int r, float *row) {
    if (matrix->kind == INT8) put_bytes(matrix, x, rows, r, row);
    else put_narrow(shape->narrow, x, r * matrix->columns, row, matrix->columns);
}

/* x (rows, columns), as `put` left it, times the transposed matrix, plus its bias: into out (PLAIN), onto out (ADDED), or
   through the activation into out (ACTIVATED). Threads take the next CHUNK in turn. */
static void multiply(struct pool *pool, int thread, int phase, const struct shape *shape, const struct matrix *matrix,
                     const void *x, int rows, enum result result, float *out) {
    const int narrow = shape->narrow;
    const size_t tile_size = (size_t)rows * CHUNK * sizeof(float);
    char *own = pool->own[thread];
    float *values = (float *)own;
    char *scratch = own + tile_size;
    const int64_t chunks = (matrix->rows + CHUNK - 1) / CHUNK;
    int helped = 0;
    int64_t next = take(pool, thread, phase, chunks, &helped) * CHUNK;
    while (next < matrix->rows) {
        const int64_t first = next;
        next = take(pool, thread, phase, chunks, &helped) * CHUNK;
        const int64_t then = next < matrix->rows ? next : first;
        int count = matrix->rows - first < CHUNK ? (int)(matrix->rows - first) : CHUNK;
        for (int r = 0; r < rows; r++) /* or the first write of each row waits */
            for (int n = 0; n < count; n += LANES) __builtin_prefetch(out + r * matrix->rows + first + n, 1);
        switch (matrix->kind * 2 + narrow) {
        case FLOAT32 * 2: chunk(FLOAT32, 0, matrix, first, count, then, x, rows, values, scratch); break;
        case BFLOAT16 * 2: chunk(BFLOAT16, 0, matrix, first, count, then, x, rows, values, scratch); break;
        case BFLOAT16 * 2 + 1: chunk(BFLOAT16, 1, matrix, first, count, then, x, rows, values, scratch); break;
        case INT8 * 2:
        case INT8 * 2 + 1: chunk_of_bytes(matrix, first, count, then, x, rows, values, (whole *)scratch); break;
        case INT4 * 2: chunk(INT4, 0, matrix, first, count, then, x, rows, values, scratch); break;
        case INT4 * 2 + 1: chunk(INT4, 1, matrix, first, count, then, x, rows, values, scratch); break;
        default: return;
        }
        for (int r = 0; r < rows; r++) {
            float *to = out + r * matrix->rows + first;
            for (int n = 0; n < count; n += LANES) {
                const int some = count - n;
                vec x = load(values + r * CHUNK + n);
                if (matrix->bias) x += load_some(matrix->bias + first + n, some);
                if (result == ADDED) x = load_some(to + n, some) + x;
                else if (result == ACTIVATED) x = activate(shape->activation, x);
                store_some(to + n, x, some);
            }
        }
    }
}
