"""Settings of one run, and the checks that need no model."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_type_hints

from synatlas.errors import ConfigError

#: Settings that change how a run is carried out, never what it finds.
NOT_IDENTITY: Final = ("out", "force", "device", "batch_size", "threads", "allow_pickle")

#: Settings of several names: lists in JSON.
_LISTS: Final = ("nulls", "nuisance")

#: Fewer steps than this leave nothing to estimate.
LEAST_TOKENS: Final = 8

#: Lagged samples that the smallest decomposition needs: four windows and a degree of freedom.
LEAST_SAMPLES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class MapConfig:
    """Settings of one run. Every field is plain JSON; the defaults are those of the method.

    Parameters
    ----------
    model
        ``bundled:NAME``, a local folder, or a Hub id.
    out
        Run folder; empty chooses runs/ and a name made from the model's.
    prompts
        A .csv, .jsonl or .parquet file with a column `prompt` and optional `id` and `category`;
        empty takes the built-in battery of 60.
    prompt_style
        auto (chat where the tokenizer has a template, else question), chat, question or raw.
    replies_of
        A run folder: its prompts and replies are fed, and nothing is generated. The model must
        have the same tokenizer.
    texts
        A file as for --prompts, of texts to be read: the first --tokens tokens of each are fed as
        they stand, and nothing is asked or generated.
    system
        System prompt before every prompt, with style chat or question.
    tokens
        Generated tokens per prompt, at least 8.
    units
        What is a node: heads (of attention), recurrent (heads or channel groups of mixers without
        attention), mixers (both), experts (of mixtures of experts, shared ones included), all
        (these together), or sublayers (what attention, MLPs and whole layers give).
    site
        Where a unit is read: z, its output before anything else; proj_in, after a gate or a
        normalisation; resid, after the output projection.
    reduce
        How a unit's output vector becomes a number: norm, mean, pc1 (the first principal component
        of the unit's own vectors) or projection (on a given direction).
    direction
        For projection, a .npy or .safetensors file: (units, width), or (width,) for all alike.
    policy
        Activity of routed experts: contribution (norm of output times weight, 0 where not routed),
        unweighted (0 where not routed), or dense (every expert at every token; slow).
    capture
        When units are read: replay (in one pass over prompt and reply) or live (while the reply is
        generated; cheaper, and right where the two differ).
    redundancy
        Double-redundancy function: mmi or ccs.
    estimator
        Estimator of the mutual informations: gaussian, copula (normal scores of ranks) or binary
        (above or below the mean).
    lag
        Steps from past to future.
    nulls
        Nulls to run; repeat the option for several.
    surrogates
        Surrogates per null, and the most graphs of chance; chosen by the number of units where not
        given.
    nuisance
        What is taken out of the series first: trend, position, surprisal, frequency, token or
        differences; repeat the option for several.
    seed
        Seed of nulls and bootstraps.
    revision
        Branch, tag or commit of a Hub model; of a bundled model a snapshot, such as step64.
    random_init
        Map a fresh network of the same architecture instead.
    shuffled
        Map the model with the entries of every weight tensor permuted.
    init_seed
        Seed of fresh or shuffled weights; a bundled model's own of fresh ones, else 0, where not
        given.
    dtype
        Type of the weights, such as float32 or bfloat16.
    trust_remote_code
        Let a Hub model run code of its own.
    allow_pickle
        Read weights from pickled files where there are no safetensors.
    stop_at_eos
        Let replies end early; otherwise end of sequence is suppressed, so lengths are equal.
    device
        Where the model runs, such as cpu or cuda:0; auto spreads it over all devices.
    batch_size
        Prompts at a time; chosen by memory where not given.
    threads
        Threads of the decomposition.
    force
        Replace another run that is in the folder.
    """

    model: str = field(default="bundled:reference", kw_only=False)
    out: str = ""
    prompts: str = ""
    replies_of: str = ""
    texts: str = ""
    prompt_style: str = "auto"
    system: str = ""
    tokens: int = 100
    units: str = "heads"
    site: str = "z"
    reduce: str = "norm"
    direction: str = ""
    policy: str = "contribution"
    capture: str = "replay"
    redundancy: str = "mmi"
    estimator: str = "gaussian"
    lag: int = 1
    nulls: tuple[str, ...] = ("cross_prompt", "window_shift", "same_step")
    surrogates: int | None = None
    nuisance: tuple[str, ...] = ()
    seed: int = 0
    revision: str | None = None
    random_init: bool = False
    shuffled: bool = False
    init_seed: int | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    stop_at_eos: bool = False
    device: str | None = None
    batch_size: int | None = None
    threads: int | None = None
    force: bool = False

    def folder(self) -> Path:
        """The run folder, named after the model where none is given."""
        if self.out:
            return Path(self.out)
        name = Path(self.model).name if Path(self.model).is_dir() else self.model
        weights = "random-init" if self.random_init else "shuffled" if self.shuffled else ""
        parts = [name, self.revision or "", weights]
        slugs = (re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-.") for part in parts)
        return Path("runs") / ("_".join(slug for slug in slugs if slug) or "model")

    def identity(self) -> dict[str, Any]:
        """The settings that determine the values of a run."""
        settings = asdict(self)
        for name in _LISTS:
            settings[name] = list(settings[name])
        return {name: value for name, value in settings.items() if name not in NOT_IDENTITY}

    @classmethod
    def names(cls) -> frozenset[str]:
        """Names of all settings."""
        return frozenset(f.name for f in fields(cls))

    @classmethod
    def may_be_absent(cls, name: str) -> bool:
        """Whether None is a value of a setting."""
        return type(None) in get_args(get_type_hints(cls)[name])

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], **changes: Any) -> "MapConfig":
        """The configuration that :meth:`identity` described, with `changes`."""
        known = get_type_hints(cls)
        unknown = sorted({*settings, *changes} - set(known))
        if unknown:
            raise ConfigError(
                given=f"settings {', '.join(unknown)}",
                expected=f"settings among {', '.join(sorted(known))}",
                remedy="remove the unknown settings",
            )
        values = {**settings, **changes}
        for name, value in values.items():
            _check_kind(name, value, known[name])
        values |= {name: tuple(values[name]) for name in _LISTS if name in values}
        return cls(**values)

    def check(self) -> None:
        """Raise :class:`ConfigError` for a value that no model could make right."""
        from synatlas.decompose.estimators import ESTIMATORS
        from synatlas.decompose.nuisance import NUISANCES
        from synatlas.decompose.nulls import NULLS
        from synatlas.decompose.redundancy import REDUNDANCIES
        from synatlas.models.units import POLICIES, SITES, UNITS
        from synatlas.record.reductions import check_capture, check_reduction
        from synatlas.record.styles import STYLES

        _one_of("--prompt-style", self.prompt_style, STYLES)
        _one_of("--units", self.units, UNITS)
        _one_of("--site", self.site, SITES)
        _one_of("--policy", self.policy, POLICIES)
        _one_of("--redundancy", self.redundancy, REDUNDANCIES)
        _one_of("--estimator", self.estimator, ESTIMATORS)
        for null in self.nulls:
            _one_of("--nulls", null, NULLS)
        for name in self.nuisance:
            _one_of("--nuisance", name, NUISANCES)
        check_reduction(self.reduce, has_direction=bool(self.direction))
        check_capture(self.capture, reduce=self.reduce)
        self._check_replies()
        if self.random_init and self.shuffled:
            raise ConfigError(
                given="--random-init with --shuffled",
                expected="one or the other",
                cause="fresh weights have no order to lose",
                remedy="leave one of the two out",
            )
        _at_least("--tokens", self.tokens, LEAST_TOKENS)
        _at_least("--lag", self.lag, 1)
        _at_least("--seed", self.seed, 0)
        if self.tokens - self.lag < LEAST_SAMPLES:
            raise ConfigError(
                given=f"--lag {self.lag} with --tokens {self.tokens}",
                expected=f"a lag of at most {self.tokens - LEAST_SAMPLES}",
                cause=f"{self.tokens} steps leave {max(self.tokens - self.lag, 0)} lagged samples, "
                f"and the decomposition needs {LEAST_SAMPLES}",
                remedy="lower --lag or raise --tokens",
            )
        for option, value in (
            ("--surrogates", self.surrogates),
            ("--batch-size", self.batch_size),
            ("--threads", self.threads),
        ):
            if value is not None:
                _at_least(option, value, 1)

    def _check_replies(self) -> None:
        """Where the tokens are given, nothing is asked and nothing generated."""
        asked = {
            "--prompts": bool(self.prompts),
            "--system": bool(self.system),
            "--prompt-style": self.prompt_style != "auto",
            "--stop-at-eos": self.stop_at_eos,
            "--capture live": self.capture == "live",
        }
        idle = [option for option, given in asked.items() if given]
        fed = {"--replies-of": self.replies_of, "--texts": self.texts}
        chosen = [f"{option} {path}" for option, path in fed.items() if path]
        if len(chosen) > 1 or (chosen and idle):
            raise ConfigError(
                given=f"{chosen[0]} with {', '.join([*chosen[1:], *idle])}",
                expected="one or the other",
                cause="the tokens are given, and nothing is asked or generated",
                remedy=f"leave out {chosen[0]}, or {' and '.join([*chosen[1:], *idle])}",
            )


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a recipe.

    Raises
    ------
    ConfigError
        The file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            given=f"the recipe {path}",
            expected="a TOML file",
            cause=str(error),
            remedy="check the path and the syntax",
        ) from error


def _check_kind(name: str, value: object, kind: Any) -> None:
    """Raise :class:`ConfigError` where a value from a file is not of its setting's type."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if name in _LISTS and isinstance(value, list | tuple):
        right = all(isinstance(v, str) for v in value)
    else:
        right = type(value) in kinds
    if not right:
        names = {str: "a text", int: "a whole number", bool: "true or false", type(None): "nothing"}
        raise ConfigError(
            given=f"{name} = {value!r}",
            expected=" or ".join(names.get(k, "a list of texts") for k in kinds),
            remedy=f"write {name} so",
        )


def _one_of(option: str, value: str, known: Mapping[str, object] | tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            given=f"{option} {value}",
            expected=f"one of {', '.join(known)}",
            remedy="choose one of these names",
        )


def _at_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(
            given=f"{option} {value}",
            expected=f"an integer of at least {least}",
            remedy=f"pass {option} {least} or more",
        )


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings in which two runs differ, as ``name: stored -> wanted``."""
    names = sorted(set(stored) | set(wanted))
    return tuple(
        f"{name}: {stored.get(name)!r} there, {wanted.get(name)!r} now"
        for name in names
        if stored.get(name) != wanted.get(name)
    )
