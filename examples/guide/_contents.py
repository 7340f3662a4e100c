"""What the documents consist of, and in which order."""

# Pages of the guide by part.
GUIDE = {
    "Begin": ["start", "features", "steps", "verdicts"],
    "How to": [
        "experiments",
        "hidden_states",
        "inputs",
        "hybrid",
        "jumps",
        "algebraic",
        "steady_states",
        "noise",
        "uncertainty",
        "choice",
        "judging",
        "tables",
        "by_collocation",
        "large",
        "cluster",
        "control",
    ],
    "Coming from": ["from_sequential", "from_casadi"],
    "How it works": ["method", "solver"],
}

# Other pages and their titles.
BACKGROUND = {
    "examples": "Examples",
    "bench": "Benchmarks",
    "tasks": "Reference by task",
    "contributing": "Contributing",
}

# Public names by what they are for.
TASKS: dict[str, list[str]] = {
    "Fit in one call": ["fit", "Solution", "SolveError", "RESULTS", "datasets"],
    "State the data": [
        "Trajectory", "from_frame", "Input", "Unknown", "Jump", "doses", "SteadyState", "windows",
        "smooth", "resample",
    ],
    "State the problem": [
        "transcribe", "NLP", "Settings", "leafwise", "OnNets", "squared_error", "PseudoHuber",
        "Gaussian", "StudentT", "Prior", "Constraint", "StateBounds", "nonnegative", "Tie",
        "Conserving", "Normalized", "normalized", "DAE",
    ],
    "Choose a grid": [
        "Grid", "Chebyshev", "GaussLegendre", "Lobatto", "Radau", "AbstractScheme", "refine",
    ],
    "Begin a solve": ["guess", "Guess", "match_gradients", "xavier"],
    "Solve": [
        "solve", "solve_batch", "solve_growing", "InteriorPoint", "Ipopt", "AbstractSolver",
        "Outcome", "Multipliers", "Trace", "Step", "load",
    ],
    "Judge a fit": [
        "verify", "Verification", "VERDICT", "validate", "Validation", "compare", "Compared",
        "Path", "plot", "plot_residuals", "plot_trace", "report",
    ],
    "Go on with a model": ["simulate", "steady_state", "to_casadi"],
    "Ask what the data say": [
        "uncertainty", "Uncertainty", "Band", "profile", "Profile", "SHAPE", "bootstrap",
        "Bootstrap",
    ],
    "Differentiate the optimum": ["optimum", "Optimum", "Solved", "sensitivity"],
    "Train sequentially": ["fine_tune", "TrainingStep"],
    "Train in batches": ["fit_admm", "process_pool", "Round"],
}  # fmt: skip
