"""An independent oracle: the test functions from their textbook formulas, with Python's math module.

They are written from the formulas alone (Jamil & Yang 2013; Surjanovic & Bingham 2013), one scalar at a time and
without rearrangement. Each takes a sequence of floats.
"""

from math import cos, e, exp, fabs, pi, prod, sin, sqrt


def sphere(x):
    return sum(v * v for v in x)


def ackley(x):
    d = len(x)
    root = sqrt(sum(v * v for v in x) / d)
    mean = sum(cos(2 * pi * v) for v in x) / d
    return -20 * exp(-0.2 * root) - exp(mean) + 20 + e


def rosenbrock(x):
    total = 0.0
    for i in range(len(x) - 1):
        total += 100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2
    return total


def rastrigin(x):
    return 10 * len(x) + sum(v * v - 10 * cos(2 * pi * v) for v in x)


def griewank(x):
    return 1 + sum(v * v for v in x) / 4000 - prod(cos(v / sqrt(i)) for i, v in enumerate(x, 1))


def levy(x):
    w = [1 + (v - 1) / 4 for v in x]
    total = sin(pi * w[0]) ** 2
    for v in w[:-1]:
        total += (v - 1) ** 2 * (1 + 10 * sin(pi * v + 1) ** 2)
    return total + (w[-1] - 1) ** 2 * (1 + sin(2 * pi * w[-1]) ** 2)


def schwefel(x):
    return 418.9828872724337 * len(x) - sum(v * sin(sqrt(fabs(v))) for v in x)


def styblinski_tang(x):
    return 0.5 * sum(v**4 - 16 * v**2 + 5 * v for v in x)


def michalewicz(x):
    return -sum(sin(v) * sin(i * v * v / pi) ** 20 for i, v in enumerate(x, 1))


def dixon_price(x):
    total = (x[0] - 1) ** 2
    for i in range(2, len(x) + 1):
        total += i * (2 * x[i - 1] ** 2 - x[i - 2]) ** 2
    return total


def zakharov(x):
    s = sum(0.5 * i * v for i, v in enumerate(x, 1))
    return sum(v * v for v in x) + s**2 + s**4


def powell(x):
    total = 0.0
    for k in range(0, len(x), 4):
        a, b, c, d = x[k : k + 4]
        total += (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4
    return total


def quadratic(x):
    d = len(x)
    return 0.5 * sum(100 ** (i / (d - 1) if d > 1 else 0) * v * v for i, v in enumerate(x))


def beale(p):
    x, y = p
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def himmelblau(p):
    x, y = p
    return (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2


def booth(p):
    x, y = p
    return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


def matyas(p):
    x, y = p
    return 0.26 * (x * x + y * y) - 0.48 * x * y


def goldstein_price(p):
    x, y = p
    one = 1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x * x - 14 * y + 6 * x * y + 3 * y * y)
    two = 30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x * x + 48 * y - 36 * x * y + 27 * y * y)
    return one * two


def easom(p):
    x, y = p
    return -cos(x) * cos(y) * exp(-((x - pi) ** 2) - (y - pi) ** 2)


def three_hump_camel(p):
    x, y = p
    return 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2


def six_hump_camel(p):
    x, y = p
    return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (-4 + 4 * y**2) * y**2


def branin(p):
    x, y = p
    return (y - 5.1 * x**2 / (4 * pi**2) + 5 * x / pi - 6) ** 2 + 10 * (1 - 1 / (8 * pi)) * cos(x) + 10


def mccormick(p):
    x, y = p
    return sin(x + y) + (x - y) ** 2 - 1.5 * x + 2.5 * y + 1


def eggholder(p):
    x, y = p
    return -(y + 47) * sin(sqrt(fabs(x / 2 + y + 47))) - x * sin(sqrt(fabs(x - (y + 47))))


def bukin_6(p):
    x, y = p
    return 100 * sqrt(fabs(y - 0.01 * x * x)) + 0.01 * fabs(x + 10)


def cross_in_tray(p):
    x, y = p
    return -0.0001 * (fabs(sin(x) * sin(y) * exp(fabs(100 - sqrt(x * x + y * y) / pi))) + 1) ** 0.1


def drop_wave(p):
    x, y = p
    square = x * x + y * y
    return -(1 + cos(12 * sqrt(square))) / (0.5 * square + 2)
