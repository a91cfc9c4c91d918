/* How long replies took: counts in steps of 3 %, 32 to each power of two of nanoseconds. */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stdint.h>

enum { STEP_BITS = 5, STEPS = 1 << STEP_BITS, BUCKETS = (65 - STEP_BITS) * STEPS };

struct latencies {
    long counts[BUCKETS], total;
};

static inline void add_latency(struct latencies *latencies, int64_t ns)
{
    uint64_t value = ns > 0 ? (uint64_t)ns : 0;
    int shift = value < STEPS ? 0 : 63 - __builtin_clzll(value) - STEP_BITS;
    latencies->counts[(size_t)shift * STEPS + (size_t)(value >> shift)]++;
    latencies->total++;
}

/* The latency that this share of the replies did not exceed, nanoseconds; 0 without replies. */
static inline int64_t latency_at(const struct latencies *latencies, double share)
{
    long left = (long)(share * (double)latencies->total + 0.5);
    for (int i = 0; i < BUCKETS; i++)
        if ((left -= latencies->counts[i]) <= 0 && latencies->counts[i]) {
            int shift = i < 2 * STEPS ? 0 : i / STEPS - 1;
            return ((int64_t)(i - shift * STEPS) << shift) + ((1LL << shift) >> 1);
        }
    return 0;
}

#endif
