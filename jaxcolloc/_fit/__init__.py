"""The whole way from data to a verified model."""

from .fit import fit as fit
