"""Conversion between instance noise and the R1 penalty, which are equivalent near equilibrium."""

import math

from pygan.schedules.base import checked


def sigma_for_r1(gamma: float) -> float:
    """The noise equivalent to the penalty ``gamma / 2 * E ||grad D||^2`` near equilibrium: ``sqrt(2 * gamma)``.

    To second order in sigma, noise on real and generated samples adds to each half of the discriminator's loss
    ``sigma^2 / 2`` times the mean of ``D (1 - D) ||grad a||^2``, where a is the logit and D = sigmoid(a), plus a term
    in the Laplacian of a, which cancels between the halves at equilibrium (Roth et al. 2017). With D = 1/2 at
    equilibrium, this is R1 with ``gamma = sigma^2 / 2``. On the Dirac-GAN, the linearized dynamics of the two have the
    same eigenvalues (Mescheder et al. 2018, section 3).

    The equivalence holds only:

    * Near equilibrium. If the discriminator is confident, D (1 - D) vanishes and the noise has no effect, but the
      penalty still does. R1 also looks only at real samples, the noise at both kinds.
    * For small sigma: the gradient of a should hardly change over that distance. (For a linear a, any sigma will do.)
    * For the logistic losses non_saturating and minimax. If a loss is linear at equilibrium (hinge, wasserstein), a
      little noise changes nothing; least_squares has another factor.

    Args:
        gamma: weight of the penalty, in units of the data squared, non-negative.

    Returns:
        sigma, in units of the data.

    Raises:
        ValueError: gamma is negative or not finite.
    """
    return math.sqrt(2.0 * checked("sigma_for_r1", "gamma", gamma))


def r1_for_sigma(sigma: float) -> float:
    """The weight gamma of the R1 penalty equivalent to noise of `sigma` near equilibrium: ``sigma**2 / 2``.

    The inverse of :func:`sigma_for_r1`, with the same restrictions.

    Raises:
        ValueError: sigma is negative or not finite.
    """
    return 0.5 * checked("r1_for_sigma", "sigma", sigma) ** 2
