"""Derivatives of the optimum by the implicit function theorem on the optimality conditions."""

from .optimum import Optimum as Optimum
from .optimum import Solved as Solved
from .optimum import optimum as optimum
