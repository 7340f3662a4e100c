"""IPOPT, the general-purpose solver."""

from .options import of_loaded as of_loaded
from .solver import Ipopt as Ipopt
