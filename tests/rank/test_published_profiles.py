"""The recipe for the published profiles, on made-up files: it must find the right definition."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "published_profiles.py"


def write_files(folder: Path) -> None:
    """Published curves that are the layer means of rank(sts - rtr), told by a loop."""
    rng = np.random.default_rng(0)
    for name, layers in (("pythia1b", 16), ("gemma3_4b_it", 34)):
        heads = pd.DataFrame(
            {
                "layer": np.repeat(np.arange(layers), 8),
                "head": np.tile(np.arange(8), layers),
                "synergy_nat": rng.uniform(0.01, 0.1, layers * 8),
                "redundancy_nat": rng.uniform(0.01, 0.2, layers * 8),
            }
        )
        difference = heads["synergy_nat"] - heads["redundancy_nat"]
        profile = difference.rank().groupby(heads["layer"]).mean()
        if name == "pythia1b":
            curve = (profile - profile.min()) / (profile.max() - profile.min())
            pd.DataFrame({"layer": profile.index, "minmax_score": curve}).to_csv(
                folder / "fig3a_pythia1b_final.csv", index=False
            )
        else:
            pd.DataFrame(
                {"model": "Gemma-3-4B-it", "layer": profile.index, "rank": profile.rank() - 1}
            ).to_csv(folder / "fig2c_layer_ranks.csv", index=False)
        shuffled = heads.sample(frac=1, random_state=1)
        shuffled.to_csv(folder / f"replication1_{name}_heads.csv", index=False)


def test_the_definition_that_made_the_curves_agrees_fully(tmp_path: Path) -> None:
    write_files(tmp_path)
    table = runpy.run_path(str(RECIPE))["agreement"](tmp_path)
    assert table.loc["rank(sts - rtr)"].to_numpy() == pytest.approx(1.0)
    others = table.drop("rank(sts - rtr)").to_numpy()
    assert (others < 0.999).all()
    assert table.loc["rank(sts)"].max() < 0.9
    assert table.loc["rank(rtr)"].max() < 0


def test_it_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(tmp_path)
    runpy.run_path(str(RECIPE))["main"](tmp_path)
    printed = capsys.readouterr().out
    assert "rank(sts - rtr)" in printed
    assert "+1.000" in printed
