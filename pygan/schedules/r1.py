"""What instance noise has in common with the R1 penalty: numbers from one to the other."""

import math

from pygan.schedules.base import checked


def sigma_for_r1(gamma: float) -> float:
    """The noise that acts as the penalty ``gamma / 2 * E ||grad D||^2`` does near equilibrium: ``sqrt(2 * gamma)``.

    Noise on real and generated samples adds to each half of the discriminator's loss, to second order in sigma,
    ``sigma^2 / 2`` times the mean of ``D (1 - D) ||grad a||^2``, where a is the logit and D = sigmoid(a), and a term in
    the Laplacian of a, which cancels between the halves at the equilibrium (Roth et al. 2017). With D = 1/2 there, that
    is R1 with ``gamma = sigma^2 / 2``. On the Dirac-GAN, the linearized dynamics under both have the same eigenvalues
    (Mescheder et al. 2018, section 3).

    The limits of that statement:

    * Near the equilibrium. Where the discriminator is sure of itself, D (1 - D) vanishes and with it the effect of the
      noise; that of the penalty stays. And R1 looks at the real samples alone, noise at both kinds.
    * Small sigma: the gradient of a should hardly change over that length. (For a linear a, every sigma is small.)
    * The logistic losses non_saturating and minimax. Where a loss is linear at the equilibrium (hinge, wasserstein), a
      little noise changes nothing; least_squares has another factor.

    Args:
        gamma: weight of the penalty, in units of the data squared, non-negative.

    Returns:
        sigma, in units of the data.

    Raises:
        ValueError: gamma negative or not finite.
    """
    return math.sqrt(2.0 * checked("sigma_for_r1", "gamma", gamma))


def r1_for_sigma(sigma: float) -> float:
    """The weight gamma of the R1 penalty that acts as noise of `sigma` does near equilibrium: ``sigma**2 / 2``.

    The inverse of :func:`sigma_for_r1`, within the same limits.

    Raises:
        ValueError: sigma negative or not finite.
    """
    return 0.5 * checked("r1_for_sigma", "sigma", sigma) ** 2
