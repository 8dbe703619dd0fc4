/* Keys and values, and the rows that look at them. */

#pragma once

#include "matrix.h"

struct pass {
    const struct shape *shape;
    const struct layer *layer;
    const struct places *places;
    const struct pass *wanted; /* the same for the last rows, whose result is wanted */
    float *hidden; /* (rows, hidden) */
    void *normed, *normed_too, *mixed, *wide; /* what matrices are multiplied with */
    float *qkv;
    float *raw; /* before it becomes `mixed`, and then `wide` */
    /* the head alone */
    const struct matrix *head;
    const float *const *norm;
    float *logits;
};

static void rotate(const struct shape *shape, float *x, int position) {
    const int half = shape->rotary_dims / 2;
    const float *cos = shape->cos + (int64_t)position * half, *sin = shape->sin + (int64_t)position * half;
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

/* One of two positions whose values lie together: each number of the one beside that of the other. An even position comes
   with zeros for the odd one, unless that is computed in the same pass, perhaps by another thread. */
static void place_value(const struct places *places, int row, const float *value, int size, bf16 *pair) {
    const int is_odd = places->position[row] % 2;
    const int is_alone = row + 1 == places->rows || places->values[row + 1] != places->values[row];
    for (int i = 0; i < size; i++) {
        pair[2 * i + is_odd] = round_one(value[i]);
        if (!is_odd && is_alone) pair[2 * i + 1] = 0;
    }
}

/* Queries and keys of one row and head turned to its position; key and value into the cache. */
static void place(const struct pass *pass, int row, int head) {
    const struct shape *shape = pass->shape;
    const struct places *places = pass->places;
    const int size = shape->head_size, position = places->position[row];
    float *query = pass->qkv + ((int64_t)row * shape->heads + head) * 3 * size;
    rotate(shape, query, position);
    rotate(shape, query + size, position);
    const int64_t at = (head * places->capacity[row] + position) * size, block = at - position % LANES * size;
    if (shape->narrow_cache)
        place_value(places, row, query + 2 * size, size, (bf16 *)places->values[row] + at - position % 2 * size);
    else
        memcpy((float *)places->values[row] + at, query + 2 * size, size * sizeof(float));
    for (int i = 0; i < size; i += 2) {
        const float *two = query + size + i;
        if (shape->narrow_cache) {
            const bf16 both[2] = {round_one(two[0]), round_one(two[1])};
            memcpy((bf16 *)places->keys[row] + block + i * LANES + position % LANES * 2, both, sizeof both);
        } else
            for (int n = 0; n < 2; n++) ((float *)places->keys[row])[block + (i + n) * LANES + position % LANES] = two[n];
    }
}

/* Numbers of 16 pairs in bfloat16: of each pair the first, and the second. */
INLINE void both_of(const char *from, vec part[2]) {
    ivec both;
    memcpy(&both, from, sizeof both);
    part[0] = (vec)(both << 16);
    part[1] = (vec)(both & (int32_t)0xffff0000);
}

/* How many bytes ahead of position `at` what comes SOON is fetched, line by line as these are read: many lines at once
   would have to wait for each other, and the arithmetic for them. 0 where there is nothing. */
INLINE int64_t soon(int at, int longest, int64_t bytes) {
    return at + SOON < longest ? SOON * bytes : 0;
}

/* The products of some queries with 16 keys. `rows` is a constant wherever this is inlined. */
INLINE void compare(int narrow, int rows, const float *queries, const char *keys, int64_t ahead, int size, float *scores) {
    vec total[TOGETHER][2];
    for (int r = 0; r < rows; r++) total[r][0] = total[r][1] = all(0.0f);
    for (int at = 0; at < size; at += 4)
        _Pragma("GCC unroll 2")
        for (int i = 0; i < 2; i++) {
            const char *these = keys + (at + 2 * i) * LANES * (narrow ? sizeof(bf16) : sizeof(float));
            __builtin_prefetch(these + ahead, 0, 2);
            if (!narrow) __builtin_prefetch(these + ahead + 64, 0, 2);
#if PAIRS
            if (narrow) {
                const pairs key = pairs_at((const bf16 *)these);
                _Pragma("GCC unroll 8")
                for (int r = 0; r < rows; r++) {
                    const pairs two = repeated_pair((const bf16 *)(queries + r * size) + at + 2 * i);
                    total[r][i] = (vec)_mm512_dpbf16_ps((__m512)total[r][i], key, two);
                }
                continue;
            }
#endif
            vec key[2];
            if (narrow) both_of(these, key);
            else {
                key[0] = load((const float *)these);
                key[1] = load((const float *)these + LANES);
            }
            for (int r = 0; r < rows; r++)
                total[r][i] += queries[r * size + at + 2 * i] * key[0] + queries[r * size + at + 2 * i + 1] * key[1];
        }
    for (int r = 0; r < rows; r++) store(scores + r * LANES, total[r][0] + total[r][1]);
}

/* The first `count` numbers, and zeros. */
INLINE vec first_of(vec x, int count) {
    const ivec lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (vec)((ivec)x & (lane < count));
}

/* Softmax of `count` scores, in place, up to the factor that is returned; 0 from there to `length`. Of 16 positions the
   scores lie together, and those of the next 16 `stride` behind them; what comes of them is in bfloat16 where `narrow`. */
INLINE float soften(int narrow, float *scores, int64_t stride, int count, int64_t length, float factor) {
    const int blocks = (count + LANES - 1) / LANES;
    for (int i = count; i < blocks * LANES; i++) scores[i / LANES * stride + i % LANES] = -INFINITY;
    vec most = all(-INFINITY), total = all(0.0f);
    for (int i = 0; i < blocks; i++) most = larger(most, load(scores + i * stride));
    float highest = -INFINITY;
    for (int i = 0; i < LANES; i++) highest = most[i] > highest ? most[i] : highest;
    for (int i = 0; i < length / LANES; i++) {
        float *here = scores + i * stride;
        vec share = all(0.0f);
        if (i < blocks) share = first_of(exponential((load(here) - highest) * factor), count - i * LANES);
#if PAIRS
        if (narrow) {
            const halves rounded = (halves)_mm512_cvtneps_pbh((__m512)share);
            memcpy(here, &rounded, sizeof rounded);
            total += widen((const bf16 *)here);
            continue;
        }
#endif
        store(here, share);
        total += share;
    }
    return 1.0f / sum(total);
}

/* The values up to `longest`, weighted by each row's scores: `parts` times 32 numbers from `at` on of each row. */
INLINE void mix(int narrow, int rows, int parts, const char *values, int size, int at, int longest,
                const float *scores, const float *share, float *mixed) {
    vec total[TOGETHER][2 * MOST_PARTS];
    const int64_t bytes = size * (narrow ? sizeof(bf16) : sizeof(float));
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < 2 * parts; p++) total[r][p] = all(0.0f);
    for (int first = 0; first < longest; first += LANES) {
        const int64_t ahead = soon(first, longest, bytes);
        const int count = longest - first < LANES ? longest - first : LANES;
        const float *these = scores + first * rows;
        for (int i = 0; i < count; i += narrow ? 2 : 1)
            for (int p = 0; p < 2 * parts; p++) {
                /* 16 numbers, or 16 pairs of them: of this position and the next */
                const char *here = values + (first + i) * bytes + (at + p * LANES) * sizeof(float);
                __builtin_prefetch(here + ahead, 0, 2);
#if PAIRS
                if (narrow) {
                    const pairs value = pairs_at((const bf16 *)here);
                    _Pragma("GCC unroll 8")
                    for (int r = 0; r < rows; r++) {
                        const pairs two = repeated_pair((const bf16 *)(these + r * LANES) + i);
                        total[r][p] = (vec)_mm512_dpbf16_ps((__m512)total[r][p], value, two);
                    }
                    continue;
                }
#endif
                vec value[2];
                if (narrow) both_of(here, value);
                else value[0] = load((const float *)here);
                for (int r = 0; r < rows; r++) {
                    total[r][p] += these[r * LANES + i] * value[0];
                    if (narrow) total[r][p] += these[r * LANES + i + 1] * value[1];
                }
            }
    }
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < 2 * parts; p++) store(mixed + r * size + at + p * LANES, total[r][p] * share[r]);
}

/* `rows` rows of one sequence, from `first` on: each looks at every position up to its own. The keys and values of 16
   positions serve all rows while they are near. `rows` is a constant wherever this is inlined. */
INLINE void attend(int narrow, int rows, const struct pass *pass, int first, int head, float *own) {
    const struct shape *shape = pass->shape;
    const struct places *places = pass->places;
    const int size = shape->head_size, longest = places->position[first + rows - 1] + 1;
    const int64_t bytes = size * (narrow ? sizeof(bf16) : sizeof(float));
    const int64_t length = (longest + LANES - 1) / LANES * LANES;
    const char *keys = (const char *)places->keys[first] + head * places->capacity[first] * bytes;
    const char *values = (const char *)places->values[first] + head * places->capacity[first] * bytes;
    float *mixed = own, *queries = own + rows * size, *scores = queries + rows * size, share[TOGETHER];
    for (int r = 0; r < rows; r++)
        put_narrow(narrow && PAIRS, queries + r * size, 0,
                   pass->qkv + ((int64_t)(first + r) * shape->heads + head) * 3 * size, size);
    for (int at = 0; at < longest; at += LANES) {
        compare(narrow, rows, queries, keys + at * bytes, soon(at, longest, bytes), size, scores + at * rows);
    }
    for (int r = 0; r < rows; r++)
        share[r] = soften(narrow && PAIRS, scores + r * LANES, rows * LANES, places->position[first + r] + 1, length,
                          1.0f / sqrtf((float)size));
    const int parts = rows == 1 ? MOST_PARTS : rows <= 4 ? MOST_PARTS / 2 : 1; /* as many sums as there are registers for */
    int at = 0;
    for (; parts > 1 && at + parts * GROUP <= size; at += parts * GROUP)
        mix(narrow, rows, parts, values, size, at, longest, scores, share, mixed);
    for (; at < size; at += GROUP) mix(narrow, rows, 1, values, size, at, longest, scores, share, mixed);
    for (int r = 0; r < rows; r++)
        memcpy(pass->raw + (int64_t)(first + r) * shape->hidden + head * size, mixed + r * size, size * sizeof(float));
}

INLINE void attend_some(int narrow, int rows, const struct pass *pass, int first, int head, float *own) {
    while (rows) { /* each row's numbers are the same whichever others are looked at with it */
        const int most = rows >= TOGETHER ? TOGETHER : rows >= 4 ? 4 : 1;
        if (most == TOGETHER) attend(narrow, TOGETHER, pass, first, head, own);
        else if (most == 4) attend(narrow, 4, pass, first, head, own);
        else attend(narrow, 1, pass, first, head, own);
        first += most;
        rows -= most;
    }
}

/* How many rows from `first` on belong to one sequence, TOGETHER at most. */
static int rows_together(const struct places *places, int first) {
    int count = 1;
    while (count < TOGETHER && first + count < places->rows && places->keys[first + count] == places->keys[first]) count++;
    return count;
}

/* The next groups of rows of the next heads: a thread's share lies together in memory, and the keys and values of a head
   serve all its rows while they are near. */
static void attend_all(struct pool *pool, int thread, const struct pass *pass, float *own) {
    const struct places *places = pass->places;
    const int heads = pass->shape->heads;
    int groups = 0, helped = 0;
    for (int first = 0; first < places->rows; first += rows_together(places, first)) groups++;
    const int64_t size = (int64_t)groups * heads;
    for (int64_t item; (item = take(pool, thread, 1, size, &helped)) < size;) {
        const int head = item / groups;
        int first = 0;
        for (int64_t before = item % groups; before; before--) first += rows_together(places, first);
        const int count = rows_together(places, first);
        if (pass->shape->narrow_cache) attend_some(1, count, pass, first, head, own);
        else attend_some(0, count, pass, first, head, own);
    }
}
