"""IPOPT, the general-purpose solver."""

from .solver import Ipopt as Ipopt
