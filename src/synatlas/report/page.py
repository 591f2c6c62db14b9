"""Stage 5: artifacts to one HTML file that needs no network."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import jinja2
import xarray as xr
from markupsafe import Markup

from synatlas.artifact import require, schema_of
from synatlas.axes import GLOSSARY
from synatlas.errors import ArtifactError, RunFolderError
from synatlas.intervene.statistics import ablation_tests
from synatlas.rank.controls import CORE
from synatlas.report import bundle, plots, tables
from synatlas.report.ablation import AblationSection, ablation_section
from synatlas.report.inert import visible
from synatlas.report.strips import LEVELS, level_style, token_strips
from synatlas.report.verdict import core_missing, read_verdict

#: What a report can show, in the order of the data's journey.
KNOWN: Final = ("recording", "atoms", "atlas", "divergence", "ablation_tests")

#: What is missing from the page without an artifact.
_WITHOUT: Final = {
    "recording": "No recording was given: prompts and generated text are left out.",
    "atoms": "No atoms were given: the matrices of pairs and repetition flags are left out.",
}

_WITHOUT_STRIPS: Final = (
    "Synergy at each token is left out: the recording does not say where tokens end, no pair is"
    " defined, or so many units would take too long."
)

#: Text and address of each work that the page rests on.
REFERENCES: Final = (
    (
        "Mediano, Rosas, Luppi et al.: Towards an extended taxonomy of information dynamics via"
        " integrated information decomposition",
        "https://arxiv.org/abs/2109.13186",
    ),
    (
        "Varley: Considering dynamical synergy and integrated information; the unusual case of"
        " minimum mutual information",
        "https://arxiv.org/abs/2407.16601",
    ),
    (
        "A Brain-like Synergistic Core in LLMs Drives Behaviour and Learning",
        "https://arxiv.org/abs/2601.06851",
    ),
    (
        "Zhang, Shen, Xiong, Dong: Spontaneous Functional Differentiation in Large Language Models:"
        " A Brain-Like Intelligence Economy",
        "https://arxiv.org/abs/2603.29735",
    ),
    (
        "Luppi et al. (2022): A synergistic core for human brain evolution and cognition",
        "https://doi.org/10.1038/s41593-022-01070-0",
    ),
    (
        "Luppi et al. (2024): A synergistic workspace for human consciousness revealed by"
        " integrated information decomposition",
        "https://doi.org/10.7554/eLife.88173",
    ),
    (
        "Rubinov, Sporns (2010): Complex network measures of brain connectivity: uses and"
        " interpretations",
        "https://doi.org/10.1016/j.neuroimage.2009.10.003",
    ),
    (
        "Phipson, Smyth (2010): Permutation p-values should never be zero",
        "https://doi.org/10.2202/1544-6115.1585",
    ),
    (
        "Simonsohn (2018): Two lines: a valid alternative to the invalid testing of U-shaped"
        " relationships with quadratic regressions",
        "https://doi.org/10.1177/2515245918805755",
    ),
)


def report(
    artifacts: Iterable[xr.Dataset],
    path: str | os.PathLike[str],
    *,
    settings: Mapping[str, object] | None = None,
) -> Path:
    """Write one HTML file with the verdict, every figure and the text behind them.

    The file loads nothing from anywhere: it holds its style, its figures and plotly.js. Prompts,
    replies, names and labels are shown as text whatever they contain. The same artifacts give the
    same bytes.

    Parameters
    ----------
    artifacts : an atlas, and optionally its recording and atoms, and a divergence with or without
        its tests, which are made where they are not given; in any order.
    path : file to write; its folder must exist. A reader finds the old file or the new one.
    settings : what the run was asked for, shown as it is; ``"environment"`` holds versions.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    ArtifactError
        No atlas, an artifact twice or of an unknown kind, or artifacts of different models.
    RunFolderError
        The folder does not exist or cannot be written.
    """
    return write_html(path, render(_sorted(artifacts), settings or {}))


def write_html(path: str | os.PathLike[str], page: str) -> Path:
    """Write a page under a temporary name, then rename it."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    if not target.parent.is_dir():
        raise _unwritable(target, "the folder does not exist")
    try:
        temporary.write_text(page, encoding="utf-8", newline="\n")
        os.replace(temporary, target)
    except OSError as error:
        raise _unwritable(target, str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _unwritable(target: Path, cause: str) -> RunFolderError:
    return RunFolderError(
        given=f"the path {target}",
        expected="a file name in a folder that exists and can be written",
        cause=cause,
        remedy="create the folder, or choose another path",
    )


def _sorted(artifacts: Iterable[xr.Dataset]) -> dict[str, xr.Dataset]:
    """The artifacts by kind, in the order of the journey, checked."""
    if isinstance(artifacts, xr.Dataset):
        artifacts = [artifacts]
    found: dict[str, xr.Dataset] = {}
    for dataset in artifacts:
        kind = require(dataset, schema_of(dataset, "a dataset")).attrs["schema"]
        if kind in found:
            raise _wrong(f"two artifacts of kind {kind!r}", "each kind at most once")
        if kind not in KNOWN:
            raise _wrong(f"an artifact of kind {kind!r}", f"kinds {', '.join(KNOWN)}")
        found[kind] = dataset
    if "atlas" not in found:
        raise _wrong(f"artifacts {', '.join(found) or 'none'}", "an atlas among them")
    for name in ("model", "model_revision"):
        values = {kind: str(dataset.attrs[name]) for kind, dataset in found.items()}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{kind} of {value}" for kind, value in values.items())
            raise _wrong(told, f"artifacts of the same {name}")
    return {kind: found[kind] for kind in KNOWN if kind in found}


def _wrong(given: str, expected: str) -> ArtifactError:
    return ArtifactError(
        given=given, expected=expected, remedy="pass the artifacts of one run, each once"
    )


def render(artifacts: Mapping[str, xr.Dataset], settings: Mapping[str, object]) -> str:
    """The page as text, from artifacts by kind."""
    atlas, atoms = artifacts["atlas"], artifacts.get("atoms")
    recording = artifacts.get("recording")
    given = list(artifacts.values())
    strips = None
    missing = [text for kind, text in _WITHOUT.items() if kind not in artifacts]
    if recording is not None and atoms is not None:
        strips = token_strips(recording, atoms, atlas)
        missing += [] if strips else [_WITHOUT_STRIPS]
    content: dict[str, Any] = {
        "title": _title(atlas),
        "summary": _summary(artifacts),
        "missing": missing,
        "verdict": read_verdict(atlas),
        "profiles": plots.leading_profiles(atlas),
        "other_profiles": plots.other_profiles(atlas),
        "layer_table": tables.layer_table(atlas),
        "unit_maps": plots.unit_maps(atlas),
        "matrices": [] if atoms is None else plots.pair_matrices(atoms),
        "scatters": plots.scatters(atlas),
        "null_plot": plots.null_plot(atlas),
        "null_table": tables.null_table(atlas),
        "topology_table": tables.topology_table(atlas),
        "topology_counts": tables.topology_counts(atlas),
        "shape_table": tables.shape_table(atlas),
        "categories": plots.category_plots(atlas),
        "core_table": tables.core_table(atlas),
        "core_count": int((atlas["core"].values == CORE).sum()),
        "core_missing": core_missing(atlas),
        "ablation": _ablation(artifacts),
        "strips": strips,
        "levels": range(2 * LEVELS + 1),
        "prompts": () if recording is None else tables.prompt_rows(recording, atoms),
        "prompt_count": 0 if recording is None else recording.sizes["prompt"],
        "facts": [
            tables.settings_table(given, settings),
            tables.version_table(settings),
            tables.fingerprint_table(given),
        ],
        "glossary": GLOSSARY,
        "references": REFERENCES,
    }
    return render_template("page.html.j2", **content)


def _ablation(artifacts: Mapping[str, xr.Dataset]) -> AblationSection | None:
    if "divergence" not in artifacts:
        return None
    divergence = artifacts["divergence"]
    tests = artifacts.get("ablation_tests")
    made = ablation_tests(divergence) if tests is None else tests
    return ablation_section(divergence, made, artifacts["atlas"])


def render_template(name: str, **content: object) -> str:
    """A page of one of the templates, with its style, its script and plotly.js in it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(bundle.ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(
        content,
        policy=bundle.content_policy(),
        style=Markup(f"{bundle.page_style()}\n{level_style()}"),
        script=Markup(bundle.page_script()),
        plotly=bundle.plotly_base64(),
    )


def _title(atlas: xr.Dataset) -> str:
    return visible(atlas.attrs["model"])


def _summary(artifacts: Mapping[str, xr.Dataset]) -> str:
    atlas = artifacts["atlas"]
    parts = [f"{atlas.sizes['unit']:,} units in {atlas.attrs['n_layers']} layers"]
    if "recording" in artifacts:
        sizes = artifacts["recording"].sizes
        parts.append(f"{sizes['prompt']:,} prompts × {sizes['step']:,} steps")
    parts.append(f"revision {visible(atlas.attrs['model_revision']) or 'not known'}")
    return " · ".join(parts)
