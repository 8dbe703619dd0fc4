/* One layer of GPT-NeoX for some rows of activations on a CPU, and the output head: the functions that neox/cpu_model.py
   calls. README.md draws the layouts and the work of a layer.

   The memory bandwidth limits a pass over one token, so everything else hides behind the reading of the weights. A layer is
   one call. It reads its matrices once for all rows, multiplies int8 weights as integers, and dequantizes int4 weights in
   registers.

   Each row adds its numbers in the same order however many rows a pass has. So a row's result does not depend on its
   neighbours, bit for bit, and lookahead can try several tokens in one pass without changing a reply.

   Activations are float32. On a processor with AVX512_BF16, bfloat16 and int4 matrices take activations rounded to bfloat16,
   as in the model's own arithmetic, and add in float32. int8 matrices take activations rounded to integers of 16 bits (or
   of 8) and add exactly.

   C11 with the vector extensions of GCC and Clang, and POSIX threads.

   Tests: test_logits_are_those_of_torch_with_the_same_weights, test_unwanted_rows_still_write_their_keys_and_values,
   test_how_many_threads_compute_changes_no_bit, test_rows_of_several_sequences_are_computed_as_if_alone. */

#include "attention.h"

/* row = layer norm of x (hidden numbers each). */
static void layer_norm(const struct shape *shape, const float *x, const float *weight, const float *bias, float *row) {
    const int size = shape->hidden;
    vec total = broadcast(0.0f), squares = broadcast(0.0f);
    for (int i = 0; i < size; i += LANES) total += load(x + i);
    float mean = horizontal_sum(total) / size;
    for (int i = 0; i < size; i += LANES) {
        vec deviation = load(x + i) - mean;
        squares += deviation * deviation;
    }
    float factor = 1.0f / sqrtf(horizontal_sum(squares) / size + shape->epsilon);
    for (int i = 0; i < size; i += LANES)
        store(row + i, (load(x + i) - mean) * factor * load(weight + i) + load(bias + i));
}

/* A thread prepares the rows from first_row_of(thread) to first_row_of(thread + 1). They are neighbours: a cache line of an
   int8 operand has digits of several rows, and two threads that write to one line wait for each other. */
INLINE int first_row_of(const struct pool *pool, int thread, int count) {
    return (int64_t)count * thread / pool->threads;
}

/* The work of one thread on a layer. `needed` has the last rows, whose output the caller needs; of the other rows the layer
   computes keys and values only. */
static void compute_layer(struct pool *pool, int thread) {
    const struct pass *pass = pool->argument, *needed = pass->needed;
    const struct shape *shape = pass->shape;
    const struct layer *layer = pass->layer;
    const int heads = shape->heads, all_rows = pass->batch->rows, rows = needed->batch->rows;
    float *scratch = pool->scratch[thread];
    for (int r = first_row_of(pool, thread, all_rows); r < first_row_of(pool, thread + 1, all_rows); r++) {
        const float *row = pass->hidden + (int64_t)r * shape->hidden;
        layer_norm(shape, row, layer->norm[0], layer->norm[1], scratch);
        pack_row(shape, &layer->qkv, pass->attention_input, all_rows, r, scratch);
        const int at = r - (all_rows - rows);
        if (!shape->parallel_residual || at < 0) continue;
        layer_norm(shape, row, layer->norm[2], layer->norm[3], scratch);
        pack_row(shape, &layer->up, pass->mlp_input, rows, at, scratch);
    }
    barrier(pool);
    matmul(pool, thread, QKV_PHASE, shape, &layer->qkv, pass->attention_input, all_rows, STORE, pass->qkv);
    barrier(pool);
    const int end = first_row_of(pool, thread + 1, all_rows * heads);
    for (int i = first_row_of(pool, thread, all_rows * heads); i < end; i++) store_key_value(pass, i / heads, i % heads);
    if (!rows) return; /* later tokens need the keys and values only */
    barrier(pool);
    attention(pool, thread, needed, scratch);
    barrier(pool);
    for (int r = first_row_of(pool, thread, rows); r < first_row_of(pool, thread + 1, rows); r++)
        pack_row(shape, &layer->dense, pass->dense_input, rows, r, pass->raw + (int64_t)r * shape->hidden);
    barrier(pool);
    matmul(pool, thread, DENSE_PHASE, shape, &layer->dense, pass->dense_input, rows, ADD, needed->hidden);
    barrier(pool);
    if (!shape->parallel_residual) {
        for (int r = first_row_of(pool, thread, rows); r < first_row_of(pool, thread + 1, rows); r++) {
            layer_norm(shape, needed->hidden + (int64_t)r * shape->hidden, layer->norm[2], layer->norm[3], scratch);
            pack_row(shape, &layer->up, pass->mlp_input, rows, r, scratch);
        }
        barrier(pool);
    }
    matmul(pool, thread, UP_PHASE, shape, &layer->up, pass->mlp_input, rows, ACTIVATE, pass->raw);
    barrier(pool);
    for (int r = first_row_of(pool, thread, rows); r < first_row_of(pool, thread + 1, rows); r++)
        pack_row(shape, &layer->down, pass->down_input, rows, r, pass->raw + (int64_t)r * shape->intermediate);
    barrier(pool);
    matmul(pool, thread, DOWN_PHASE, shape, &layer->down, pass->down_input, rows, ADD, needed->hidden);
}

/* The work of one thread on the output head. */
static void compute_head(struct pool *pool, int thread) {
    const struct pass *pass = pool->argument;
    const struct shape *shape = pass->shape;
    const int rows = pass->batch->rows;
    for (int r = first_row_of(pool, thread, rows); r < first_row_of(pool, thread + 1, rows); r++) {
        layer_norm(shape, pass->hidden + (int64_t)r * shape->hidden, pass->norm[0], pass->norm[1], pool->scratch[thread]);
        pack_row(shape, pass->head, pass->attention_input, rows, r, pool->scratch[thread]);
    }
    barrier(pool);
    matmul(pool, thread, HEAD_PHASE, shape, pass->head, pass->attention_input, rows, STORE, pass->logits);
}

/* ---- called by neox/cpu_model.py --------------------------------------------------------------------------------- */

/* Does this processor multiply bfloat16? Then shape.bf16_activations may be set. */
int bchat_multiplies_bfloat16(void) {
    return HAS_BF16;
}

/* A pool of `threads` threads (fewer if the system refuses), which lives as long as the process. NULL: no memory. */
struct pool *bchat_pool(int threads) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    init_int4_tables();
    pool->scratch = calloc(threads, sizeof *pool->scratch);
    pool->scratch_size = calloc(threads, sizeof *pool->scratch_size);
    pool->counters = aligned_alloc(sizeof *pool->counters, PHASES * threads * sizeof *pool->counters);
    if (!pool->scratch || !pool->scratch_size || !pool->counters || pthread_mutex_init(&pool->mutex, NULL) ||
        pthread_cond_init(&pool->wake, NULL) || pthread_cond_init(&pool->released, NULL))
        return NULL;
    pool->threads = 1;
    for (int i = 1; i < threads; i++) {
        struct worker *worker = malloc(sizeof *worker);
        pthread_t thread;
        if (!worker) break;
        *worker = (struct worker){pool, i};
        pool->threads = i + 1; /* before the thread starts, because it reads this */
        if (pthread_create(&thread, NULL, run_worker, worker)) {
            pool->threads = i;
            free(worker);
            break;
        }
        pthread_detach(thread);
    }
    return pool;
}

/* Grows the buffers for a pass, and gives each its address. `longest` is the number of positions that attention sees. It
   returns 0 if memory is exhausted.

   The scratch memory of a thread holds one of these at a time:
   - a row after a layer norm: `hidden` floats;
   - a task of a matmul: its product (rows x ROWS_PER_TASK floats), and behind it a dequantized tile (TILE_OUTPUTS of the
     longest rows) or the int8 totals (ROWS_PER_TASK numbers of 64 bits, or twice as many of 32, for each row);
   - a task of attention: for each of ROWS_PER_ATTENTION rows a sum and a query (head_size floats each) and the scores.

   The shared memory holds, for each row: attention_input, mlp_input and dense_input (hidden), qkv (3 hidden), down_input
   (intermediate), raw (the larger of both). Each number has room for a float. bfloat16 needs half of that, and so does int8:
   2 bytes for a number and 12 bytes for a row. */
static int reserve_buffers(struct pool *pool, struct pass *pass, int longest) {
    const struct shape *shape = pass->shape;
    const size_t rows = pass->batch->rows, hidden = shape->hidden, intermediate = shape->intermediate;
    const size_t most = hidden > intermediate ? hidden : intermediate;
    const size_t attention_task = ROWS_PER_ATTENTION * ((size_t)longest + LANES + 2 * shape->head_size);
    const size_t product = rows * ROWS_PER_TASK;
    const size_t matmul_task = product + (TILE_OUTPUTS * most > 2 * product ? TILE_OUTPUTS * most : 2 * product);
    size_t scratch = attention_task > matmul_task ? attention_task : matmul_task;
    scratch = (scratch > hidden ? scratch : hidden) * sizeof(float);
    for (int i = 0; i < pool->threads; i++)
        if (!reserve(&pool->scratch[i], &pool->scratch_size[i], scratch)) return 0;
    char *at = reserve(&pool->shared, &pool->shared_size, rows * (6 * hidden + intermediate + most) * sizeof(float));
    if (!at) return 0;
    const size_t row = rows * hidden * sizeof(float);
    pass->attention_input = at;
    pass->mlp_input = at + row;
    pass->dense_input = at + 2 * row;
    pass->qkv = (float *)(at + 3 * row);
    pass->down_input = at + 6 * row;
    pass->raw = (float *)(at + 6 * row + rows * intermediate * sizeof(float));
    return 1;
}

/* Sends `hidden` (rows, hidden) through one layer. The last `needed` rows get their output in place; of the other rows the
   layer computes keys and values only, and their numbers stay. Returns 0 if memory is exhausted. */
int bchat_layer(struct pool *pool, const struct shape *shape, const struct layer *layer, const struct batch *batch,
                int needed, float *hidden) {
    const int64_t others = batch->rows - needed;
    const struct batch last = {needed, batch->position + others, batch->keys + others, batch->values + others,
                               batch->capacity + others};
    struct pass pass = {.shape = shape, .layer = layer, .batch = batch, .hidden = hidden};
    int longest = 0;
    for (int r = 0; r < batch->rows; r++) longest = batch->position[r] > longest ? batch->position[r] : longest;
    if (!reserve_buffers(pool, &pass, longest + 1)) return 0;
    struct pass some = pass;
    some.batch = &last;
    some.hidden += others * shape->hidden;
    some.qkv += others * 3 * shape->hidden;
    pass.needed = &some;
    run_on_all(pool, compute_layer, &pass);
    return 1;
}

/* logits (rows, vocabulary) of `hidden` (rows, hidden), final layer norm included. Returns 0 if memory is exhausted. */
int bchat_head(struct pool *pool, const struct shape *shape, const struct matrix *head, const float *const *norm,
               int rows, float *hidden, float *logits) {
    struct batch batch = {.rows = rows};
    struct pass pass = {.shape = shape, .batch = &batch, .hidden = hidden, .head = head, .norm = norm,
                        .logits = logits};
    if (!reserve_buffers(pool, &pass, 1)) return 0;
    run_on_all(pool, compute_head, &pass);
    return 1;
}
