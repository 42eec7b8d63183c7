"""Tests whether a sequence consists of independent standard normals: sums in one pass, and their p-values.

A finding is (statistic, its two-sided p-value under the null hypothesis); for the worst of several numbers, the p-value
is multiplied by their count (Bonferroni). (SciPy comes with scikit-learn.)
"""

import math

import numpy as np
import torch
from scipy import stats
from scipy.special import erfc

# 4 standard errors: a false-alarm probability of 6e-5 for each finding.
ALPHA = math.erfc(4 / math.sqrt(2))
CHUNK = 1 << 18  # sums are computed over pieces that fit into the cache
LAGS = 64
FINE, BINS = 1 << 16, 1 << 12  # equiprobable bins, for K-S and chi^2
TO_SIDE = 10
HALVES = FINE >> TO_SIDE  # bins per side of the contingency table of the halves
TAILS = (4, 5, 6)


def two_sided(scores):
    """p of the largest of several standard scores. (min(p, 1) in this order preserves NaN.)"""
    scores = np.atleast_1d(scores)
    return min(scores.size * erfc(np.abs(scores).max() / math.sqrt(2)), 1.0)


def chi_square(counts):
    """p of counts that should be equal. Two-sided, because counts can also be too even."""
    mean = counts.sum() / counts.size
    value = ((counts - mean) ** 2).sum() / mean
    law = stats.chi2(counts.size - 1)
    return value / (counts.size - 1), min(2 * min(law.cdf(value), law.sf(value)), 1.0)


def poisson(count, mean):
    """Exact p of a count."""
    law = stats.poisson(mean)
    return min(2 * min(law.cdf(count), law.sf(count - 1)), 1.0)


def tail_probability(t):
    """P(|z| > t) of the stream by its definition: 2^32 radii, and practically continuous angles.

    The radius depends on u = (w + 1/2) / 2^32, which is exact in float32 for the small w that give t >= 4."""
    w = np.arange(math.exp(-t * t / 2) * 2.0**32 + 1)
    radius = np.sqrt(-2 * np.log((w + 0.5) * 2.0**-32))
    return (2 / math.pi) * np.arccos(np.minimum(t / radius, 1)).sum() * 2.0**-32


def features(z):
    """Three functions of z with mean 0 and variance 1, because dependence may show only in one of them."""
    mean = math.sqrt(2 / math.pi)
    return {
        "z": z,
        "z^2": (z * z - 1) / math.sqrt(2),
        "|z|": (z.abs() - mean) / math.sqrt(1 - mean * mean),
    }


class Sums:
    """Statistics of a sequence from one pass over it."""

    def __init__(self):
        self.n, self.moments = 0, np.zeros(4)
        self.fine = torch.zeros(FINE, dtype=torch.int64)
        self.halves = torch.zeros(HALVES**2, dtype=torch.int64)
        self.tails = dict.fromkeys(TAILS, 0)
        self.rows, self.products = 0, {}

    def add(self, z):
        """Add a piece of the sequence, consisting of whole counters (4 elements)."""
        for piece in z.split(CHUNK):
            self._add(piece.double())
        return self

    def _add(self, z):
        self.n += z.numel()
        square = z * z
        dots = (z.sum(), z.dot(z), z.dot(square), square.dot(square))
        self.moments += [dot.item() for dot in dots]

        bins = (torch.special.ndtr(z) * FINE).long().clamp_(max=FINE - 1)
        self.fine += torch.bincount(bins, minlength=FINE)
        side = (bins >> TO_SIDE).view(-1, 2)  # z[4c], z[4c + 1] and so on
        self.halves += torch.bincount(side[:, 0] * HALVES + side[:, 1], minlength=HALVES**2)

        far = z.abs()
        far = far[far > TAILS[0]]
        for t in TAILS:
            self.tails[t] += int((far > t).sum())

        # products[a, b] = sum over rows of z[64 row + a] z[64 row + b], a < 64, b < 128: all lags in one matrix
        # product. The # last 64 elements of a piece have no partners and are left out.
        rows = z.numel() // LAGS - 1
        self.rows += rows
        for name, f in features(z).items():
            f = f[: (rows + 1) * LAGS].view(-1, LAGS)
            both = torch.cat((f[:-1].T @ f[:-1], f[:-1].T @ f[1:]), dim=1)
            self.products[name] = self.products.get(name, 0) + both

    def findings(self):
        n = self.n
        mean, m2, m3, m4 = self.moments / n
        variance = m2 - mean**2
        third = m3 - 3 * mean * m2 + 2 * mean**3
        fourth = m4 - 4 * mean * m3 + 6 * mean**2 * m2 - 3 * mean**4
        found = {}
        for name, value, of_normals in (
            ("mean", mean, 1),
            ("variance - 1", variance - 1, 2),
            ("skewness", third / variance**1.5, 6),
            ("excess kurtosis", fourth / variance**2 - 3, 24),
        ):
            found[name] = (value, two_sided(value / math.sqrt(of_normals / n)))

        fine = self.fine.numpy()
        # Evaluated only at the bin edges, it can only be smaller than the true statistic, so this causes no false
        # alarms.
        distance = np.abs(fine.cumsum() / n - np.arange(1, FINE + 1) / FINE).max()
        found["K-S distance"] = (distance, stats.kstwobign.sf(distance * math.sqrt(n)))
        found["chi^2 / degrees"] = chi_square(fine.reshape(BINS, -1).sum(1))
        for t, count in self.tails.items():
            found[f"beyond {t} sigma"] = (count, poisson(count, n * tail_probability(t)))

        found["chi^2 / degrees, halves"] = chi_square(self.halves.numpy())
        for name, products in self.products.items():
            sums = [products.diagonal(lag).sum() for lag in range(1, LAGS + 1)]
            scores = np.array(sums) / math.sqrt(LAGS * self.rows)
            found[f"lags 1-{LAGS} of {name}, worst"] = worst(scores, LAGS * self.rows)
            # z[4c + i] z[4c + j]: the words of one counter, including the Box-Muller halves (0, 1) and (2, 3)
            lanes = products[:, :LAGS].reshape(16, 4, 16, 4).diagonal(dim1=0, dim2=2).sum(-1)
            pairs = self.rows * LAGS / 4
            scores = lanes[tuple(torch.triu_indices(4, 4, 1))].numpy() / math.sqrt(pairs)
            found[f"within counters of {name}, worst"] = worst(scores, pairs)
        return found


class Cross:
    """Correlation of two sequences, at the same position and up to 63 positions apart."""

    def __init__(self):
        self.rows, self.products = 0, {}

    def add(self, a, b):
        for x, y in zip(a.split(CHUNK), b.split(CHUNK), strict=True):
            self.rows += x.numel() // LAGS
            y = features(y.double())
            for name, f in features(x.double()).items():
                product = f.view(-1, LAGS).T @ y[name].view(-1, LAGS)
                self.products[name] = self.products.get(name, 0) + product
        return self

    def findings(self):
        found = {}
        for name, products in self.products.items():
            scores = np.array(
                [
                    products.diagonal(lag).sum() / math.sqrt(self.rows * (LAGS - abs(lag)))
                    for lag in range(1 - LAGS, LAGS)
                ]
            )
            found[f"cross-correlation of {name}, worst"] = worst(scores, self.rows * LAGS)
        return found


def worst(scores, n):
    """The largest of the correlations, each of n products, and its p."""
    return scores[np.abs(scores).argmax()] / math.sqrt(n), two_sided(scores)


def failed_findings(findings):
    """Names of the findings that a good generator does not have; including a p of NaN."""
    return [name for name, (_, p) in findings.items() if not p >= ALPHA]


def table(findings):
    """The findings as Markdown, which `pytest -rP` shows, and docs/noise-quality.md contains."""
    lines = (f"| {name} | {value:.4g} | {p:.3g} |" for name, (value, p) in findings.items())
    return "\n".join(("| | measured | p |", "|---|---|---|", *lines))
