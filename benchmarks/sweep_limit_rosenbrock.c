/* The practical limit of a sweep on a CPU: heavy ball on Rosenbrock's function in 10-D, in float32. See sweep_limit.h.

   v <- 0.9 v + g, x <- x - 0.0001 v. The value of every point is computed, too. */

#include "sweep_limit.h"

enum { DIM = 10, TILE = 256 };

typedef struct {
  _Alignas(64) float x[DIM][TILE], lowest[TILE], v[DIM][TILE];
} State;

static inline void step(State *s, int count, int k) {
  (void)k;
#pragma omp simd
  for (int j = 0; j < count; j++) {
    float value = 0, before = 0;
#pragma GCC unroll 16
    for (int i = 0; i < DIM; i++) {
      float x = s->x[i][j], g = 200 * before;
      if (i < DIM - 1) {
        float valley = s->x[i + 1][j] - x * x, far = 1 - x;
        value += 100 * valley * valley + far * far;
        g -= 400 * x * valley + 2 * far;
        before = valley;
      }
      float v = 0.9f * s->v[i][j] + g;
      s->x[i][j] = x - 1e-4f * v;
      s->v[i][j] = v;
    }
    s->lowest[j] = fminf(s->lowest[j], value);
  }
}

MAIN(NOTHING)
