"""Pictures of a solution; they need matplotlib (the extra `plot`)."""

from .plot import plot as plot
from .residuals import plot_residuals as plot_residuals
from .trace import plot_trace as plot_trace
