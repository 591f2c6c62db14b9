"""The README's Python runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


def test_the_ten_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {"series": np.random.default_rng(0).normal(size=(60, 4))}
    exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "report.html").stat().st_size < 6_000_000
    assert int(names["atlas"].sizes["unit"]) == 64  # pyright: ignore
    assert float(names["recording"].attrs["live_replay_error"]) < 1e-5  # pyright: ignore


def test_every_link_of_the_readme_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
