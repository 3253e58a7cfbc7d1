/* The practical limit of a sweep on a CPU: Adam on Ackley's function in 2-D from many starts, in float32.

   The method: x <- x - 0.1 mhat / (sqrt(vhat) + 1e-8), b1 = 0.9, b2 = 0.999, gradient by the chain rule, and the value
   of every point too. Two exact rewritings save work: the averages are kept as M = m / (1 - b1) and V = v / (1 - b2),
   so that each is one multiplication and one addition, and all scalars of a step become one rate and one epsilon,
   computed once for all starts. Sine and cosine share one reduction, t = x - round(x), which is exact; exp of the mean
   cosine needs none. Largest relative errors, measured against float64: sin(2 pi x) 2.1e-7, cos(2 pi x) 1.7e-7, exp of
   the mean cosine 2.2e-7, 2^y 0.8e-7; of the polynomials before rounding: 1e-9, 5e-9, 1e-8, 2e-9.

   Starts are taken in tiles whose seven arrays (14 KiB) stay in L1 for all steps; a step runs over a tile in one
   loop that the compiler vectorizes whole. Measured on an AMD EPYC of family 26 (Zen 5, 4 GHz, AVX-512) with gcc
   12.2, 10^6 starts, one thread, in million point-steps/s: 1320 as it stands, which is 48 cycles for 16 starts. What
   was tried, with tiles of 256 starts, which give 1290, and of 128, 1270: without -mno-recip, so that square roots
   and divisions are approximations with a Newton step, 895; ymm instead of zmm 680; -funroll-loops 1270; gcc's
   tuning for Icelake 1250; one division for both coordinates 1250; without the lowest value 1290; exp of the mean
   cosine with a reduction of its own 1250. Earlier forms of the loop: in intrinsics, with vreduceps and vscalefps,
   1230; those with vrsqrt14ps and vrcp14ps 570 to 1150; with sin(2 pi t) = 2 s c and cos(2 pi t) = 1 - 2 s^2 of the
   half angle 1300, at four times the error of the cosine. */

#include "sweep_limit.h"

enum { DIM = 2, TILE = 512 };

/* exp(u) for |u| <= 1, which a mean of cosines keeps. */
static inline float exp_unit(float u) {
  float p = 2.41886802e-5f;
  p = p * u + 2.04391890e-4f;
  p = p * u + 1.39084863e-3f;
  p = p * u + 8.32912950e-3f;
  p = p * u + 0.0416653199f;
  p = p * u + 0.166667723f;
  p = p * u + 0.500000274f;
  p = p * u + 0.999999933f;
  return p * u + 1.0f;
}

/* 2^y for y <= 0; below -126 it stays at 2^-126. */
static inline float exp2_below(float y) {
  y = fmaxf(y, -126.0f);
  float whole = rintf(y), f = y - whole;
  float p = 1.53458122e-4f;
  p = p * f + 1.33999312e-3f;
  p = p * f + 9.61848896e-3f;
  p = p * f + 0.0555032878f;
  p = p * f + 0.240226469f;
  p = p * f + 0.693147206f;
  p = p * f + 1.0f;
  int bits;
  memcpy(&bits, &p, sizeof bits);
  bits += (int)whole << 23;
  memcpy(&p, &bits, sizeof p);
  return p;
}

typedef struct {
  _Alignas(64) float x[DIM][TILE], lowest[TILE], m[DIM][TILE], v[DIM][TILE];
} State;

static float *rates, *epsilons;

static void prepare(int steps) {
  double power1 = 1, power2 = 1;
  rates = realloc(rates, (size_t)steps * sizeof(float)), epsilons = realloc(epsilons, (size_t)steps * sizeof(float));
  if (!rates || !epsilons) stop("not enough memory", "");
  for (int k = 0; k < steps; k++) { /* mhat / (sqrt(vhat) + eps) = 0.1 M / c1 / (sqrt(0.001 V / c2) + eps) */
    power1 *= 0.9, power2 *= 0.999;
    double scale = sqrt((1 - power2) / 0.001);
    rates[k] = (float)(0.1 * 0.1 / (1 - power1) * scale);
    epsilons[k] = (float)(1e-8 * scale);
  }
}

/* One step of the first `count` starts of a tile. */
static inline void step(State *s, int count, int k) {
  float rate = rates[k], epsilon = epsilons[k];
#pragma omp simd
  for (int j = 0; j < count; j++) {
    float x = s->x[0][j], y = s->x[1][j];
    float tx = x - rintf(x), ty = y - rintf(y), wx = 0.25f - fabsf(tx), wy = 0.25f - fabsf(ty);
    float zx = wx * wx, zy = wy * wy;
    float ripples = exp_unit(half_cosine(wx, zx) + half_cosine(wy, zy));
    float length = sqrtf(fmaxf(x * x + y * y, 1e-30f));
    float cone = exp2_below(length * -0.204027889f); /* exp(-0.2 sqrt((x^2 + y^2) / 2)) */
    float outwards = 2.82842712f * cone / length;
    s->lowest[j] = fminf(s->lowest[j], 22.7182818f - 20 * cone - ripples);
    float gx = x * outwards + pi_sine(tx, 0.5f - fabsf(tx), zx) * ripples;
    float gy = y * outwards + pi_sine(ty, 0.5f - fabsf(ty), zy) * ripples;
    float mx = 0.9f * s->m[0][j] + gx, my = 0.9f * s->m[1][j] + gy;
    float vx = 0.999f * s->v[0][j] + gx * gx, vy = 0.999f * s->v[1][j] + gy * gy;
    s->x[0][j] = x - mx * (rate / (sqrtf(vx) + epsilon));
    s->x[1][j] = y - my * (rate / (sqrtf(vy) + epsilon));
    s->m[0][j] = mx, s->m[1][j] = my, s->v[0][j] = vx, s->v[1][j] = vy;
  }
}

MAIN(prepare)
