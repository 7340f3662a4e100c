"""Where a solve begins: states from smoothed data, weights that match their slopes."""

from .gradient_matching import match_gradients as match_gradients
from .gradient_matching import xavier as xavier
from .guess import Guess as Guess
from .guess import guess as guess
