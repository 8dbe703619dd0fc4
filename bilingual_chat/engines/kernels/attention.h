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

/* Numbers of LANES pairs in bfloat16: of each pair the first, and the second. */
INLINE void both_of(const char *from, vec part[2]) {
    ivec both;
    memcpy(&both, from, sizeof both);
    part[0] = (vec)(both << 16);
    part[1] = (vec)(both & (int32_t)0xffff0000);
}

/* One head of a sequence. */
struct sequence {
    const char *keys, *values;
    int64_t bytes; /* of a key, and of a value */
    int size;      /* numbers in one */
};

/* Some rows of a sequence that are looked at together, TOGETHER, 4 or 1, so that sums stay in registers. */
struct group {
    int rows;
    int count[TOGETHER]; /* positions that each looks at; the last one's are the most */
    float *queries;      /* (head size / 2, rows, 2) */
    float *scores;       /* (positions / LANES, rows, LANES) */
    float *mixed;        /* (rows, head size) */
    float share[TOGETHER];
};

/* What a group needs, for one where `rows` is a constant wherever it is inlined. */
#define FOR_GROUP(step, group, ...)                                             \
    do {                                                                        \
        if ((group)->rows == TOGETHER) step(narrow, TOGETHER, group, __VA_ARGS__); \
        else if ((group)->rows == 4) step(narrow, 4, group, __VA_ARGS__);       \
        else step(narrow, 1, group, __VA_ARGS__);                               \
    } while (0)

/* A query of each row, so that the same two numbers of all rows lie together. */
INLINE void put_query(int narrow, const struct group *group, int row, const float *query, int size) {
    for (int i = 0; i < size; i += 2) {
        const int at = i * group->rows + 2 * row;
        if (narrow && PAIRS) {
            const bf16 both[2] = {round_one(query[i]), round_one(query[i + 1])};
            memcpy((bf16 *)group->queries + at, both, sizeof both);
        } else
            memcpy(group->queries + at, query + i, 2 * sizeof *query);
    }
}

/* The products of a group's queries with the keys of LANES positions, from `at` on. What lies `ahead` bytes behind each line
   of keys is fetched as that one is read: many lines at once would have to wait for each other, and the arithmetic for
   them. */
INLINE void compare(int narrow, int rows, const struct group *group, const struct sequence *sequence, int at,
                    int64_t ahead) {
    const char *keys = sequence->keys + at * sequence->bytes;
    vec total[TOGETHER][2];
    _Pragma("GCC unroll 8")
    for (int r = 0; r < rows; r++) total[r][0] = total[r][1] = all(0.0f);
    for (int from = 0; from < sequence->size; from += 4)
        _Pragma("GCC unroll 2")
        for (int i = 0; i < 2; i++) {
            const int pair = from + 2 * i;
            const char *these = keys + pair * LANES * (narrow ? sizeof(bf16) : sizeof(float));
            __builtin_prefetch(these + ahead, 0, 2);
            if (!narrow) __builtin_prefetch(these + ahead + 64, 0, 2);
#if PAIRS
            if (narrow) {
                const pairs key = pairs_at((const bf16 *)these);
                _Pragma("GCC unroll 8")
                for (int r = 0; r < rows; r++) {
                    const pairs two = repeated_pair((const bf16 *)group->queries + pair * rows + 2 * r);
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
            _Pragma("GCC unroll 8")
            for (int r = 0; r < rows; r++) {
                const float *two = group->queries + pair * rows + 2 * r;
                total[r][i] += two[0] * key[0] + two[1] * key[1];
            }
        }
    _Pragma("GCC unroll 8")
    for (int r = 0; r < rows; r++) store(group->scores + at * rows + r * LANES, total[r][0] + total[r][1]);
}

/* The first `count` numbers, and zeros. */
INLINE vec first_of(vec x, int count) {
    static const int32_t lanes[MOST_LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    ivec lane;
    memcpy(&lane, lanes, sizeof lane);
    return (vec)((ivec)x & (lane < count));
}

/* Softmax of a group's scores, in place, up to the factors `share`: zeros behind each row's own positions. In bfloat16
   where that is multiplied in pairs. All rows go together: one row's numbers alone would wait for each other. */
INLINE void soften(int narrow, int rows, struct group *group, float factor) {
    float *scores = group->scores;
    const int longest = group->count[rows - 1], length = (longest + LANES - 1) / LANES * LANES;
    vec most[TOGETHER], total[TOGETHER];
    for (int r = 0; r < rows; r++) {
        most[r] = all(-INFINITY);
        total[r] = all(0.0f);
        for (int i = group->count[r]; i < length; i++) scores[(i / LANES * rows + r) * LANES + i % LANES] = -INFINITY;
    }
    for (int i = 0; i < length; i += LANES)
        _Pragma("GCC unroll 8")
        for (int r = 0; r < rows; r++) most[r] = larger(most[r], load(scores + i * rows + r * LANES));
    for (int r = 0; r < rows; r++) {
        float highest = -INFINITY;
        for (int i = 0; i < LANES; i++) highest = most[r][i] > highest ? most[r][i] : highest;
        most[r] = all(highest);
    }
    for (int i = 0; i < length; i += LANES)
        _Pragma("GCC unroll 8")
        for (int r = 0; r < rows; r++) {
            float *here = scores + i * rows + r * LANES;
            const vec share = first_of(exponential((load(here) - most[r]) * factor), group->count[r] - i);
#if PAIRS
            if (narrow) {
                const halves rounded = (halves)_mm512_cvtneps_pbh((__m512)share);
                memcpy(here, &rounded, sizeof rounded);
                total[r] += widen((const bf16 *)here);
                continue;
            }
#endif
            store(here, share);
            total[r] += share;
        }
    for (int r = 0; r < rows; r++) group->share[r] = 1.0f / sum(total[r]);
}

/* The values of one position, in bfloat16 of two, weighted by each row's scores and added to `total`: some
   vectors of each. */
INLINE void mix_one(int narrow, int rows, int vectors, const char *values, const float *scores, int64_t ahead,
                    vec total[][MOST_VECTORS]) {
    _Pragma("GCC unroll 8")
    for (int p = 0; p < vectors; p++) {
        const char *here = values + p * LANES * sizeof(float); /* LANES numbers, or pairs of them */
        __builtin_prefetch(here + ahead, 0, 2);
#if PAIRS
        if (narrow) {
            const pairs value = pairs_at((const bf16 *)here);
            _Pragma("GCC unroll 8")
            for (int r = 0; r < rows; r++) {
                const pairs two = repeated_pair((const bf16 *)(scores + r * LANES));
                total[r][p] = (vec)_mm512_dpbf16_ps((__m512)total[r][p], value, two);
            }
            continue;
        }
#endif
        vec value[2];
        if (narrow) both_of(here, value);
        else value[0] = load((const float *)here);
        _Pragma("GCC unroll 8")
        for (int r = 0; r < rows; r++) {
            total[r][p] += scores[r * LANES] * value[0];
            if (narrow) total[r][p] += scores[r * LANES + 1] * value[1];
        }
    }
}

/* Of the values from position `first` to `last`, some vectors from `at` on, while later ones are fetched: those before
   `fetched`. */
INLINE void mix_part(int narrow, int rows, int vectors, const struct group *group, const struct sequence *sequence, int at,
                     int first, int last, int fetched) {
    const int step = narrow ? 2 : 1;         /* positions whose values, and shares, lie together */
    const int soon = rows == 1 ? SOON : BLOCK; /* where values are gone through in parts, the same part of the next ones */
    float *mixed = group->mixed + at;
    vec total[TOGETHER][MOST_VECTORS];
    _Pragma("GCC unroll 8")
    for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 8")
        for (int p = 0; p < vectors; p++) total[r][p] = load(mixed + r * sequence->size + p * LANES);
    for (; first < last; first += LANES) {
        const char *values = sequence->values + first * sequence->bytes + at * sizeof(float);
        const float *scores = group->scores + first * rows;
        const int64_t ahead = first + soon < fetched ? soon * sequence->bytes : 0;
#define MIX_ONE(i) \
    mix_one(narrow, rows, vectors, values + (i) * sequence->bytes, scores + (narrow && PAIRS ? (i) / 2 : (i)), ahead, total)
        if (last - first >= LANES)
            for (int i = 0; i < LANES; i += step) MIX_ONE(i);
        else /* what is behind them may be anything */
            for (int i = 0; i < last - first; i += step) MIX_ONE(i);
#undef MIX_ONE
    }
    _Pragma("GCC unroll 8")
    for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 8")
        for (int p = 0; p < vectors; p++) store(mixed + r * sequence->size + p * LANES, total[r][p]);
}

/* The values of `count` positions from `first` on, weighted by each row's scores and added to what is mixed. */
INLINE void mix(int narrow, int rows, const struct group *group, const struct sequence *sequence, int first, int count,
                int fetched) {
    const int longest = group->count[rows - 1], last = first + count < longest ? first + count : longest;
    const int vectors = rows == 1 ? MOST_VECTORS : SUMS / rows;
    int at = 0;
    for (; at + vectors * LANES <= sequence->size; at += vectors * LANES)
        mix_part(narrow, rows, vectors, group, sequence, at, first, last, fetched);
    for (; at < sequence->size; at += LANES) mix_part(narrow, rows, 1, group, sequence, at, first, last, fetched);
}

/* `rows` rows of one sequence, from `first` on: each looks at every position up to its own. A few keys at a time, and then
   a few values, serve all rows while they are in the first cache. */
INLINE void attend(int narrow, const struct pass *pass, int first, int rows, int head, float *own) {
    const struct shape *shape = pass->shape;
    const struct places *places = pass->places;
    const int size = shape->head_size, longest = places->position[first + rows - 1] + 1;
    const int64_t bytes = size * (narrow ? sizeof(bf16) : sizeof(float));
    const int64_t length = (longest + LANES - 1) / LANES * LANES, start = head * places->capacity[first] * bytes;
    const struct sequence sequence = {(const char *)places->keys[first] + start,
                                      (const char *)places->values[first] + start, bytes, size};
    float *mixed = own, *queries = own + rows * size, *scores = queries + rows * size;
    struct group groups[MOST_ROWS], *end = groups;
    for (int r = 0; r < rows; r += end++->rows) {
        const int left = rows - r;
        end->rows = left >= TOGETHER ? TOGETHER : left >= 4 ? 4 : 1; /* each row's numbers are the same in any company */
        end->queries = queries + r * size;
        end->scores = scores + r * length;
        end->mixed = mixed + r * size;
        for (int i = 0; i < end->rows; i++) {
            const int64_t row = first + r + i;
            end->count[i] = places->position[row] + 1;
            put_query(narrow, end, i, pass->qkv + (row * shape->heads + head) * 3 * size, size);
        }
    }
    for (int at = 0; at < longest; at += LANES)
        for (const struct group *group = groups; group < end; group++) { /* what the first fetches is there for all */
            const int64_t ahead = group == groups && at + SOON < longest ? SOON * bytes : 0;
            FOR_GROUP(compare, group, &sequence, at, ahead);
        }
    for (struct group *group = groups; group < end; group++) FOR_GROUP(soften, group, 1.0f / sqrtf((float)size));
    memset(mixed, 0, rows * size * sizeof *mixed);
    for (int at = 0; at < longest; at += BLOCK)
        for (const struct group *group = groups; group < end; group++)
            FOR_GROUP(mix, group, &sequence, at, BLOCK, group == groups ? longest : 0);
    for (const struct group *group = groups; group < end; group++)
        for (int i = 0; i < group->rows; i++, first++)
            for (int n = 0; n < size; n += LANES)
                store(pass->raw + (int64_t)first * shape->hidden + head * size + n,
                      load(group->mixed + i * size + n) * group->share[i]);
}

/* How many rows from `first` on belong to one sequence, `most` at most. */
static int rows_together(const struct places *places, int first, int most) {
    int count = 1;
    while (count < most && first + count < places->rows && places->keys[first + count] == places->keys[first]) count++;
    return count;
}

/* Some rows of the next heads: a thread's share lies together in memory. Where there are many threads, fewer rows, or some
   threads would have nothing to do. */
static void attend_all(struct pool *pool, int thread, const struct pass *pass, float *own) {
    const struct places *places = pass->places;
    const int heads = pass->shape->heads, most = heads >= 4 * pool->threads ? MOST_ROWS : TOGETHER;
    int parts = 0, helped = 0;
    for (int first = 0; first < places->rows; first += rows_together(places, first, most)) parts++;
    const int64_t size = (int64_t)parts * heads;
    for (int64_t item; (item = take(pool, thread, 1, size, &helped)) < size;) {
        const int head = item / parts;
        int first = 0;
        for (int64_t before = item % parts; before; before--) first += rows_together(places, first, most);
        const int rows = rows_together(places, first, most);
        if (pass->shape->narrow_cache) attend(1, pass, first, rows, head, own);
        else attend(0, pass, first, rows, head, own);
    }
}
