"""Reports: a study as one HTML file, its figures, and pictures of its networks."""

from zenopt.report.anatomy import Anatomy, dissect
from zenopt.report.build import ReportError, write_figure, write_report
from zenopt.report.picture import draw
from zenopt.report.reading import StudyData, read_study

__all__ = [
    "Anatomy",
    "ReportError",
    "StudyData",
    "dissect",
    "draw",
    "read_study",
    "write_figure",
    "write_report",
]
