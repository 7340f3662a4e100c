"""The interior-point method that uses the structure of collocation."""

from .solver import InteriorPoint as InteriorPoint
