"""From a folder with a recurrent or hybrid model to the report."""

from pathlib import Path

import numpy as np
import pytest

import synatlas as sa
from synatlas.cli import main
from tiny_models import tiny_network, tiny_tokenizer


@pytest.mark.parametrize(
    ("name", "units", "kinds", "layers"),
    [
        ("mamba2", "recurrent", {"recurrent": 12}, [0, 1]),
        ("rwkv", "recurrent", {"recurrent": 4}, [0, 1]),
        # Its third layer is an MLP.
        ("nemotron_h_mamba", "all", {"recurrent": 6, "head": 4}, [0, 1]),
    ],
)
def test_a_folder_is_mapped(
    name: str, units: str, kinds: dict[str, int], layers: list[int], tmp_path: Path
) -> None:
    folder, prompts, out = (tmp_path / part for part in ("model", "prompts.csv", "run"))
    network = tiny_network(name)
    network.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    prompts.write_text("prompt\nOne two\nWhy is it so\n")
    options = {"out": out, "prompts": prompts, "units": units, "tokens": 16, "surrogates": 2}
    options["nulls"] = "window_shift"
    given = ["map", str(folder), *(f"--{key}={value}" for key, value in options.items())]
    assert main(given) == 0
    atlas = sa.open(out / "atlas.nc")
    found = atlas["kind"].values.tolist()
    assert {kind: found.count(kind) for kind in found} == kinds
    assert atlas.attrs["n_layers"] == network.config.num_hidden_layers
    # Layers without units have no place in a profile; the others keep their depth.
    assert atlas["layer"].values.tolist() == layers
    depth = np.array(layers) / (network.config.num_hidden_layers - 1)
    assert np.allclose(atlas["depth"].values, depth)
    assert sa.open(out / "recording.nc").attrs["live_replay_error"] < 1e-4
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "L00R01" in report
    assert ("L01H03" in report) == ("head" in kinds)
