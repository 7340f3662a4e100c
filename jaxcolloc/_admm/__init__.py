"""Consensus training: batches solved apart that agree on one model."""

from .executors import process_pool as process_pool
from .fit_admm import fit_admm as fit_admm
