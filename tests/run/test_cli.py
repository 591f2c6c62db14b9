"""The command line itself: help, models, interruption."""

from pathlib import Path

import pytest

from synatlas.cli import main


def test_an_interruption_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("synatlas.run.advance", interrupt)
    assert main(["map", "--out", str(tmp_path / "run")]) == 130
    assert "same command resumes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["map", "record", "decompose", "rank", "report", "models", "plan"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    assert "Usage" in told
    # Every option of a run is described, not only named.
    if command == "map":
        assert "Generated tokens per prompt" in told
        assert "synatlas map EleutherAI/pythia-70m" in told


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert "bundled:reference" in capsys.readouterr().out


def test_a_model_is_checked(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--check", str(tiny)]) == 0
    told = capsys.readouterr().out
    assert "6 heads in 3 layers" in told
    assert "live against replay" in told
    assert "logits with taps and without: identical bits" in told
    assert "6 heads again: identical; what the attention function returned" in told
    assert told.splitlines()[-1] == "passed"
