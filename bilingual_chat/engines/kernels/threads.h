/* The threads that compute, and their memory. */

#pragma once

#include "shapes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifndef SPINS
#define SPINS 4000 /* looks at another thread's progress before sleeping; a tenth of a millisecond or so */
#endif

/* What was taken of one thread's share; a line of the cache of its own. */
struct count {
    _Alignas(64) atomic_int taken;
};

struct pool {
    int threads;
    atomic_int generation, arrived, sense, asleep, waiting;
    struct count *counts; /* (PHASES, threads) */
    pthread_mutex_t mutex;
    pthread_cond_t wake, met;
    void (*work)(struct pool *, int);
    void *argument;
    void *shared;
    size_t shared_size;
    void **own;
    size_t *own_size;
};

INLINE void breathe(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* All threads meet. Where one comes late, the machine is busy: the others sleep, because who spins (or yields, and is
   scheduled again at once) takes the time that the late one needs, and the system prefers who has slept. */
static void meet(struct pool *pool) {
    int sense = atomic_load_explicit(&pool->sense, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) == pool->threads - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store(&pool->sense, !sense);
        if (atomic_load(&pool->waiting)) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_broadcast(&pool->met);
            pthread_mutex_unlock(&pool->mutex);
        }
        return;
    }
    for (int turn = 0; turn < SPINS; turn++) {
        if (atomic_load_explicit(&pool->sense, memory_order_acquire) != sense) return;
        breathe();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->waiting, 1);
    while (atomic_load(&pool->sense) == sense) pthread_cond_wait(&pool->met, &pool->mutex);
    atomic_fetch_sub(&pool->waiting, 1);
    pthread_mutex_unlock(&pool->mutex);
}

struct member {
    struct pool *pool;
    int index;
};

static void *serve(void *argument) {
    struct member *self = argument;
    struct pool *pool = self->pool;
    for (int seen = 0;; seen++) {
        int turn = 0;
        while (atomic_load_explicit(&pool->generation, memory_order_acquire) == seen) {
            if (turn++ < 20000) {
                breathe();
                continue;
            }
            pthread_mutex_lock(&pool->mutex);
            atomic_fetch_add(&pool->asleep, 1);
            while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
            atomic_fetch_sub(&pool->asleep, 1);
            pthread_mutex_unlock(&pool->mutex);
        }
        pool->work(pool, self->index);
        meet(pool);
    }
    return NULL;
}

/* `work` in every thread; returns when all have done it. */
static void together(struct pool *pool, void (*work)(struct pool *, int), void *argument) {
    pool->work = work;
    pool->argument = argument;
    for (int i = 0; i < PHASES * pool->threads; i++)
        atomic_store_explicit(&pool->counts[i].taken, 0, memory_order_relaxed);
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->asleep)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
    work(pool, 0);
    meet(pool);
}

/* The next of `size` pieces of work in a phase, or `size`. Each thread takes its own share from the beginning on, since
   memory is quickest where each thread reads on and on in one place, and then what others have not begun with. `helped`,
   0 at first, is how many shares it has seen the end of. */
INLINE int64_t take(struct pool *pool, int thread, int phase, int64_t size, int *helped) {
    const int threads = pool->threads;
    for (; *helped < threads; ++*helped) {
        const int whose = (thread + *helped) % threads;
        const int64_t at = size * whose / threads + atomic_fetch_add_explicit(&pool->counts[phase * threads + whose].taken,
                                                                              1, memory_order_relaxed);
        if (at < size * (whose + 1) / threads) return at;
    }
    return size;
}

static void *room(void **block, size_t *size, size_t wanted) {
    if (*size < wanted) {
        free(*block);
        wanted = (wanted + wanted / 4 + 4095) / 4096 * 4096;
        if (posix_memalign(block, 64, wanted)) *block = NULL;
        *size = *block ? wanted : 0;
    }
    return *block;
}
