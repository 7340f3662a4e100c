"""A fit as one HTML file."""

from .report import report as report
