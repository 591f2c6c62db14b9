"""The default prompts: ten in each of six categories."""

from __future__ import annotations

from importlib.resources import as_file, files

from synatlas.tasks.prompts import Prompts, read_prompts


def battery() -> Prompts:
    """Sixty short prompts, ten in each of six categories.

    Returns
    -------
    Prompts
        In the categories grammar, tagging, arithmetic, common_sense, abstract, social.

    Examples
    --------
    >>> prompts = battery()
    >>> len(prompts), prompts.ids[0], prompts.categories[-1]
    (60, 'grammar-01', 'social')
    """
    with as_file(files("synatlas.tasks").joinpath("battery.csv")) as path:
        return read_prompts(path)
