"""The README's Python runs as it stands."""

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from synatlas.tasks.battery import battery
from synatlas.tasks.prompts import Prompts

ROOT = Path(__file__).parent.parent


def test_the_ten_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    # Two prompts of each category: what the lines say does not depend on how many there are.
    whole = battery()
    few = Prompts(whole.ids[::5], whole.texts[::5], whole.categories[::5])
    # By its module: the package's function of the same name hides the room.
    monkeypatch.setattr(import_module("synatlas.record.asked"), "battery", lambda: few)
    names = {"series": np.random.default_rng(0).normal(size=(60, 4))}
    exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "report.html").stat().st_size < 6_000_000
    assert int(names["atlas"].sizes["unit"]) == 64  # pyright: ignore
    assert float(names["recording"].attrs["live_replay_error"]) < 1e-5  # pyright: ignore


def test_every_link_of_the_readme_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
