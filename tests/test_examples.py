"""The examples run as they stand, in a small size, and show what their text says they show."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import synatlas as sa

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_brain_regions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Synergy of uncoupled regions is that of the null, and the chain stands out of it."""
    page = tmp_path / "regions.html"
    example = load("brain_regions")
    tables = example.main(
        subjects=3, regions=8, samples=300, coupled=4, lags=(1, 2), surrogates=99, page=page
    )
    printed = capsys.readouterr().out
    assert printed.count("\n") > sum(len(table) for table in tables.values())
    options, nulls = (tables[k].set_index(k.rstrip("s")) for k in ("options", "nulls"))
    assert options.loc["defaults, lag 1", "agreement"] == pytest.approx(1.0)
    assert options.loc["defaults, lag 2", "tdmi"] < options.loc["defaults, lag 1", "tdmi"]
    bias = options.loc["defaults, lag 1", "tdmi"] - options.loc["bias corrected", "tdmi"]
    assert bias == pytest.approx(2 / 300, rel=0.05)
    # Three prompts are too few for partners from other prompts.
    assert nulls.loc["independence", "used"] == "window_shift"
    shift = nulls.loc["window_shift"]
    assert shift["sts of the null"] == pytest.approx(shift["sts"], rel=0.1)
    assert shift["sts"] > 0.05
    assert shift["found in the chain"] == 1.0
    assert shift["found elsewhere"] < 0.25
    assert "transfer entropy" in page.read_text(encoding="utf-8")


def test_regions_come_back_under_their_names() -> None:
    """(subject, region, sample) is transposed, not reshaped; means over partners by hand."""
    example = load("brain_regions")
    values = example.recordings(2, 4, 60, 3)
    result = sa.phiid(example.labelled(values))
    by_hand = np.mean(
        [sa.phiid(one.T)["tdmi"].values for one in values],
        axis=0,
    )
    assert np.allclose(result["tdmi"], by_hand, atol=1e-12)
    means = example.per_region(result["tdmi"])
    assert np.isclose(means["R002"], by_hand[[1, 3, 5]].mean())
