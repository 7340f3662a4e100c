# %% [markdown]
# # What a verdict means
#
# `print(sol)` ends with the verification that every `fit` makes, and `jc.verify(sol)` of any
# solution:
#
# | verdict | what was found |
# |---|---|
# | `good` | in every channel the path follows the data, and the rollout of the model the path |
# | `at_bounds` | the same, with weights at their bounds |
# | `not_converged` | the solve did not end in an optimum, whatever the rollout does |
# | `no_weights` | the model has none: nothing was trained |
# | `violated` | the path violates bounds or constraints that were stated |
# | `singular` | the algebraic equations do not determine their variables everywhere on the path |
# | `poor_fit` | the path itself misses the data by far more than their noise, or with structure |
# | `too_coarse` | within intervals the model's solution leaves the polynomials |
# | `blows_up`, `out_of_steps` | the rollout ends in infinity, or at the limit of steps |
# | `unstable` | each interval is right, but small errors grow until the rollout is elsewhere |
#
# Where several hold, all are told, that to be mended first on top. The noise is estimated from
# the samples alone, from how well a sample's neighbours in time predict it: a path that leaves
# 30% of the variance is good where that is noise, and poor where it is signal. What is good is so
# for these data and this time: nothing is said of other inputs, other starts or the time after.
# For that, hold data out, and predict them.
