"""Curves of known form: which are gradual, which collapse."""

import numpy as np
import pytest

from synatlas.intervene.decline import CATASTROPHIC, GRADUAL, NOT_JUDGED, OPEN, decline

COUNTS = np.arange(1, 21) * 3
X = COUNTS / COUNTS[-1]
FORMS = {
    "line": 2 * X,
    "power": 3 * X**2,
    "saturating": 4 * X**0.4,
    "sigmoid": 5 / (1 + np.exp(-(X - 0.5) / 0.1)),
    "jump": 0.5 * X + 4.0 * (X > 0.31),
    "jump at the first step": 0.2 * X + 3.0,
}


def curves(mean: np.ndarray, *, noise: float = 0.15, prompts: int = 40) -> np.ndarray:
    rng = np.random.default_rng(5)
    scale = rng.gamma(8, 1 / 8, size=prompts)
    return mean[:, None] * scale * np.exp(noise * rng.normal(size=(mean.size, prompts)))


@pytest.mark.parametrize("name", FORMS)
def test_known_forms_are_told(name: str) -> None:
    found = decline(curves(FORMS[name]), COUNTS, draws=200, rng=np.random.default_rng(0))
    assert found.said == (CATASTROPHIC if "jump" in name else GRADUAL)
    assert found.support >= 0.95
    if name == "jump":
        assert found.jump_at == COUNTS[np.argmax(X > 0.31)]


def test_a_jump_in_few_prompts_stays_open() -> None:
    jumping, flat = curves(FORMS["jump"], prompts=2), curves(FORMS["line"], prompts=6)
    both = np.concatenate([6 * jumping, flat], axis=1)
    assert decline(both, COUNTS, draws=200, rng=np.random.default_rng(0)).said == OPEN


def test_too_short_a_curve_is_not_judged() -> None:
    found = decline(curves(X[:5]), COUNTS[:5], rng=np.random.default_rng(0))
    assert found.said == NOT_JUDGED
    assert np.isnan(found.aicc).all()
