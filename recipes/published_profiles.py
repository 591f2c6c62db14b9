"""Which rank definition gives the published layer curves? arXiv 2601.06851, figures 2c and 3a.

    python recipes/published_profiles.py DIR

DIR holds, as comma-separated files from you (none comes with the package):

- ``replication1_pythia1b_heads.csv`` and ``replication1_gemma3_4b_it_heads.csv``: ``layer``,
  ``head``, ``synergy_nat``, ``redundancy_nat``, mean sts and rtr of every attention head;
- ``fig3a_pythia1b_final.csv``: ``layer``, ``minmax_score``, the last curve of figure 3a;
- ``fig2c_layer_ranks.csv``: ``model``, ``layer``, ``rank``, the curves of figure 2c.

Figure 3a is a min-max of layer means, so its agreement is Pearson's; figure 2c shows ranks of
layers, so its agreement is Spearman's.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import cyclopts
import numpy as np
import pandas as pd
from scipy import stats

from synatlas.rank.score import rank_units

Heads = pd.DataFrame
Profile = np.ndarray


def _of_both(heads: Heads, score: str) -> Profile:
    ranked = rank_units(heads["synergy_nat"], heads["redundancy_nat"], heads["layer"])
    return ranked["profile"].sel(score=score).to_numpy()


def _of_one(heads: Heads, values: pd.Series) -> Profile:
    ranked = rank_units(values, np.zeros(len(heads)), heads["layer"])
    return ranked["profile"].sel(score="rank_of_difference").to_numpy()


#: Row of the table -> layer profile of per-head values.
PROFILES: Final[Mapping[str, Callable[[Heads], Profile]]] = MappingProxyType(
    {
        "rank(sts - rtr)": lambda h: _of_both(h, "rank_of_difference"),
        "rank(sts) - rank(rtr)": lambda h: _of_both(h, "difference_of_ranks"),
        "rank(sts)": lambda h: _of_one(h, h["synergy_nat"]),
        "rank(rtr)": lambda h: _of_one(h, h["redundancy_nat"]),
        "rank(sts / (sts + rtr))": lambda h: _of_one(
            h, h["synergy_nat"] / (h["synergy_nat"] + h["redundancy_nat"])
        ),
        "mean sts": lambda h: _of_both(h, "synergy"),
        "mean rtr": lambda h: _of_both(h, "redundancy"),
    }
)


def agreement(folder: Path) -> pd.DataFrame:
    """Correlation of every definition's layer profile with the published curves.

    Parameters
    ----------
    folder : holds the files named at the top of this script.

    Returns
    -------
    pandas.DataFrame
        One row per definition: Pearson with figure 3a (Pythia-1B, last checkpoint), Spearman
        with figure 2c (Gemma-3-4B-it).
    """
    pythia = _heads(folder / "replication1_pythia1b_heads.csv")
    gemma = _heads(folder / "replication1_gemma3_4b_it_heads.csv")
    emergence = pd.read_csv(folder / "fig3a_pythia1b_final.csv").sort_values("layer")
    curves = pd.read_csv(folder / "fig2c_layer_ranks.csv").sort_values("layer")
    gemma_curve = curves.loc[curves["model"] == "Gemma-3-4B-it", "rank"]
    rows = {
        name: {
            "Pythia-1B, figure 3a, Pearson": stats.pearsonr(
                profile(pythia), emergence["minmax_score"]
            ).statistic,
            "Gemma-3-4B-it, figure 2c, Spearman": stats.spearmanr(
                profile(gemma), gemma_curve
            ).statistic,
        }
        for name, profile in PROFILES.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _heads(path: Path) -> Heads:
    return pd.read_csv(path).sort_values(["layer", "head"], ignore_index=True)


def main(folder: Path) -> None:
    """Print the table for the files in FOLDER."""
    print(agreement(folder).to_string(float_format="{:+.3f}".format))


if __name__ == "__main__":
    cyclopts.run(main)
