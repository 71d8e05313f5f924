"""The best AUC that there is, where the true probabilities are known."""

import numpy as np

NUM_BINS = 65_536


def bayes_auc(probabilities: np.ndarray) -> float:
    """Expected AUC of ranking rows by their true probabilities.

    The chance that row i is positive, row j negative and p_i > p_j (ties counting half), over all pairs of rows, divided
    by the chance that i is positive and j negative. Probabilities that agree to 1/65536 count as ties.
    """
    return auc_of_bins(*bin_probabilities(probabilities))


def bin_probabilities(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected positives and negatives among the rows in each of 65536 bins of probability."""
    p = np.asarray(probabilities, np.float64)
    bins = np.minimum((p * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    return np.bincount(bins, p, NUM_BINS), np.bincount(bins, 1 - p, NUM_BINS)


def auc_of_bins(positives: np.ndarray, negatives: np.ndarray) -> float:
    """The AUC of `bayes_auc` from the sums of `bin_probabilities`, which add up over chunks."""
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / (positives.sum() * negatives.sum()))
