"""Prints the polynomial coefficients of csrc/math (needs mpmath): a weighted Remez exchange.

Each polynomial minimizes the maximum *relative* error of the function on its interval; the coefficients are then
rounded to the target precision, and the printed error includes that rounding.
"""

import mpmath as mp

mp.mp.prec = 160


def remez(f, weight, lo, hi, degree):
    """Coefficients c (lowest first) that minimize max |sum c_k x^k - f(x)| * weight(x)."""
    n = degree + 2
    nodes = [
        (lo + hi) / 2 + (hi - lo) / 2 * mp.cos(mp.pi * (n - 1 - i) / (n - 1)) for i in range(n)
    ]
    for _ in range(30):
        a = mp.matrix(n, n)
        b = mp.matrix(n, 1)
        for i, x in enumerate(nodes):
            for k in range(degree + 1):
                a[i, k] = x**k
            a[i, degree + 1] = (-1) ** i / weight(x)
            b[i] = f(x)
        c = mp.lu_solve(a, b)[: degree + 1]

        def error(x, c=c):
            return (mp.polyval(list(reversed(c)), x) - f(x)) * weight(x)

        grid = [lo + (hi - lo) * (1 - mp.cos(mp.pi * i / 1200)) / 2 for i in range(1201)]
        values = [error(x) for x in grid]
        extrema = []  # the largest error in each run of equal sign
        for x, v in zip(grid, values):
            if extrema and (v >= 0) == (extrema[-1][1] >= 0):
                if abs(v) > abs(extrema[-1][1]):
                    extrema[-1] = (x, v)
            else:
                extrema.append((x, v))
        if len(extrema) < n:
            break
        while len(extrema) > n:
            extrema.pop(0 if abs(extrema[0][1]) < abs(extrema[-1][1]) else -1)
        sizes = [abs(v) for _, v in extrema]
        nodes = [x for x, _ in extrema]
        if max(sizes) / min(sizes) < 1.001:
            break
    return c, max(abs(v) for v in values)


def show(name, f, weight, lo, hi, degree, double):
    c, err = remez(f, weight, mp.mpf(lo), mp.mpf(hi), degree)
    print(f"// {name}: degree {degree}, relative error {mp.nstr(err, 3)}")
    if double:
        print(", ".join(float(k).hex() for k in c))
    else:
        import numpy as np

        print(", ".join(float(np.float32(float(k))).hex() + "f" for k in c))


def main():
    half_ln2 = mp.log(2) / 2

    def exp_tail(x):  # exp(x) = 1 + x + x^2 P(x); the weight makes the error relative to exp
        return (mp.exp(x) - 1 - x) / x**2 if x != 0 else mp.mpf(1) / 2

    for degree, double in ((4, False), (10, True)):
        show(
            "exp tail",
            exp_tail,
            lambda x: x**2 / mp.exp(x) + mp.mpf(10) ** -30,
            -half_ln2,
            half_ln2,
            degree,
            double,
        )

    def log1p_over(x):  # log1p(x) = x P(x)
        return mp.log1p(x) / x if x != 0 else mp.mpf(1)

    for degree, double in ((9, False), (10, False), (21, True)):
        show("log1p", log1p_over, lambda x: 1 / log1p_over(x), 0, 1, degree, double)

    root = mp.sqrt(mp.mpf(2))
    for degree in (6, 7, 8):
        show(
            "-2 log1p, noise",
            lambda x: -2 * log1p_over(x),
            lambda x: 1 / log1p_over(x) / 2,
            1 / root - 1,
            root - 1,
            degree,
            False,
        )

    def sin_over(t):  # t = y^2; sin(pi/2 y) = y P(y^2)
        y = mp.sqrt(t)
        return mp.sin(mp.pi / 2 * y) / y if y != 0 else mp.pi / 2

    def cos_tail(t):  # cos(pi/2 y) = 1 + y^2 P(y^2)
        return (mp.cos(mp.pi / 2 * mp.sqrt(t)) - 1) / t if t != 0 else -(mp.pi**2) / 8

    for degree in (2, 3):
        show("sin", sin_over, lambda t: 1 / sin_over(t), 0, 0.25, degree, False)
        show(
            "cos",
            cos_tail,
            lambda t: t / mp.cos(mp.pi / 2 * mp.sqrt(t)) + mp.mpf(10) ** -30,
            0,
            0.25,
            degree,
            False,
        )


if __name__ == "__main__":
    main()
