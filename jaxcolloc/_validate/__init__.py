"""Fits judged on other data: simulation, forecasts, and several fits side by side."""

from .compare import Compared as Compared
from .compare import compare as compare
from .validate import validate as validate
from .validation import Validation as Validation
