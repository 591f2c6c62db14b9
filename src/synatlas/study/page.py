"""The page of a study: findings, figures and tables in the look of a run's report."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

from synatlas.axes import GLOSSARY
from synatlas.report.page import render_template, write_html
from synatlas.report.plots import Plot, figure_plot
from synatlas.report.tables import Table
from synatlas.report.verdict import Finding

__all__ = ["Finding", "Page", "Plot", "Section", "Table", "figure_plot", "write_page"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page.

    Parameters
    ----------
    name : its anchor: letters, digits and hyphens.
    title : as the contents name it.
    text : paragraphs; how to read what follows comes first.
    plots : figures, in order.
    choose : label of the list from which one of the figures is chosen; all are shown where empty.
    tables : below the figures, folded where there are any.
    """

    name: str
    title: str
    text: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    choose: str = ""
    tables: tuple[Table, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a study found, as its page shows it. All texts are escaped there.

    Parameters
    ----------
    title, summary : what was studied, and on how much.
    headline : the verdict in a sentence or two, computed from the numbers.
    findings : claims, whether they hold, with numbers.
    warnings : what makes the findings doubtful.
    sections : in order.
    references : text and address of each work.
    """

    title: str
    summary: str
    headline: str
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    sections: tuple[Section, ...]
    references: tuple[tuple[str, str], ...] = ()


def write_page(path: str | os.PathLike[str], page: Page) -> Path:
    """Write the page of a study: one HTML file that loads nothing from anywhere.

    Raises
    ------
    RunFolderError
        The folder does not exist or cannot be written.
    """
    return write_html(path, render_template("study.html.j2", page=page, glossary=GLOSSARY))
