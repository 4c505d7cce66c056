"""Figures for papers and notebooks: highlighted words, curves, skill, critical differences, faithfulness against cost.

Each function returns a matplotlib figure of its own, which can be changed, saved (`figure.savefig("skill.pdf")`) and is
drawn by a notebook. Neither pyplot nor a backend is touched. The numbers are those of every table.
"""

from assay.figures.costs import pareto
from assay.figures.curve_lines import curves
from assay.figures.intervals import scores, skill
from assay.figures.ranks import critical_difference
from assay.figures.words import highlight

__all__ = ["critical_difference", "curves", "highlight", "pareto", "scores", "skill"]
