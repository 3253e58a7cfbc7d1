/* What the C programs of the speed benchmark share: reading, tiles, threads, timing and writing.

   A case defines DIM, TILE and State, which begins with the arrays x[DIM][TILE] and lowest[TILE], and the function
   step(state, count, k), and ends with MAIN(prepare), where prepare(steps) is called once, or MAIN(NOTHING). The rest of
   a state begins with zeros.

   Command: gcc FLAGS sweep_limit_CASE.c -lm -o limit
            ./limit STARTS STEPS THREADS REPEATS INPUT OUTPUT
   (`sweep_contenders.c_limit` compiles and calls it.) INPUT holds float32 (STARTS, DIM); OUTPUT gets the last points,
   float32 (STARTS, DIM), and then the lowest value that each start met, float32 (STARTS,). Prints the seconds of every
   repeat, one a line, after one warm-up that is not printed. Reading and writing files is not timed. */

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16 };

/* cos(2 pi t) / 2 = sin(2 pi w) / 2 for w = 1/4 - |t|, |t| <= 1/2, z = w^2. */
static inline float half_cosine(float w, float z) {
  float p = 19.8554518f;
  p = p * z - 38.2874950f;
  p = p * z + 40.8011156f;
  p = p * z - 20.6708387f;
  p = p * z + 3.14159264f;
  return p * w;
}

/* pi sin(2 pi t); the factors t and 1/2 - |t| keep the relative accuracy near its zeros. */
static inline float pi_sine(float t, float away, float z) {
  float p = 77.7031282f;
  p = p * z - 183.962396f;
  p = p * z + 256.955086f;
  p = p * z - 187.953096f;
  p = p * z + 50.2654824f;
  return p * (t * away);
}

typedef struct {
  long starts;
  int steps, threads;
  const float *begin;
  float *end, *lowest;
} Work;

static void stop(const char *message, const char *what) {
  fprintf(stderr, "sweep_limit: %s%s\n", message, what);
  exit(1);
}

#define NOTHING(steps) ((void)(steps))

/* The loop over tiles: of one size for each thread, at most TILE. A tile takes all its steps before the next begins. */
#define MAIN(prepare)                                                                                                 \
  static void sweep(Work w) {                                                                                         \
    prepare(w.steps);                                                                                                 \
    long rounds = (w.starts + (long)w.threads * TILE - 1) / ((long)w.threads * TILE);                                 \
    long share = (w.starts + rounds * w.threads - 1) / (rounds * w.threads);                                          \
    int size = (int)((share + LANES - 1) / LANES * LANES);                                                            \
    long tiles = (w.starts + size - 1) / size;                                                                        \
    _Pragma("omp parallel for num_threads(tiles < w.threads ? (int)tiles : w.threads) schedule(dynamic)")             \
    for (long tile = 0; tile < tiles; tile++) {                                                                       \
      static _Thread_local State s;                                                                                   \
      memset(&s, 0, sizeof s);                                                                                        \
      long first = tile * size;                                                                                       \
      int count = w.starts - first < size ? (int)(w.starts - first) : size;                                           \
      int padded = (count + LANES - 1) / LANES * LANES; /* the rest walks from the origin, unseen */                  \
      for (int j = 0; j < padded; j++) {                                                                              \
        for (int i = 0; i < DIM; i++) s.x[i][j] = j < count ? w.begin[DIM * (first + j) + i] : 0;                     \
        s.lowest[j] = 1e30f;                                                                                          \
      }                                                                                                               \
      for (int k = 0; k < w.steps; k++) step(&s, padded, k);                                                          \
      for (int j = 0; j < count; j++) {                                                                               \
        for (int i = 0; i < DIM; i++) w.end[DIM * (first + j) + i] = s.x[i][j];                                       \
        w.lowest[first + j] = s.lowest[j];                                                                            \
      }                                                                                                               \
    }                                                                                                                 \
  }                                                                                                                   \
  int main(int count, char **argument) { return run(count, argument, DIM, sweep); }

static int run(int count, char **argument, int dim, void (*sweep)(Work)) {
  if (count != 7) stop("expected STARTS STEPS THREADS REPEATS INPUT OUTPUT", "");
  long starts = atol(argument[1]);
  int steps = atoi(argument[2]), threads = atoi(argument[3]), repeats = atoi(argument[4]);
  if (starts < 1 || steps < 1 || threads < 1 || repeats < 1) stop("expected STARTS STEPS THREADS REPEATS >= 1", "");
  size_t points = dim * (size_t)starts;
  float *begin = malloc(points * sizeof(float)), *end = malloc(points * sizeof(float));
  float *lowest = malloc((size_t)starts * sizeof(float));
  if (!begin || !end || !lowest) stop("not enough memory", "");
  FILE *input = fopen(argument[5], "rb");
  if (!input || fread(begin, sizeof(float), points, input) != points) stop("cannot read the starts from ", argument[5]);
  fclose(input);
  for (int repeat = 0; repeat <= repeats; repeat++) {
    double began = omp_get_wtime();
    sweep((Work){starts, steps, threads, begin, end, lowest});
    double seconds = omp_get_wtime() - began;
    if (repeat > 0) printf("%.9f\n", seconds);
  }
  FILE *output = fopen(argument[6], "wb");
  if (!output || fwrite(end, sizeof(float), points, output) != points ||
      fwrite(lowest, sizeof(float), (size_t)starts, output) != (size_t)starts || fclose(output) != 0)
    stop("cannot write to ", argument[6]);
  free(begin), free(end), free(lowest);
  return 0;
}
