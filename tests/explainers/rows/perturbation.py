"""Explainers that hide parts of the input under the laws, one row each."""

from tests.explainers.row import Row

ROWS = (Row("leave_one_out"),)
