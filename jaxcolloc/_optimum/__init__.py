"""Derivatives of the optimum by the implicit function theorem on the optimality conditions."""

from .held_out import Tried as Tried
from .held_out import held_out_gradient as held_out_gradient
from .optimum import Optimum as Optimum
from .optimum import Solved as Solved
from .optimum import optimum as optimum
