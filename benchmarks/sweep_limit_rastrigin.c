/* The practical limit of a sweep on a CPU: RMSprop on Rastrigin's function in 2-D, in float32. See sweep_limit.h.

   x <- x - 0.01 g / (sqrt(v) + 1e-8), v <- 0.99 v + 0.01 g^2, kept as V = v / 0.01. The value is computed as
   sum x^2 + 10 (1 - cos 2 pi x), which loses digits near the minimum, where gdlab does not. */

#include "sweep_limit.h"

enum { DIM = 2, TILE = 512 };

typedef struct {
  _Alignas(64) float x[DIM][TILE], lowest[TILE], v[DIM][TILE];
} State;

static inline void step(State *s, int count, int k) {
  (void)k;
#pragma omp simd
  for (int j = 0; j < count; j++) {
    float value = 20;
#pragma GCC unroll 16
    for (int i = 0; i < DIM; i++) {
      float x = s->x[i][j], t = x - rintf(x), w = 0.25f - fabsf(t), z = w * w;
      value += x * x - 20 * half_cosine(w, z);
      float g = 2 * x + 20 * pi_sine(t, 0.5f - fabsf(t), z);
      float v = 0.99f * s->v[i][j] + g * g;
      s->x[i][j] = x - g * (0.1f / (sqrtf(v) + 1e-7f));
      s->v[i][j] = v;
    }
    s->lowest[j] = fminf(s->lowest[j], value);
  }
}

MAIN(NOTHING)
