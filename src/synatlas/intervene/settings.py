"""What an ablation experiment is asked for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, final

from synatlas.errors import ConfigError

#: What the published code ranks by.
PUBLISHED_ORDER: Final = "rank_of_difference"

#: Orders that are tried where none is named; ``excess`` stands for that over each null.
ORDERS: Final = (
    "rank_of_difference",
    "redundant_first",
    "difference_of_ranks",
    "synergy",
    "redundancy",
    "synergy_ccs",
    "excess",
    "integration",
    "joint_prediction",
    "autocorrelation_baseline",
    "norm",
    "gradient",
    "single_unit",
)


#: Ablations that exchange vectors by their place in given texts: no questions can be asked.
OF_TEXTS: Final = ("mean_position", "resample")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of an ablation experiment; every field changes values.

    Parameters
    ----------
    orders : names of orders, see :data:`synatlas.intervene.orders.ORDERINGS`, or scores of an
        atlas.
    ablation : what a unit is replaced by, a key of
        :data:`synatlas.intervene.ablations.ABLATIONS`.
    points : numbers of units on the curve, at even distances up to all of them.
    fractions : shares of the units at which sets are tested against random ones.
    draws : random sets of each kind at these fractions.
    curve_draws : of these draws, those that are followed along the whole curve.
    matched_to : the order whose layers the depth-matched draws copy; where empty that of the
        published code, or the first where that is not tried.
    prompts : prompts of each category that are used, the first; all where None.
    questions : verifiable questions of each category and difficulty; 0 for none.
    accuracy_draws : of the draws, those that are also asked questions.
    seed : seed of the draws, of the questions and of what an ablation draws.
    """

    orders: tuple[str, ...] = ORDERS
    ablation: str = "zero"
    points: int = 20
    fractions: tuple[float, ...] = (0.1, 0.25, 0.5)
    draws: int = 199
    curve_draws: int = 5
    matched_to: str = ""
    prompts: int | None = None
    questions: int = 4
    accuracy_draws: int = 19
    seed: int = 0

    def silent(self) -> "Settings":
        """The same without questions where the ablation is of given texts alone."""
        return replace(self, questions=0) if self.ablation in OF_TEXTS else self

    def fitted(self) -> "Settings":
        """The same with no more followed or asked draws than there are."""
        return replace(
            self,
            curve_draws=min(self.curve_draws, self.draws),
            accuracy_draws=min(self.accuracy_draws, self.draws),
        )

    def quick(self) -> "Settings":
        """The same with few draws, points, prompts and questions: minutes, to see how it goes."""
        return replace(
            self,
            points=10,
            draws=min(self.draws, 19),
            curve_draws=min(self.curve_draws, 2),
            prompts=3 if self.prompts is None else min(self.prompts, 3),
            questions=min(self.questions, 2),
            accuracy_draws=min(self.accuracy_draws, 3),
        )

    @classmethod
    def from_settings(cls, table: Mapping[str, Any]) -> "Settings":
        """Settings from plain values, as a file holds them.

        Raises
        ------
        ConfigError
            A name is no setting, or a value of another type than its default.
        """
        plain = cls()
        known = {f.name for f in fields(cls)}
        for name, value in table.items():
            if name not in known:
                raise ConfigError(
                    given=f"the setting {name!r} of an ablation",
                    expected=f"one of {', '.join(sorted(known))}",
                    remedy="rename it, or take it out",
                )
            kind = _KINDS.get(type(getattr(plain, name)), (int,))
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ConfigError(
                    given=f"{name} = {value!r}",
                    expected=f"a value such as {getattr(plain, name)!r}",
                    remedy="write it so",
                )
        lists = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        return replace(plain, **lists)

    def identity(self) -> dict[str, Any]:
        """As plain values, as they are read back from a file."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def check(self) -> None:
        """Refuse what no model could make right.

        Raises
        ------
        ConfigError
            A number is out of range, or no order or fraction is named.
        """
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(
                    given=f"{name} {value}",
                    expected=f"a whole number of at least {least}",
                    remedy=f"raise {name}",
                )
        if not self.orders:
            raise ConfigError(
                given="no orders", expected="at least one", remedy=f"name some, such as {ORDERS[0]}"
            )
        bad = [f for f in self.fractions if not 0 < f <= 1]
        if bad or not self.fractions:
            raise ConfigError(
                given=f"fractions {list(self.fractions)}",
                expected="numbers above 0 and at most 1, the shares of units that are ablated",
                cause="counts or percentages were passed" if bad and max(bad) > 1 else "",
                remedy="pass shares, such as 0.1 0.25 0.5",
            )
        for name in ("curve_draws", "accuracy_draws"):
            if getattr(self, name) > self.draws:
                raise ConfigError(
                    given=f"{name} {getattr(self, name)} of {self.draws} draws",
                    expected="at most as many as there are draws",
                    remedy=f"lower {name}, or raise draws",
                )


#: Type of a default -> types of its values in a file.
_KINDS: Final[Mapping[type, tuple[type, ...]]] = {tuple: (list, tuple), str: (str,), int: (int,)}

_LEAST: Final = {
    "points": 2, "draws": 1, "curve_draws": 0, "prompts": 1, "questions": 0,
    "accuracy_draws": 0, "seed": 0,
}  # fmt: skip
