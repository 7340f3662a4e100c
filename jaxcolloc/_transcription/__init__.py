"""From model, data and grids to the functions and sparse derivatives of one nonlinear program."""

from .build import Parts as Parts
from .build import build as build
