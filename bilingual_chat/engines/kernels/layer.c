/* One layer of GPT-NeoX for a few rows on a CPU, and its output head: what engines/native compiles and calls.

   Single-token steps are limited by how fast weights come from memory, so everything else has to hide behind that:
   a layer is one call, its matrices are read once for all rows, 8-bit weights are multiplied as they are, and 4-bit
   ones are widened in registers.
   Each row's numbers are added up in the same order however many rows there are: a row's result does not depend on
   its neighbours, bit for bit, which is what lets several tokens be tried in one pass without changing a reply.

   Activations are float32; where the processor multiplies bfloat16 (AVX512_BF16) they are rounded to that before each
   matrix in 16 or 4 bits, as the model's own arithmetic does, and added up in float32. Before a matrix in 8 bits they
   are rounded to integers of 16 bits, or of 8 where that is asked for; those products are added up exactly.
   C11 with the vector extensions of GCC and Clang, and POSIX threads. */

#include "attention.h"

static void normalise(const struct shape *shape, const float *x, const float *weight, const float *bias, float *row) {
    const int size = shape->hidden;
    vec total = all(0.0f), squares = all(0.0f);
    for (int i = 0; i < size; i += LANES) total += load(x + i);
    float mean = sum(total) / size;
    for (int i = 0; i < size; i += LANES) {
        vec off = load(x + i) - mean;
        squares += off * off;
    }
    float factor = 1.0f / sqrtf(sum(squares) / size + shape->epsilon);
    for (int i = 0; i < size; i += LANES)
        store(row + i, (load(x + i) - mean) * factor * load(weight + i) + load(bias + i));
}

/* The first of `count` rows that a thread prepares: neighbours, since the bytes of some rows lie together, and two threads
   that write into the same lines of the cache wait for each other. */
INLINE int share_of(const struct pool *pool, int thread, int count) {
    return (int64_t)count * thread / pool->threads;
}

static void work_on_layer(struct pool *pool, int thread) {
    const struct pass *pass = pool->argument, *wanted = pass->wanted;
    const struct shape *shape = pass->shape;
    const struct layer *layer = pass->layer;
    const int heads = shape->heads, all_rows = pass->places->rows, rows = wanted->places->rows;
    float *own = pool->own[thread];
    for (int r = share_of(pool, thread, all_rows); r < share_of(pool, thread + 1, all_rows); r++) {
        const float *row = pass->hidden + (int64_t)r * shape->hidden;
        normalise(shape, row, layer->norm[0], layer->norm[1], own);
        put(shape, &layer->qkv, pass->normed, all_rows, r, own);
        const int at = r - (all_rows - rows);
        if (!shape->parallel || at < 0) continue;
        normalise(shape, row, layer->norm[2], layer->norm[3], own);
        put(shape, &layer->up, pass->normed_too, rows, at, own);
    }
    meet(pool);
    multiply(pool, thread, 0, shape, &layer->qkv, pass->normed, all_rows, PLAIN, pass->qkv);
    meet(pool);
    const int end = share_of(pool, thread + 1, all_rows * heads);
    for (int i = share_of(pool, thread, all_rows * heads); i < end; i++) place(pass, i / heads, i % heads);
    if (!rows) return; /* keys and values are all that later tokens see of these */
    meet(pool);
    attend_all(pool, thread, wanted, own);
    meet(pool);
    for (int r = share_of(pool, thread, rows); r < share_of(pool, thread + 1, rows); r++)
        put(shape, &layer->dense, pass->mixed, rows, r, pass->raw + (int64_t)r * shape->hidden);
    meet(pool);
    multiply(pool, thread, 2, shape, &layer->dense, pass->mixed, rows, ADDED, wanted->hidden);
    meet(pool);
    if (!shape->parallel) {
        for (int r = share_of(pool, thread, rows); r < share_of(pool, thread + 1, rows); r++) {
            normalise(shape, wanted->hidden + (int64_t)r * shape->hidden, layer->norm[2], layer->norm[3], own);
            put(shape, &layer->up, pass->normed_too, rows, r, own);
        }
        meet(pool);
    }
    multiply(pool, thread, 3, shape, &layer->up, pass->normed_too, rows, ACTIVATED, pass->raw);
    meet(pool);
    for (int r = share_of(pool, thread, rows); r < share_of(pool, thread + 1, rows); r++)
        put(shape, &layer->down, pass->wide, rows, r, pass->raw + (int64_t)r * shape->wide);
    meet(pool);
    multiply(pool, thread, 4, shape, &layer->down, pass->wide, rows, ADDED, wanted->hidden);
}

static void work_on_head(struct pool *pool, int thread) {
    const struct pass *pass = pool->argument;
    const struct shape *shape = pass->shape;
    const int rows = pass->places->rows;
    for (int r = share_of(pool, thread, rows); r < share_of(pool, thread + 1, rows); r++) {
        normalise(shape, pass->hidden + (int64_t)r * shape->hidden, pass->norm[0], pass->norm[1], pool->own[thread]);
        put(shape, pass->head, pass->normed, rows, r, pool->own[thread]);
    }
    meet(pool);
    multiply(pool, thread, 0, shape, pass->head, pass->normed, rows, PLAIN, pass->logits);
}

/* ---- what engines/native calls --------------------------------------------------------------------------------- */

int bchat_multiplies_bfloat16(void) {
    return PAIRS;
}

struct pool *bchat_pool(int threads) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    fill_tables();
    pool->own = calloc(threads, sizeof *pool->own);
    pool->own_size = calloc(threads, sizeof *pool->own_size);
    pool->counts = aligned_alloc(sizeof *pool->counts, PHASES * threads * sizeof *pool->counts);
    if (!pool->own || !pool->own_size || !pool->counts || pthread_mutex_init(&pool->mutex, NULL) ||
        pthread_cond_init(&pool->wake, NULL) || pthread_cond_init(&pool->met, NULL))
        return NULL;
    pool->threads = 1;
    for (int i = 1; i < threads; i++) {
        struct member *member = malloc(sizeof *member);
        pthread_t thread;
        if (!member) break;
        *member = (struct member){pool, i};
        pool->threads = i + 1; /* before it runs: it reads this */
        if (pthread_create(&thread, NULL, serve, member)) {
            pool->threads = i;
            free(member);
            break;
        }
        pthread_detach(thread);
    }
    return pool;
}

static int prepare(struct pool *pool, struct pass *pass, int longest) {
    const struct shape *shape = pass->shape;
    const size_t rows = pass->places->rows, hidden = shape->hidden, wide = shape->wide;
    const size_t most = hidden > wide ? hidden : wide;
    size_t scores = MOST_ROWS * ((size_t)longest + LANES + 2 * shape->head_size) * sizeof(float);
    const size_t scratch = OUTPUTS * most > 2 * rows * CHUNK ? OUTPUTS * most : 2 * rows * CHUNK;
    size_t own = (rows * CHUNK + scratch) * sizeof(float) + 256;
    own = own > scores ? own : scores;
    own = own > hidden * sizeof(float) ? own : hidden * sizeof(float);
    for (int i = 0; i < pool->threads; i++)
        if (!room(&pool->own[i], &pool->own_size[i], own)) return 0;
    char *at = room(&pool->shared, &pool->shared_size, rows * (6 * hidden + wide + most) * sizeof(float) + 4096);
    if (!at) return 0;
    const size_t row = rows * hidden * sizeof(float);
    pass->normed = at;
    pass->normed_too = at + row;
    pass->mixed = at + 2 * row;
    pass->qkv = (float *)(at + 3 * row);
    pass->wide = at + 6 * row;
    pass->raw = (float *)(at + 6 * row + rows * wide * sizeof(float));
    return 1;
}

/* `hidden` (rows, hidden) through one layer, in place: the last `wanted` of them, of the others keys and values only. 0
   where memory is exhausted. */
int bchat_layer(struct pool *pool, const struct shape *shape, const struct layer *layer, const struct places *places,
                int wanted, float *hidden) {
    const int64_t others = places->rows - wanted;
    const struct places last = {wanted, places->position + others, places->keys + others, places->values + others,
                                places->capacity + others};
    struct pass pass = {.shape = shape, .layer = layer, .places = places, .hidden = hidden};
    int longest = 0;
    for (int r = 0; r < places->rows; r++) longest = places->position[r] > longest ? places->position[r] : longest;
    if (!prepare(pool, &pass, longest + 1)) return 0;
    struct pass some = pass;
    some.places = &last;
    some.hidden += others * shape->hidden;
    some.qkv += others * 3 * shape->hidden;
    pass.wanted = &some;
    together(pool, work_on_layer, &pass);
    return 1;
}

/* Logits (rows, vocabulary) of `hidden` (rows, hidden). 0 where memory is exhausted. */
int bchat_head(struct pool *pool, const struct shape *shape, const struct matrix *head, const float *const *norm,
               int rows, float *hidden, float *logits) {
    struct places places = {.rows = rows};
    struct pass pass = {.shape = shape, .places = &places, .hidden = hidden, .head = head, .norm = norm,
                        .logits = logits};
    if (!prepare(pool, &pass, 1)) return 0;
    together(pool, work_on_head, &pass);
    return 1;
}
