/* The practical limit of the speed benchmark: Adam on Ackley's function in two dimensions, in float32, from n starts.

   gcc -O3 -march=native -ffast-math -fopenmp [-mprefer-vector-width=512] sweep_limit.c -lm -o sweep_limit
   ./sweep_limit n steps threads repeats starts.f32 points.f32

   starts.f32 holds n pairs of float32. A block of starts takes all its steps before the next begins, its state stays in
   the first-level cache, and the loop over its starts is vectorized: one range reduction for sine and cosine, polynomials
   for both and for exp, the gradient by hand, bias corrections once a step. Prints the seconds of each repeat. */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef BLOCK
#define BLOCK 256
#endif

static inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  float n = rintf(x * 1.44269504f);
  float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, x));
  float p = 1.0f / 720;
  p = fmaf(p, r, 1.0f / 120);
  p = fmaf(p, r, 1.0f / 24);
  p = fmaf(p, r, 1.0f / 6);
  p = fmaf(p, r, 0.5f);
  p = fmaf(p, r, 1.0f);
  p = fmaf(p, r, 1.0f);
  int32_t bits = ((int32_t)n + 127) << 23;
  float scale;
  memcpy(&scale, &bits, 4);
  return p * scale;
}

/* sin(pi r) and cos(pi r) of r = x - round(x): the signs cancel in their square and their product. */
static inline void half_turn(float x, float *s, float *c) {
  float r = x - rintf(x), u = r * r;
  float p = 0.077560386f, q = 0.0241290797f;
  p = fmaf(p, u, -0.598242126f);
  p = fmaf(p, u, 2.55006973f);
  p = fmaf(p, u, -5.16770968f);
  p = fmaf(p, u, 3.14159264f);
  q = fmaf(q, u, -0.228727294f);
  q = fmaf(q, u, 1.27798821f);
  q = fmaf(q, u, -3.73920798f);
  q = fmaf(q, u, 4.0f);
  *s = r * p;
  *c = (0.25f - u) * q;
}

static void descend(const float *starts, float *points, long count, long steps, const float *first, const float *second) {
  float x[BLOCK], y[BLOCK], mx[BLOCK], my[BLOCK], vx[BLOCK], vy[BLOCK];
  for (long i = 0; i < BLOCK; i++) {
    long from = i < count ? i : count - 1;
    x[i] = starts[2 * from];
    y[i] = starts[2 * from + 1];
    mx[i] = my[i] = vx[i] = vy[i] = 0;
  }
  for (long t = 0; t < steps; t++) {
    float c1 = 0.1f * first[t], c2 = second[t]; /* the learning rate is 0.1 */
#pragma omp simd
    for (long i = 0; i < BLOCK; i++) {
      float a = x[i], b = y[i], sa, ca, sb, cb;
      half_turn(a, &sa, &ca);
      half_turn(b, &sb, &cb);
      float radius = sqrtf(0.5f * (a * a + b * b));
      float cone = 2.0f * exponential(-0.2f * radius) / (radius + 1e-30f);
      float ripple = 17.0794684f * exponential(-(sa * sa + sb * sb)); /* 2 pi e, halved by the mean, times 2 s c */
      ripple = ripple * 1.0f;
      float gx = fmaf(cone, a, ripple * sa * ca), gy = fmaf(cone, b, ripple * sb * cb);
      float mxi = fmaf(0.9f, mx[i], 0.1f * gx), myi = fmaf(0.9f, my[i], 0.1f * gy);
      float vxi = fmaf(0.999f, vx[i], 0.001f * gx * gx), vyi = fmaf(0.999f, vy[i], 0.001f * gy * gy);
      mx[i] = mxi;
      my[i] = myi;
      vx[i] = vxi;
      vy[i] = vyi;
      x[i] = a - c1 * mxi / (sqrtf(c2 * vxi) + 1e-8f);
      y[i] = b - c1 * myi / (sqrtf(c2 * vyi) + 1e-8f);
    }
  }
  for (long i = 0; i < count && i < BLOCK; i++) {
    points[2 * i] = x[i];
    points[2 * i + 1] = y[i];
  }
}

int main(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "sweep_limit: wanted n steps threads repeats starts points\n");
    return 2;
  }
  long n = atol(argv[1]), steps = atol(argv[2]), repeats = atol(argv[4]);
  omp_set_num_threads(atoi(argv[3]));
  float *starts = malloc(8 * n), *points = malloc(8 * n);
  float *first = malloc(4 * steps), *second = malloc(4 * steps);
  FILE *file = fopen(argv[5], "rb");
  if (!file || fread(starts, 8, n, file) != (size_t)n) {
    fprintf(stderr, "sweep_limit: wanted %ld pairs of float32 in %s\n", n, argv[5]);
    return 1;
  }
  fclose(file);
  for (long t = 0; t < steps; t++) {
    first[t] = 1 / (1 - pow(0.9, t + 1));
    second[t] = 1 / (1 - pow(0.999, t + 1));
  }
  for (long repeat = -1; repeat < repeats; repeat++) {
    double began = omp_get_wtime();
#pragma omp parallel for schedule(dynamic)
    for (long i = 0; i < n; i += BLOCK)
      descend(starts + 2 * i, points + 2 * i, n - i, steps, first, second);
    if (repeat >= 0) printf("%.9f\n", omp_get_wtime() - began);
  }
  file = fopen(argv[6], "wb");
  if (!file || fwrite(points, 8, n, file) != (size_t)n || fclose(file)) {
    fprintf(stderr, "sweep_limit: could not write %s\n", argv[6]);
    return 1;
  }
  return 0;
}
