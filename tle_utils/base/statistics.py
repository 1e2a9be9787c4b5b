"""Intervals: Wilson's for shares, percentiles of a bootstrap by participant for the rest."""

import numpy as np
from statsmodels.stats.proportion import proportion_confint

DRAWS = 2000
SEED = 0  # of every bootstrap: a quantity has one interval, whatever chapter shows it


def wilson_interval(successes, n):
    """Wilson 95 % interval of a share (two floats from 0 to 1); NaN where `n` is 0."""
    if n <= 0:
        return np.nan, np.nan
    low, high = proportion_confint(successes, n, method="wilson")
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


def bootstrap_weights(rng, n, draws=DRAWS):
    """How often each of `n` participants is drawn in each bootstrap sample: numpy.ndarray of float, (draws, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)


def percentile_interval(samples):
    """95 % interval (two floats) from bootstrap samples, of which those that are NaN do not count."""
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return float(low), float(high)
