"""Bootstrap draws of prompts, and of the random sets where they are averaged."""

import numpy as np
from jaxtyping import Bool, Float

from synatlas.inference import percentile_interval, resampling_weights
from synatlas.intervene.measured import Measured


class Resamples:
    """Weights of samples and of random sets, the same for everything that is compared.

    Parameters
    ----------
    one : what they are drawn for.
    draws : number of bootstraps.
    seed : of the bootstraps.
    ci_prob : probability of intervals.
    """

    def __init__(self, one: Measured, *, draws: int, seed: int, ci_prob: float) -> None:
        self.one, self.draws, self.ci_prob = one, draws, ci_prob
        self.rng = np.random.default_rng((seed, 1))
        samples = one.values.shape[3]
        # A single sample says nothing about others.
        self.weights = resampling_weights(samples, draws if samples > 1 else 0, self.rng)

    def interval(self, drawn: Float[np.ndarray, "draw *shape"]) -> Float[np.ndarray, "*shape 2"]:
        """Percentile interval of draws; NaN where there are none or all are undefined."""
        if not len(drawn):
            return np.full((*drawn.shape[1:], 2), np.nan)
        return percentile_interval(drawn, self.ci_prob)

    def means(self, values: Float[np.ndarray, "count sample"]) -> Float[np.ndarray, "draw count"]:
        """Means over drawn samples."""
        return self.weights @ values.T

    def of_sets(self, values: Float[np.ndarray, "set sample"]) -> Float[np.ndarray, " draw"]:
        """Means over drawn samples and drawn sets."""
        sets = resampling_weights(len(values), len(self.weights), self.rng)
        return ((self.weights @ values.T) * sets).sum(axis=1)

    def control_means(
        self, control: str, counts: Bool[np.ndarray, " count"]
    ) -> Float[np.ndarray, "draw chosen"]:
        """Mean damage of a control at each of these counts, samples and sets drawn anew."""
        columns = []
        for n in np.flatnonzero(counts):
            draws = self.one.draws_of(control, np.arange(counts.size) == n)[:, 0]
            blank = np.full(len(self.weights), np.nan)
            columns.append(self.of_sets(draws) if len(draws) else blank)
        return np.stack(columns, axis=1) if columns else np.zeros((len(self.weights), 0))
