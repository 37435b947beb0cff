"""Sums that merge: what a run remembers of replicas that it has forgotten.

A run of a million networks keeps none of them. Each block of replicas is reduced to a
few arrays, blocks are merged two at a time, and only the end of the run turns the sums
into estimates with errors. Three kinds of sums suffice:

`moments`
    count, mean and central power sums up to order 8 of every column, from which follow
    mean, variance, skewness and kurtosis, each with its standard error;
`powers`
    E r^s for a list of orders s, of a quantity r known by its logarithm, without ever
    leaving the log domain, with the effective sample size;
`reliable`
    whether so many effective replicas are enough to believe a moment;
`histogram`
    counts in fixed bins, from which follow quantiles with a bound on their error.

Each of the sums offers ``observe`` (values to sums), ``merge`` (two sums to one) and functions
that read estimates off. Sums are dicts of NumPy arrays, called a `State`; merging is
associative up to rounding, and a fold in a fixed order gives the same bits every time.
Values are arrays of shape (replicas, ...): every column behind the first axis is summed
by itself.
"""

import numpy as np

__all__ = ["State"]

State = dict[str, np.ndarray]
