/* Activations times a matrix of any kind, with bias, residual sum or activation function.

   Tests: test_logits_are_those_of_torch_with_the_same_weights (each kind, bias and activation),
   test_rows_that_lie_together_with_too_few_others_are_multiplied_too (a last task that is not full). */

#pragma once

#include "matmul_float.h"
#include "matmul_int8.h"
#include "threads.h"

/* What happens to a product (bias included): store it, add it to the output, or store its activation function. */
enum epilogue { STORE, ADD, ACTIVATE };

/* Stores float32 numbers from index `at` on, rounded to bfloat16 where the matrix is multiplied in bfloat16. */
static void store_activations(int is_bf16, void *to, int64_t at, const float *from, int64_t count) {
    if (!is_bf16) {
        memcpy((float *)to + at, from, count * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < count; i++) ((bf16 *)to + at)[i] = to_bf16(from[i]);
}

/* Writes row r of the operand `x` for `matrix` from float32 activations. int8 destroys the numbers in `row`. */
static void pack_row(const struct shape *shape, const struct matrix *matrix, void *x, int rows, int r, float *row) {
    if (matrix->kind == INT8) quantize_row(matrix, x, rows, r, row);
    else store_activations(shape->bf16_activations, x, r * matrix->columns, row, matrix->columns);
}

/* out (rows, matrix rows) = x (rows, columns; see `pack_row`) times the transposed matrix, plus bias; see `epilogue`. All
   threads call it, and each takes ROWS_PER_TASK rows of the matrix at a time. It asks for its next task before it computes
   one, so that a tile can prefetch the weights that come next. */
static void matmul(struct pool *pool, int thread, enum phase phase, const struct shape *shape, const struct matrix *matrix,
                   const void *x, int rows, enum epilogue epilogue, float *out) {
    const int is_bf16 = shape->bf16_activations;
    const size_t tile_size = (size_t)rows * ROWS_PER_TASK * sizeof(float);
    char *memory = pool->scratch[thread];
    float *products = (float *)memory;
    char *scratch = memory + tile_size;
    const int64_t tasks = (matrix->rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
    int finished = 0;
    int64_t next = next_chunk(pool, thread, phase, tasks, &finished) * ROWS_PER_TASK;
    while (next < matrix->rows) {
        const int64_t first = next;
        next = next_chunk(pool, thread, phase, tasks, &finished) * ROWS_PER_TASK;
        const int64_t after = next < matrix->rows ? next : first;
        int count = matrix->rows - first < ROWS_PER_TASK ? (int)(matrix->rows - first) : ROWS_PER_TASK;
        for (int r = 0; r < rows; r++) /* otherwise the first write to each row waits for memory */
            for (int n = 0; n < count; n += LANES) __builtin_prefetch(out + r * matrix->rows + first + n, 1);
        switch (matrix->kind * 2 + is_bf16) {
        case FLOAT32 * 2: matmul_float(FLOAT32, 0, matrix, first, count, after, x, rows, products, scratch); break;
        case BFLOAT16 * 2: matmul_float(BFLOAT16, 0, matrix, first, count, after, x, rows, products, scratch); break;
        case BFLOAT16 * 2 + 1: matmul_float(BFLOAT16, 1, matrix, first, count, after, x, rows, products, scratch); break;
        case INT8 * 2:
        case INT8 * 2 + 1: matmul_int8(matrix, first, count, after, x, rows, products, (int_total *)scratch); break;
        case INT4 * 2: matmul_float(INT4, 0, matrix, first, count, after, x, rows, products, scratch); break;
        case INT4 * 2 + 1: matmul_float(INT4, 1, matrix, first, count, after, x, rows, products, scratch); break;
        default: return;
        }
        for (int r = 0; r < rows; r++) {
            float *to = out + r * matrix->rows + first;
            for (int n = 0; n < count; n += LANES) {
                const int some = count - n;
                vec x = load(products + r * ROWS_PER_TASK + n);
                if (matrix->bias) x += load_partial(matrix->bias + first + n, some);
                if (epilogue == ADD) x = load_partial(to + n, some) + x;
                else if (epilogue == ACTIVATE) x = activate(shape->activation, x);
                store_partial(to + n, x, some);
            }
        }
    }
}
