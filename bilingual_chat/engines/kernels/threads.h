/* A pool of threads that compute one pass together, and their memory.

   The caller is thread 0. `run_on_all` gives the same function to every thread; inside it, `barrier` separates the steps
   and `next_chunk` deals out the work of a step. Between passes the other threads spin for a moment, then sleep.

   Tests: test_how_many_threads_compute_changes_no_bit (shares, help, more threads than work). */

#pragma once

#include "types.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Polls in a barrier before a thread sleeps: about 0.1 ms. One task takes some 10 us (32 rows of 2,816 bfloat16 are 180 KB),
   so a thread that is later than that has lost its core to another program. */
#define SPIN_LIMIT 4000
/* Polls between two passes before a thread sleeps: about 0.5 ms. Python needs less from one layer to the next. */
#define IDLE_SPIN_LIMIT 20000

/* How many tasks of one thread's share are taken. Each counter has its own cache line, so threads do not slow each other. */
struct task_counter {
    _Alignas(64) atomic_int taken;
};

struct pool {
    int threads;
    atomic_uint generation;        /* passes so far; a new one starts the workers */
    atomic_int arrived, sense;     /* barrier: threads that have arrived; flips when all have */
    atomic_int asleep;             /* workers that sleep between passes, until `wake` */
    atomic_int waiting;            /* threads that sleep in a barrier, until `released` */
    struct task_counter *counters; /* (PHASES, threads) */
    pthread_mutex_t mutex;
    pthread_cond_t wake, released;
    void (*work)(struct pool *, int); /* the function of this pass, and its argument */
    void *argument;
    void *shared; /* activations, for all threads */
    size_t shared_size;
    void **scratch; /* for each thread alone */
    size_t *scratch_size;
};

INLINE void cpu_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Waits until all threads have called it. A thread that waits long sleeps: another program has the core of the late
   thread, and spinning (or yielding, after which the scheduler returns at once) takes the time that the late thread needs.
   The scheduler also prefers threads that have slept. */
static void barrier(struct pool *pool) {
    int sense = atomic_load_explicit(&pool->sense, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) == pool->threads - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store(&pool->sense, !sense);
        if (atomic_load(&pool->waiting)) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_broadcast(&pool->released);
            pthread_mutex_unlock(&pool->mutex);
        }
        return;
    }
    for (int spin = 0; spin < SPIN_LIMIT; spin++) {
        if (atomic_load_explicit(&pool->sense, memory_order_acquire) != sense) return;
        cpu_pause();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->waiting, 1);
    while (atomic_load(&pool->sense) == sense) pthread_cond_wait(&pool->released, &pool->mutex);
    atomic_fetch_sub(&pool->waiting, 1);
    pthread_mutex_unlock(&pool->mutex);
}

struct worker {
    struct pool *pool;
    int index;
};

static void *run_worker(void *argument) {
    struct worker *self = argument;
    struct pool *pool = self->pool;
    for (unsigned seen = 0;; seen++) {
        int spin = 0;
        while (atomic_load_explicit(&pool->generation, memory_order_acquire) == seen) {
            if (spin++ < IDLE_SPIN_LIMIT) {
                cpu_pause();
                continue;
            }
            pthread_mutex_lock(&pool->mutex);
            atomic_fetch_add(&pool->asleep, 1);
            while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
            atomic_fetch_sub(&pool->asleep, 1);
            pthread_mutex_unlock(&pool->mutex);
        }
        pool->work(pool, self->index);
        barrier(pool);
    }
    return NULL;
}

/* Runs `work` in every thread and returns when all have finished. */
static void run_on_all(struct pool *pool, void (*work)(struct pool *, int), void *argument) {
    pool->work = work;
    pool->argument = argument;
    for (int i = 0; i < PHASES * pool->threads; i++)
        atomic_store_explicit(&pool->counters[i].taken, 0, memory_order_relaxed);
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->asleep)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
    work(pool, 0);
    barrier(pool);
}

/* The index of the thread's next task among the `size` tasks of a phase; `size` when none is left. A thread works through
   its own share in order, because memory is fastest when each thread reads one stream. Then it helps with the other
   shares. `finished` counts the shares that have no task left; the caller starts it at 0. */
INLINE int64_t next_chunk(struct pool *pool, int thread, enum phase phase, int64_t size, int *finished) {
    const int threads = pool->threads;
    for (; *finished < threads; ++*finished) {
        const int owner = (thread + *finished) % threads;
        const int64_t at = size * owner / threads + atomic_fetch_add_explicit(&pool->counters[phase * threads + owner].taken,
                                                                              1, memory_order_relaxed);
        if (at < size * (owner + 1) / threads) return at;
    }
    return size;
}

/* A block of at least `wanted` bytes, aligned to a cache line. Its content is lost when it grows. NULL: no memory. A
   quarter more than needed, in whole pages, so that a growing conversation seldom allocates. */
static void *reserve(void **block, size_t *size, size_t wanted) {
    if (*size < wanted) {
        free(*block);
#ifndef __SANITIZE_ADDRESS__ /* AddressSanitizer sees a write behind the block only if the block has no spare bytes */
        wanted = (wanted + wanted / 4 + 4095) / 4096 * 4096;
#endif
        if (posix_memalign(block, 64, wanted)) *block = NULL;
        *size = *block ? wanted : 0;
    }
    return *block;
}
