"""The study of a training: which cells, in which order, and what cannot be asked."""

from pathlib import Path

import pytest

from synatlas.cli import main
from synatlas.errors import ConfigError
from synatlas.models.revisions import Revision, Training
from synatlas.study.emerge import COMMON, OWN, emergence


def test_the_last_step_comes_first_and_every_other_reads_it() -> None:
    laid = emergence("bundled:dense", points=4, seeds=2, settings={"tokens": 20, "threads": 1})
    cells = laid.study.cells
    first = cells[0]
    assert [r.step for r in laid.chosen] == [0, 8, 128, 1850]
    assert (first.name, first.config.revision, first.measured) == ("step1850", "step1850", True)
    assert len(cells) == 1 + 2 * 3 + 2 * 2 * 2
    assert {c.config.tokens for c in cells} == {20}
    assert {c.config.threads for c in cells} == {1}
    fed = [c for c in cells if c.reads]
    assert {c.reads for c in fed} == {first.name}
    assert {c.labels["replies"] for c in fed} == {COMMON}
    assert {c.labels["replies"] for c in cells if not c.reads} == {OWN}
    # Only steps on replies of their own have a loss: the network of the other cell is the same.
    assert [c.labels["kind"] for c in cells if c.measured] == ["step"] * 4
    for kind in ("random_init", "shuffled"):
        made = [c for c in cells if c.labels["kind"] == kind]
        assert [(c.config.init_seed, bool(c.reads)) for c in made] == [
            (0, False),
            (0, True),
            (1, False),
            (1, True),
        ]
        assert all(getattr(c.config, kind) for c in made)
        assert {c.config.revision for c in made} == {"step1850"}
    assert set(laid.needs) == {c.name for c in cells}
    assert not set().union(*laid.needs.values())


def test_both_cells_of_a_revision_are_neighbours_and_the_last_one_stays() -> None:
    laid = emergence("bundled:dense", points=3)
    line = tuple(Revision(name=r.name, step=r.step, commit=f"c{r.step}") for r in laid.chosen)
    training = Training(model="org/a", kind="hub", revisions=line, left_out=())
    hub = type(laid)(training=training, chosen=line, study=laid.study)
    order = [sorted(hub.needs[c.name]) for c in hub.study.cells if c.labels["kind"] == "step"]
    last = f"c{line[-1].step}"
    first, second = sorted(["c0", last]), sorted([f"c{line[1].step}", last])
    assert order == [[last], first, first, second, second]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seeds", "1"], "--seeds 1"),
        (["--points", "1"], "--points 1"),
        (["--tokens", "4"], "--tokens 4"),
        (["--jobs", "0"], "jobs 0"),
        (["--revisions", "step"], "named group step"),
    ],
)
def test_what_cannot_be_is_told(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["emerge", "--out", str(tmp_path / "study"), *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_model_without_revisions(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two revisions"):
        emergence(str(tmp_path))
