"""The picture of the README: profiles of a model as trained and with fresh weights.

    synatlas map bundled:reference --out runs/demo
    synatlas map bundled:reference --random-init --out runs/fresh
    python recipes/profiles_picture.py runs/demo runs/fresh profiles.html

The page holds three figures side by side; a browser's screenshot of it is the picture.
"""

import argparse
from pathlib import Path

import synatlas as sa
from synatlas.report.figures import comparison

#: Score -> its title.
SCORES = {
    "rank_of_difference": "rank(synergy - redundancy), as published code has it",
    "difference_of_ranks": "rank(synergy) - rank(redundancy), as the text has it",
    "integration": "integration: pooled revised Phi over its same-step null",
}


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path)
    parser.add_argument("fresh", type=Path)
    parser.add_argument("page", type=Path)
    given = parser.parse_args()
    atlases = {
        "trained": sa.open(given.trained / "atlas.nc"),
        "fresh weights": sa.open(given.fresh / "atlas.nc"),
    }
    parts = []
    for number, (score, title) in enumerate(SCORES.items()):
        figure = comparison(atlases, score)
        figure.update_layout(title={"text": title, "font": {"size": 14}}, width=430, height=330)
        figure.update_layout(legend={"x": 0.98, "y": 0.02, "xanchor": "right", "yanchor": "bottom"})
        figure.update_layout(margin={"t": 50, "l": 60, "r": 10, "b": 50}, showlegend=number == 0)
        parts.append(
            figure.to_html(
                full_html=False,
                include_plotlyjs=number == 0,
                config={"displayModeBar": False},
            )
        )
    style = "<style>body{margin:0;background:white;display:flex}</style>"
    given.page.write_text(style + "".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
