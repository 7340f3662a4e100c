"""From model, data and grids to the functions and sparse derivatives of one nonlinear program."""
