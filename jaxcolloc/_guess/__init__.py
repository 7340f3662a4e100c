"""Where a solve begins: states from smoothed data, weights that match their slopes."""

from .draws import drawn_constants as drawn_constants
from .draws import positive_entries as positive_entries
from .draws import resting_start as resting_start
from .draws import rolled_start as rolled_start
from .draws import scaled_entries as scaled_entries
from .gradient_matching import MATCHING_STEPS as MATCHING_STEPS
from .gradient_matching import match_gradients as match_gradients
from .gradient_matching import xavier as xavier
from .guess import Guess as Guess
from .guess import guess as guess
from .guess import matched_start as matched_start
from .guess import start_head as start_head
