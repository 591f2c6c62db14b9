"""The walls of the house: who may import whom, who may hook, what is public and documented."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import synatlas

SOURCE = Path(synatlas.__file__).parent
ROOT = SOURCE.parent.parent
MODULES = sorted(SOURCE.rglob("*.py"))

#: Files that every room may import.
SHARED = {
    "axes",
    "artifact",
    "errors",
    "processes",
    "progress",
    "inference",
    "netcdf",
    "provenance",
}

#: Room -> rooms to its left, from which it may import.
ALLOWED = {
    "models": set(),
    "tasks": set(),
    "simulate": set(),
    "record": {"models", "tasks"},
    "decompose": {"record"},
    "rank": {"record", "decompose"},
    "intervene": {"models", "tasks", "record", "decompose", "rank"},
    "report": {"record", "decompose", "rank", "intervene"},
    # A study is made of whole runs.
    "study": {"models", "tasks", "record", "decompose", "rank", "report", "run", "config"}
    | {"folder", "bars"},
}

#: The rooms that an array user enters: they must not load a deep-learning framework.
LIGHT = ("simulate", "decompose", "rank", "report")


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names of the modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_room_imports_only_from_its_left(path: Path) -> None:
    room = room_of(path)
    if not room:
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "synatlas" or len(parts) < 2:
            continue
        assert parts[1] in SHARED | ALLOWED[room] | {room}, f"{path} imports {name}"


def test_shared_files_import_no_room() -> None:
    for path in MODULES:
        if not room_of(path) and path.stem in SHARED:
            for name in imports(path):
                parts = name.split(".")
                assert parts[0] != "synatlas" or len(parts) < 2 or parts[1] in SHARED, path


@pytest.mark.parametrize("room", LIGHT)
def test_light_rooms_load_no_framework(room: str) -> None:
    for path in (SOURCE / room).rglob("*.py"):
        heavy = {n.split(".")[0] for n in imports(path, top_level_only=True)}
        assert not heavy & {"torch", "transformers"}, path


def test_arrays_and_prompts_need_no_framework() -> None:
    """Small arrays compile nothing either: the compiler takes seconds to load."""
    script = (
        "import sys, numpy, synatlas\n"
        "synatlas.phiid(numpy.random.default_rng(0).normal(size=(100, 64)))\n"
        "from synatlas.tasks.battery import battery\n"
        "battery()\n"
        "print(sorted({'torch', 'transformers', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_only_modules_that_read_or_edit_a_running_model_register_hooks() -> None:
    hooks = re.compile(r"register_\w*hook|ALL_ATTENTION_FUNCTIONS|AttentionInterface")
    found = {
        str(path.relative_to(SOURCE))
        for path in MODULES
        if hooks.search(path.read_text(encoding="utf-8"))
    }
    running = ("calls", "editors", "expert_editors", "hooks", "readers", "taps", "trace")
    assert found == {f"models/{name}.py" for name in running}


def test_nothing_unpickles() -> None:
    forbidden = {"pickle", "dill", "joblib", "cloudpickle", "torch.save", "torch.load"}
    for path in MODULES:
        assert not imports(path) & forbidden, path
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text, path
        assert "allow_pickle=True" not in text, path


def test_no_broad_except() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in {"everything", "Exception", "BaseException"}, path


def test_every_public_name_is_documented() -> None:
    for name in synatlas.__all__:
        text = getattr(synatlas, name).__doc__
        assert text, name
        assert len(text.strip()) > 40, name


def test_public_names_are_the_verbs_even_after_the_rooms_are_loaded() -> None:
    for name in synatlas.__all__:
        assert callable(getattr(synatlas, name)), name


def test_the_command_line_stays_thin() -> None:
    assert len((SOURCE / "cli.py").read_text(encoding="utf-8").splitlines()) <= 200


def test_sizes() -> None:
    """Median module 90 to 300 lines; nine functions in ten under 40 lines, docstrings aside."""
    lengths, modules = [], []
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if path.name != "__init__.py":
            modules.append(len(text.splitlines()))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body
                if ast.get_docstring(node) is not None:
                    body = body[1:]
                lengths.append((body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0)
    lengths.sort()
    modules.sort()
    assert lengths[int(0.9 * len(lengths))] < 40
    assert 90 <= modules[len(modules) // 2] <= 300


def test_no_path_of_a_machine_is_written_down() -> None:
    listed = [
        path
        for pattern in ("**/*.py", "**/*.md", "**/*.toml", "**/*.txt", "**/*.cff", "Makefile")
        for path in ROOT.glob(pattern)
        if not {".venv", "runs", ".git"} & set(path.relative_to(ROOT).parts)
    ]
    machine = re.compile(r"(?<![\w.])/(work|root|farm|opt)/|/simple\b")
    for path in listed:
        if path.name == Path(__file__).name:
            continue
        assert not machine.search(path.read_text(encoding="utf-8")), path
