r"""Every constant of the interior-point method, and where it departs from its model.

The algorithm is that of Waechter and Biegler, "On the implementation of an interior-point filter
line-search algorithm for large-scale nonlinear programming" (Mathematical Programming 106, 2006),
which IPOPT implements. Sections and equations in this folder are theirs. A constant bears the name
of IPOPT's option where there is one, in capitals; the paper's symbol stands in its comment.

Where ours departs from theirs, and why:

- **Linear systems** are solved along the structure of collocation (`kkt.py`). Whether the inertia
  is right is seen from the factors, without a count of eigenvalues. Equations of the model are
  never regularised ($\delta_c = 0$): given weights and initial states, as many equations are to be
  met as there are unknown states.
- **Inertia** (`inertia.py`). Multiples of a diagonal metric are added, not of the identity.
  Whether none is needed is not tried anew in every iteration. Where very much would be needed, the
  curvature of the equations is left out instead: multipliers that have grown on the way to
  feasibility would make it worse with every step.
- **Gauss-Newton Hessians** (`inertia.py`) get a multiple of the metric that makes up for the
  curvature which the last steps have shown to be missing.
- **Line search** (`line_search.py`). A trial that misses the constraints is corrected at any step
  length, not only at the full step: corrected trials follow the curved valleys of these problems
  further than straight steps can.
- **Restoration** (`restoration.py`). Theirs solves another optimization problem; ours takes Newton
  steps on the equations, the shortest ones in the metric of the bounds.
- **Acceptable points** (`termination.py`). IPOPT has a tolerance of its own for them; ours is the
  tolerance times a factor.
- **The barrier parameter** begins at a value divided by the number of nodes (`solver.py`): a
  barrier is a sum over nodes where a loss is a mean over samples.
- **The filter** holds a fixed number of pairs, so that its size is known when it is compiled.
- **Left out**: the watchdog (section 3.2), relaxed bounds (3.5), damping of bounds on one side
  (3.7).
"""

from .._run import FEASIBLE


# What a rounding error may decide: ten times the machine's precision (section 3.9).
ROUNDING = 10 * 2.2e-16


# --- The barrier problem (section 2.1) ---

# Eq. 7: a problem is solved well enough when its error is below this times mu (kappa_epsilon).
BARRIER_TOL_FACTOR = 10.0
# Eq. 7: mu falls to the smaller of this times mu (kappa_mu) and this power of mu (theta_mu).
MU_LINEAR_DECREASE_FACTOR = 0.2
MU_SUPERLINEAR_DECREASE_POWER = 1.5
# Eq. 7: mu does not fall below the tolerance over this.
MU_MIN_FRACTION = 10
# Eq. 8: a step keeps at least one minus this of the distance to a bound (tau_min).
TAU_MIN = 0.99
# Eq. 16: multipliers of bounds stay within this factor of mu over the distance (kappa_Sigma).
KAPPA_SIGMA = 1e10
# Eq. 6: errors are scaled down where multipliers are larger than this on average (s_max).
S_MAX = 100.0


# --- The first point (section 3.6) ---

# Share of its size, or of its box, that a variable is moved away from its bound (kappa_1, kappa_2).
BOUND_PUSH = 1e-2
WARM_START_BOUND_PUSH = 1e-9
# Multipliers of bounds from an earlier solve are at least this share of mu over the unit distance.
WARM_START_MULT_FRACTION = 1e-3
# Eq. 36: least-squares multipliers of a cold start are zero where they are larger (lambda_max).
CONSTR_MULT_INIT_MAX = 1e3


# --- The filter (sections 2.3 and 2.4) ---

# How many pairs it holds; then the oldest is forgotten.
FILTER_SIZE = 64
# Eq. 18: what a trial must gain, as a share of the violation (gamma_theta, gamma_phi).
GAMMA_THETA = 1e-5
GAMMA_PHI = 1e-5
# Eq. 19: when the objective decides (delta, s_theta, s_phi).
DELTA = 1.0
S_THETA = 1.1
S_PHI = 2.3
# Eq. 20: Armijo's condition (eta_phi).
ETA_PHI = 1e-4
# Eq. 21: the largest violation allowed, and the largest at which the objective may decide, both
# as factors of the first one, or of one (theta_max, theta_min).
THETA_MAX_FACT = 1e4
THETA_MIN_FACT = 1e-4
# Eq. 23: a search ends at this share of the shortest step that could succeed (gamma_alpha).
ALPHA_MIN_FRAC = 0.05


# --- The line search (section 2.4) ---

# Trials at the most; each halves the step or corrects it.
MAX_TRIALS = 60
# Corrections of one trial at the most (p_max).
MAX_SOC = 4
# A correction is followed by another if it has lowered the violation to this share (kappa_soc;
# theirs is 0.99, for corrections of the full step alone).
KAPPA_SOC = 0.5


# --- Inertia correction (section 3.1, algorithm IC) ---

# What is added first (delta_0), at the least and at the most; their most is 1e40.
FIRST_HESSIAN_PERTURBATION = 1e-4
MIN_HESSIAN_PERTURBATION = 1e-20
MAX_HESSIAN_PERTURBATION = 1e20
# How it grows while nothing has been added before (kappa_plus_bar), and later (kappa_plus; theirs
# is 8); how it falls from one iteration to the next (kappa_minus).
PERTURB_INC_FACT_FIRST = 100.0
PERTURB_INC_FACT = 4.0
PERTURB_DEC_FACT = 1 / 3
# Ours: only below this is it tried in the next iteration whether nothing is enough.
NEGLIGIBLE_PERTURBATION = 1e-3
# Ours: from this on the equations' curvature is left out instead, and a damping added that stays
# between the two.
MAX_DAMPING = 100.0
MIN_DAMPING = 0.1
# Ours: the damping grows where a step had to be cut to less than this, as Levenberg and Marquardt
# have it.
CUT_STEP = 0.3
# Ours: the first and the least damping of a Gauss-Newton Hessian, as shares of the objective, and
# from how many of the last steps it is estimated.
FIRST_GAUSS_NEWTON_DAMPING = 1.0
MIN_GAUSS_NEWTON_DAMPING = 1e-5
REMEMBERED_STEPS = 5


# --- Restoration (section 3.3) ---

# It ends when the violation has fallen to this share (kappa_resto).
REQUIRED_INFEASIBILITY_REDUCTION = 0.9
# Ours: a step must lower the violation by this share of its length (Armijo).
RESTORATION_ARMIJO = 1e-4
# Ours: the shortest step that is tried.
RESTORATION_MIN_STEP = 1e-8


# --- Linear systems (section 3.10) ---

# Rounds of iterative refinement at the most, and the relative residual below which none is needed.
MAX_REFINEMENT_STEPS = 2
RESIDUAL_RATIO_MAX = 1e-9
# Ours: regularises equations that are none of the model's, such as path constraints with equal
# bounds; refinement takes its effect back.
LOOSE_REGULARISATION = 1e-9
# Ours: curvature above minus this share of the largest counts as none, being rounding.
CURVATURE_ROUNDING = 1e-12
# Ours: products along a trajectory are scaled down beyond this, so that none overflows.
OVERFLOW_GUARD = 1e100
# Ours: up to this size many small matrices are inverted, which saves time at every solve.
LARGEST_INVERTED = 32


# --- Termination (sections 2.1 and 3.9, and IPOPT's options) ---

# A point is acceptable whose error is below this times the tolerance, for so many iterations.
ACCEPTABLE_TOL_FACTOR = 100.0
ACCEPTABLE_ITER = 15
# Steps that are smaller than `ROUNDING` relative to the variables end a solve after so many.
MAX_TINY_STEPS = 2
# Variables beyond this diverge.
DIVERGING_ITERATES_TOL = 1e20
# Ours: of points whose violation is below this the best is the one with the lowest objective.
BEST_POINT_TOL = FEASIBLE


# --- Scaling of the problem (section 3.8) ---

# Gradients of objective and constraints are scaled down to this.
NLP_SCALING_MAX_GRADIENT = 100.0
# Ours: losses are means over samples, but norms are sums over nodes, each of which weighs this over
# their number.
NODE_METRIC = 30.0
