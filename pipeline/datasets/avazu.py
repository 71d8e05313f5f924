"""Avazu click-through rate prediction (Kaggle's train.csv).

Its columns without `id`, which is unique, and with `hour_of_day` (00 to 23) besides `hour` (YYMMDDHH).
"""

from pipeline.datasets.line_format import Derived, LineFormat

FORMAT = LineFormat(
    delimiter=",",
    is_quoted=True,
    required=("id", "hour"),
    hidden=("id",),
    derived={"hour_of_day": Derived("hour", r"[0-9]{6}([01][0-9]|2[0-3])", "YYMMDDHH", 6, 8)},
    origin="Avazu's train.csv",
)
