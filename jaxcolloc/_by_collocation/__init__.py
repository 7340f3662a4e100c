"""Models solved on a grid by collocation, from initial or from boundary values, without data."""

from .pieces import run_through as run_through
from .simulate import simulate_by as simulate_by
