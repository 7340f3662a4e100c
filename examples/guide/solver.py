# %% [markdown]
# # The structured solver
#
# `InteriorPoint` does the same without IPOPT, and uses what a general solver cannot see: within
# an interval there are as many equations as unknown states, intervals form a chain, and only the
# weights are everywhere. Its linear system:
#
#     l0  x0,m0  x1,m1  x2,m2 |  w
#     H    #      .      .    |  #      l0     the first node
#     #    K0     #      .    |  #      x, m   the other nodes of an interval, its end the last
#     .    #      K1     #    |  #             of them, and the multipliers of its equations
#     .    .      #      K2   |  #
#     ------------------------+----
#     #    #      #      #    |  Hw     w      weights and unknowns
#
# Intervals are eliminated for themselves; then the chain of their boundaries, as a banded matrix
# (by orthogonal transformations in the traced form, for a GPU and for batches); then the weights,
# by a dense Schur complement. With $d$ states, $N$ nodes in intervals of $n$, $m = n d$, and $P$
# weights, a factorisation costs about $N/n \, (2 m^3 + 4 m^2 P + 2 m P^2) + N/n \, d P^2 + P^3/3$
# operations and holds some $4 N d P$ numbers. `Ipopt` is the choice where trajectories are tied
# together, where constraints reach over several intervals, and with thousands of weights, whose
# dense border then costs most.
#
# Data that do not fit one solve are split into batches that agree on one model (`fit_admm`).
