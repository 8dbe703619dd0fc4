/* Attention: rotary embedding, the KV cache, scores, softmax, weighted sums of values.

   A task is one head and up to ROWS_PER_ATTENTION rows of one sequence; each row attends to all positions up to its own. The
   rows of a task share each key and each value while it is in the L1 cache. They are split into groups whose sums fit into
   registers. Neither the split nor the other rows change the order in which a row adds its numbers.

   Tests: test_a_row_does_not_depend_on_its_neighbours_to_the_last_bit (groups of each size),
   test_what_lay_in_the_memory_of_the_cache_is_never_seen, test_unwanted_rows_still_write_their_keys_and_values,
   test_rows_of_several_sequences_are_computed_as_if_alone, test_logits_are_those_of_torch_with_the_same_weights. */

#pragma once

#include "matmul.h"

/* One call of bchat_layer or bchat_head: its arguments and its buffers. */
struct pass {
    const struct shape *shape;
    const struct layer *layer;
    const struct batch *batch;
    const struct pass *needed; /* this pass for the last rows alone, whose output the caller needs */
    float *hidden;             /* (rows, hidden): the residual stream */
    void *attention_input, *mlp_input, *dense_input, *down_input; /* operands of qkv, up, dense and down; see `pack_row` */
    float *qkv; /* (rows, heads, 3, head size): query, key and value */
    float *raw; /* float32 of dense_input, then of down_input */
    /* bchat_head only: */
    const struct matrix *head;
    const float *const *norm;
    float *logits;
};

/* Rotates the first rotary_dims numbers of a query or key by the angles of its position, in place. */
static void apply_rotary(const struct shape *shape, float *x, int position) {
    const int half = shape->rotary_dims / 2;
    const float *cos = shape->cos + (int64_t)position * half, *sin = shape->sin + (int64_t)position * half;
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

/* Stores a bfloat16 value into the cache, where each number of an even position lies beside that of the next, odd position.
   An even position also sets its odd neighbour to zero, because attention multiplies pairs and the memory may hold NaN.
   Not if the neighbour is in this pass: then it stores itself, perhaps at this moment in another thread. */
static void store_value_pair(const struct batch *batch, int row, const float *value, int size, bf16 *pair) {
    const int is_odd = batch->position[row] % 2;
    const int is_alone = row + 1 == batch->rows || batch->values[row + 1] != batch->values[row];
    for (int i = 0; i < size; i++) {
        pair[2 * i + is_odd] = to_bf16(value[i]);
        if (!is_odd && is_alone) pair[2 * i + 1] = 0;
    }
}

/* Applies the rotary embedding to query and key of one row and head, and stores key and value in the cache. */
static void store_key_value(const struct pass *pass, int row, int head) {
    const struct shape *shape = pass->shape;
    const struct batch *batch = pass->batch;
    const int size = shape->head_size, position = batch->position[row];
    float *query = pass->qkv + ((int64_t)row * shape->heads + head) * 3 * size;
    apply_rotary(shape, query, position);
    apply_rotary(shape, query + size, position);
    const int64_t at = (head * batch->capacity[row] + position) * size, block = at - position % LANES * size;
    if (shape->bf16_cache)
        store_value_pair(batch, row, query + 2 * size, size, (bf16 *)batch->values[row] + at - position % 2 * size);
    else
        memcpy((float *)batch->values[row] + at, query + 2 * size, size * sizeof(float));
    for (int i = 0; i < size; i += 2) {
        const float *two = query + size + i;
        if (shape->bf16_cache) {
            const bf16 both[2] = {to_bf16(two[0]), to_bf16(two[1])};
            memcpy((bf16 *)batch->keys[row] + block + i * LANES + position % LANES * 2, both, sizeof both);
        } else
            for (int n = 0; n < 2; n++) ((float *)batch->keys[row])[block + (i + n) * LANES + position % LANES] = two[n];
    }
}

/* LANES pairs of bfloat16 as two vectors: the first numbers of all pairs, and the second numbers. */
INLINE void load_both_of_pairs(const char *from, vec part[2]) {
    ivec both;
    memcpy(&both, from, sizeof both);
    part[0] = (vec)(both << 16);
    part[1] = (vec)(both & (int32_t)0xffff0000);
}

/* The keys and values of one head of a sequence, in the layout that README.md draws. */
struct kv_head {
    const char *keys, *values;
    int64_t bytes; /* of one key or value */
    int size;      /* numbers in one key or value */
};

/* QUERY_ROWS, 4 or 1 neighbouring rows of a sequence, whose sums are in registers together. */
struct query_group {
    int rows;
    int count[QUERY_ROWS];    /* positions that each row attends to, in ascending order */
    float *queries;           /* (head size / 2, rows, 2); bfloat16 where HAS_BF16 multiplies it */
    float *scores;            /* (positions / LANES, rows, LANES) */
    float *sums;              /* (rows, head size): weighted values */
    float factor[QUERY_ROWS]; /* 1 / the sum of a row's softmax weights */
};

/* Dispatches on group->rows, so that the inlined function sees a constant. */
#define FOR_QUERY_GROUP(function, group, ...)                                               \
    do {                                                                                    \
        if ((group)->rows == QUERY_ROWS) function(is_bf16, QUERY_ROWS, group, __VA_ARGS__); \
        else if ((group)->rows == 4) function(is_bf16, 4, group, __VA_ARGS__);              \
        else function(is_bf16, 1, group, __VA_ARGS__);                                      \
    } while (0)

/* Stores a row's query in the group: the same two numbers of all rows lie together. */
INLINE void pack_query(int is_bf16, const struct query_group *group, int row, const float *query, int size) {
    for (int i = 0; i < size; i += 2) {
        const int at = i * group->rows + 2 * row;
        if (is_bf16 && HAS_BF16) {
            const bf16 both[2] = {to_bf16(query[i]), to_bf16(query[i + 1])};
            memcpy((bf16 *)group->queries + at, both, sizeof both);
        } else
            memcpy(group->queries + at, query + i, 2 * sizeof *query);
    }
}

/* The scores (query times key) of a group for the LANES positions from `at` on. With each line that it reads, it
   prefetches the line `ahead` bytes further. To prefetch many lines at once would stall the arithmetic. */
INLINE void score_keys(int is_bf16, int rows, const struct query_group *group, const struct kv_head *kv, int at,
                    int64_t ahead) {
    const char *keys = kv->keys + at * kv->bytes;
    vec total[QUERY_ROWS][2];
    _Pragma("GCC unroll 8")
    for (int r = 0; r < rows; r++) total[r][0] = total[r][1] = broadcast(0.0f);
    for (int from = 0; from < kv->size; from += 4)
        _Pragma("GCC unroll 2")
        for (int i = 0; i < 2; i++) {
            const int pair = from + 2 * i;
            const char *these = keys + pair * LANES * (is_bf16 ? sizeof(bf16) : sizeof(float));
            __builtin_prefetch(these + ahead, 0, 2);
            if (!is_bf16) __builtin_prefetch(these + ahead + 64, 0, 2);
#if HAS_BF16
            if (is_bf16) {
                const bf16vec key = load_bf16_pairs((const bf16 *)these);
                _Pragma("GCC unroll 8")
                for (int r = 0; r < rows; r++) {
                    const bf16vec two = broadcast_pair((const bf16 *)group->queries + pair * rows + 2 * r);
                    total[r][i] = (vec)_mm512_dpbf16_ps((__m512)total[r][i], key, two);
                }
                continue;
            }
#endif
            vec key[2];
            if (is_bf16) load_both_of_pairs(these, key);
            else {
                key[0] = load((const float *)these);
                key[1] = load((const float *)these + LANES);
            }
            _Pragma("GCC unroll 8")
            for (int r = 0; r < rows; r++) {
                const float *two = group->queries + pair * rows + 2 * r;
                total[r][i] += two[0] * key[0] + two[1] * key[1];
            }
        }
    _Pragma("GCC unroll 8")
    for (int r = 0; r < rows; r++) store(group->scores + at * rows + r * LANES, total[r][0] + total[r][1]);
}

/* The first `count` numbers of x; the others become zero. */
INLINE vec keep_first(vec x, int count) {
    static const int32_t lanes[MAX_LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    ivec lane;
    memcpy(&lane, lanes, sizeof lane);
    return (vec)((ivec)x & (lane < count));
}

/* Replaces the scores by softmax weights (not yet divided by their sum; see `factor`), and by zeros behind the row's own
   positions. In bfloat16 where HAS_BF16 multiplies them. The rows go through a loop together, because each addition of one
   row alone would wait for the last. `scale` is 1 / sqrt(head size). */
INLINE void softmax(int is_bf16, int rows, struct query_group *group, float scale) {
    (void)is_bf16; /* unused without HAS_BF16 */
    float *scores = group->scores;
    const int longest = group->count[rows - 1], length = (longest + LANES - 1) / LANES * LANES;
    vec most[QUERY_ROWS], total[QUERY_ROWS];
    for (int r = 0; r < rows; r++) {
        most[r] = broadcast(-INFINITY);
        total[r] = broadcast(0.0f);
        for (int i = group->count[r]; i < length; i++) scores[(i / LANES * rows + r) * LANES + i % LANES] = -INFINITY;
    }
    for (int i = 0; i < length; i += LANES)
        _Pragma("GCC unroll 8")
        for (int r = 0; r < rows; r++) most[r] = vmax(most[r], load(scores + i * rows + r * LANES));
    for (int r = 0; r < rows; r++) {
        float highest = -INFINITY;
        for (int i = 0; i < LANES; i++) highest = most[r][i] > highest ? most[r][i] : highest;
        most[r] = broadcast(highest);
    }
    for (int i = 0; i < length; i += LANES)
        _Pragma("GCC unroll 8")
        for (int r = 0; r < rows; r++) {
            float *here = scores + i * rows + r * LANES;
            const vec share = keep_first(vexp((load(here) - most[r]) * scale), group->count[r] - i);
#if HAS_BF16
            if (is_bf16) {
                const u16vec rounded = (u16vec)_mm512_cvtneps_pbh((__m512)share);
                memcpy(here, &rounded, sizeof rounded);
                total[r] += load_bf16((const bf16 *)here);
                continue;
            }
#endif
            store(here, share);
            total[r] += share;
        }
    for (int r = 0; r < rows; r++) group->factor[r] = 1.0f / horizontal_sum(total[r]);
}

/* Adds the value of one position (bfloat16: of two) to `total`, weighted for each row; `vectors` vectors of the value. */
INLINE void add_value(int is_bf16, int rows, int vectors, const char *values, const float *scores, int64_t ahead,
                    vec total[][VALUE_VECTORS]) {
    _Pragma("GCC unroll 8")
    for (int p = 0; p < vectors; p++) {
        const char *here = values + p * LANES * sizeof(float); /* LANES numbers, or pairs of them */
        __builtin_prefetch(here + ahead, 0, 2);
#if HAS_BF16
        if (is_bf16) {
            const bf16vec value = load_bf16_pairs((const bf16 *)here);
            _Pragma("GCC unroll 8")
            for (int r = 0; r < rows; r++) {
                const bf16vec two = broadcast_pair((const bf16 *)(scores + r * LANES));
                total[r][p] = (vec)_mm512_dpbf16_ps((__m512)total[r][p], value, two);
            }
            continue;
        }
#endif
        vec value[2];
        if (is_bf16) load_both_of_pairs(here, value);
        else value[0] = load((const float *)here);
        _Pragma("GCC unroll 8")
        for (int r = 0; r < rows; r++) {
            total[r][p] += scores[r * LANES] * value[0];
            if (is_bf16) total[r][p] += scores[r * LANES + 1] * value[1];
        }
    }
}

/* Adds the weighted values of the positions from `first` to `last` - 1 to the group's sums: `vectors` vectors of each value,
   from number `at` on. Meanwhile it prefetches later positions, up to `fetched`. */
INLINE void add_values(int is_bf16, int rows, int vectors, const struct query_group *group, const struct kv_head *kv,
                       int at, int first, int last, int fetched) {
    const int step = is_bf16 ? 2 : 1; /* positions whose values, and weights, lie together */
    /* Several rows go through a block in parts of a value, so they prefetch the same part of the next block. */
    const int distance = rows == 1 ? PREFETCH_POSITIONS : VALUE_BLOCK;
    float *sums = group->sums + at;
    vec total[QUERY_ROWS][VALUE_VECTORS];
    _Pragma("GCC unroll 8")
    for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 8")
        for (int p = 0; p < vectors; p++) total[r][p] = load(sums + r * kv->size + p * LANES);
    for (; first < last; first += LANES) {
        const char *values = kv->values + first * kv->bytes + at * sizeof(float);
        const float *scores = group->scores + first * rows;
        const int64_t ahead = first + distance < fetched ? distance * kv->bytes : 0;
#define ADD_VALUE(i)                                                                                                     \
    add_value(is_bf16, rows, vectors, values + (i) * kv->bytes, scores + (is_bf16 && HAS_BF16 ? (i) / 2 : (i)), ahead, \
              total)
        if (last - first >= LANES)
            for (int i = 0; i < LANES; i += step) ADD_VALUE(i);
        else /* the memory behind the last position may hold NaN */
            for (int i = 0; i < last - first; i += step) ADD_VALUE(i);
#undef ADD_VALUE
    }
    _Pragma("GCC unroll 8")
    for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 8")
        for (int p = 0; p < vectors; p++) store(sums + r * kv->size + p * LANES, total[r][p]);
}

/* Adds the weighted values of the `count` positions from `first` on to the group's sums. */
INLINE void add_block(int is_bf16, int rows, const struct query_group *group, const struct kv_head *kv, int first,
                      int count, int fetched) {
    const int longest = group->count[rows - 1], last = first + count < longest ? first + count : longest;
    const int vectors = rows == 1 ? VALUE_VECTORS : ACCUMULATORS / rows;
    int at = 0;
    for (; at + vectors * LANES <= kv->size; at += vectors * LANES)
        add_values(is_bf16, rows, vectors, group, kv, at, first, last, fetched);
    for (; at < kv->size; at += LANES) add_values(is_bf16, rows, 1, group, kv, at, first, last, fetched);
}

/* One task: the attention of `rows` rows of one sequence, from row `first` on, in one head. All groups use LANES keys before
   the next keys, and VALUE_BLOCK values before the next values. */
INLINE void attend_rows(int is_bf16, const struct pass *pass, int first, int rows, int head, float *scratch) {
    const struct shape *shape = pass->shape;
    const struct batch *batch = pass->batch;
    const int size = shape->head_size, longest = batch->position[first + rows - 1] + 1;
    const int64_t bytes = size * (is_bf16 ? sizeof(bf16) : sizeof(float));
    const int64_t length = (longest + LANES - 1) / LANES * LANES, start = head * batch->capacity[first] * bytes;
    const struct kv_head kv = {(const char *)batch->keys[first] + start, (const char *)batch->values[first] + start, bytes,
                               size};
    float *sums = scratch, *queries = scratch + rows * size, *scores = queries + rows * size;
    struct query_group groups[ROWS_PER_ATTENTION], *end = groups;
    for (int r = 0; r < rows; r += end++->rows) {
        const int left = rows - r;
        end->rows = left >= QUERY_ROWS ? QUERY_ROWS : left >= 4 ? 4 : 1;
        end->queries = queries + r * size;
        end->scores = scores + r * length;
        end->sums = sums + r * size;
        for (int i = 0; i < end->rows; i++) {
            const int64_t row = first + r + i;
            end->count[i] = batch->position[row] + 1;
            pack_query(is_bf16, end, i, pass->qkv + (row * shape->heads + head) * 3 * size, size);
        }
    }
    for (int at = 0; at < longest; at += LANES)
        for (const struct query_group *group = groups; group < end; group++) { /* the first group prefetches for all */
            const int64_t ahead = group == groups && at + PREFETCH_POSITIONS < longest ? PREFETCH_POSITIONS * bytes : 0;
            FOR_QUERY_GROUP(score_keys, group, &kv, at, ahead);
        }
    for (struct query_group *group = groups; group < end; group++)
        FOR_QUERY_GROUP(softmax, group, 1.0f / sqrtf((float)size));
    memset(sums, 0, rows * size * sizeof *sums);
    for (int at = 0; at < longest; at += VALUE_BLOCK)
        for (const struct query_group *group = groups; group < end; group++)
            FOR_QUERY_GROUP(add_block, group, &kv, at, VALUE_BLOCK, group == groups ? longest : 0);
    for (const struct query_group *group = groups; group < end; group++)
        for (int i = 0; i < group->rows; i++, first++)
            for (int n = 0; n < size; n += LANES)
                store(pass->raw + (int64_t)first * shape->hidden + head * size + n,
                      load(group->sums + i * size + n) * group->factor[i]);
}

/* The number of rows from `first` on that belong to one sequence, at most `most`. */
static int rows_of_sequence(const struct batch *batch, int first, int most) {
    int count = 1;
    while (count < most && first + count < batch->rows && batch->keys[first + count] == batch->keys[first]) count++;
    return count;
}

/* The attention of all rows and heads. All threads call it. The tasks of one head are neighbours, so a thread's share is
   one stream of the KV cache. With many threads a task has fewer rows, so that each thread gets a task. */
static void attention(struct pool *pool, int thread, const struct pass *pass, float *scratch) {
    const struct batch *batch = pass->batch;
    const int heads = pass->shape->heads, most = heads >= 4 * pool->threads ? ROWS_PER_ATTENTION : QUERY_ROWS;
    int parts = 0, finished = 0;
    for (int first = 0; first < batch->rows; first += rows_of_sequence(batch, first, most)) parts++;
    const int64_t size = (int64_t)parts * heads;
    for (int64_t task; (task = next_chunk(pool, thread, ATTENTION_PHASE, size, &finished)) < size;) {
        const int head = task / parts;
        int first = 0;
        for (int64_t before = task % parts; before; before--) first += rows_of_sequence(batch, first, most);
        const int rows = rows_of_sequence(batch, first, most);
        if (pass->shape->bf16_cache) attend_rows(1, pass, first, rows, head, scratch);
        else attend_rows(0, pass, first, rows, head, scratch);
    }
}
