"""The profile likelihood of one parameter: everything else re-optimised along it."""

from .profile import profile as profile
from .result import SHAPE as SHAPE
from .result import Profile as Profile
