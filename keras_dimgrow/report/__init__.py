"""One self-contained HTML page about a search (extra: report)."""

from keras_dimgrow.report.page import write_report

__all__ = ["write_report"]
