# %% [markdown]
# # The method
#
# On each interval of a `Grid`, between the boundaries $t_e$ and $t_e + h_e$, the state is the
# polynomial through its values $y_{ej}$ at the nodes $t_e + h_e x_j$ of a scheme. With the
# barycentric weights $b_j$ of the nodes its slope at node $i$ is $\frac{1}{h_e} \sum_j D_{ij}
# y_{ej}$, where
#
# $$D_{ij} = \frac{b_j / b_i}{x_i - x_j} \quad (i \ne j), \qquad D_{ii} = - \sum_{j \ne i} D_{ij}.$$
#
# It equals the model's slope at every node but the first, whose value is the end of the interval
# before, or the trajectory's initial state, which is fitted unless it is known. One interval of
# 200 Chebyshev points is the paper's global collocation; many intervals with few nodes make the
# derivatives sparse. The data need not lie on nodes: the loss evaluates the polynomials.
#
# IPOPT, or `InteriorPoint`, then solves for states and weights together. It needs the Jacobian of
# the equations and the Hessian of the Lagrangian. Both consist of blocks of single nodes ($f_y$,
# $f_w$ and second derivatives of $\mu \cdot f$), which `jax.vmap` computes for many nodes at
# once. On a CPU these are compiled for chunks of a fixed number of points and put together in
# NumPy, so that the size of a problem appears in no compiled program; on a GPU, under `vmap` and
# in your own `jit` the same text is one traced program.
#
# Three choices are worth knowing:
#
# - **The first node.** The paper's equation (8) collocates at all N nodes. N coefficients and N
#   equations leave the initial state no freedom: `y' = a y` then has the solution zero only. By
#   default jaxcolloc collocates at every node but the first and fits the initial state.
#   `collocate_start=True` gives equation (8) as printed; `Trajectory(y0=...)` pins a known start,
#   and `t0=...` puts it before the first sample, so that inputs act from there on.
# - **Data between nodes.** The loss evaluates the collocation polynomial at each observation
#   time. Data on the nodes give the paper's equation (11); `jc.resample(data, grid.times)` is the
#   paper's preprocessing.
# - **Local optima.** The problem is not convex. From random weights a solve often ends in a poor
#   optimum; gradient matching (the default guess) makes that rarer, not impossible, and `fit`
#   tries several starts. A lower objective is not always the better fit: some optima use the
#   grid's own error. Judge a fit by a rollout (`verify`), never by its collocation states.
