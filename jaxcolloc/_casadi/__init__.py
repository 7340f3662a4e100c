"""A model as a CasADi function: its jaxpr, operation by operation."""

from .export import to_casadi as to_casadi
