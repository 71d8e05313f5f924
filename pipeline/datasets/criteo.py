"""Criteo display advertising (Kaggle's train.txt): tab-separated, no header, empty cells are missing.

Columns: label, I1 to I13 (counts) and C1 to C26 (hashed categories).
"""

from pipeline.datasets.line_format import LineFormat

COLUMNS = ("label", *(f"I{i}" for i in range(1, 14)), *(f"C{i}" for i in range(1, 27)))
FORMAT = LineFormat(delimiter="\t", is_quoted=False, columns=COLUMNS)
