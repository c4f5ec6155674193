"""The classes that a conditional sampler is asked for, as often as the data it is held against has them.

K classes. Class c of share p_c is due at the times (v_c + j) / p_c, j = 0, 1, ..., with v_c drawn once from [0, 1): systematic
sampling, each class by itself. The labels are the classes in the order in which they are due. By time t a class was due p_c t
times on average and never a whole time more or less, so the labels' shares are nearer to the data's than independent draws
would be, whose chance would add to that of every metric. Of equal shares each class comes once in every K labels.
"""

import numpy as np
import numpy.typing as npt

from components.core.errors import InputError


def labels_like(counts_K: npt.ArrayLike, n: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Labels int64 [n] in the proportions of `counts_K` (items, or any weights, of each class).

    The same seed and proportions give the same labels, and label k does not depend on n. Raises InputError for counts that are
    negative, not finite or all 0.

    >>> labels_like([90, 10, 0], 20, seed=0).tolist()
    [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    """
    counts = np.asarray(counts_K, np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise InputError(f"counts of classes {counts.tolist()} given", allowed="0 or more of each class, and not 0 of all")
    share_K = counts / counts.sum()
    phase_K = np.random.default_rng([seed, 2]).random(len(share_K))
    times_K = np.where(share_K > 0, np.ceil((n + len(share_K)) * share_K) + 1, 0).astype(np.int64)  # enough for n in all
    labels = np.repeat(np.arange(len(share_K)), times_K)
    turn = np.arange(len(labels)) - np.repeat(np.cumsum(times_K) - times_K, times_K)  # j: 0, 1, ... of each class
    due = (phase_K[labels] + turn) / share_K[labels]
    return labels[np.argsort(due, kind="stable")[:n]].astype(np.int64)
