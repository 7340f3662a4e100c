"""What the data say of a fit: covariances, intervals, bands, and what they leave free."""

from .bands import Band as Band
from .result import Uncertainty as Uncertainty
from .uncertainty import uncertainty as uncertainty
