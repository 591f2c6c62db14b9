"""Train a bundled model: python recipes/train_model.py --settings FILE --work DIR --out DIR.

Every run with the same settings makes the same model on the same machine and library versions.
A run that was killed continues from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

# Two threads on a shared machine wait for each other; set before torch reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, final

import pandas as pd
import torch
from model_cards import (
    described,
    measure_exported,
    measure_snapshots,
    training_facts,
    write_card,
)
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from safetensors.torch import save_file
from transformers import GenerationConfig, PreTrainedTokenizerFast

from synatlas.tasks.stream import StreamConfig, sample_texts
from synatlas.tasks.tokenizer import build_tokenizer
from synatlas.tasks.training import (
    ModelConfig,
    StepLog,
    TrainConfig,
    Trainer,
    initial_model,
    model_config,
)

SETTINGS = Path(__file__).with_name("reference.toml")
#: losses of a step that count as the same
SAME_LOSS = 1e-3


@final
@dataclass(frozen=True)
class Settings:
    """What a settings file says.

    Attributes
    ----------
    name
        Of the model: the file's.
    model, stream, train
        Its tables.
    sample_rounds, sample_seed
        Size and seed of the sample that the tokenizer is made from.
    snapshots
        Steps before the last after which the weights are kept.
    summary, limits, items_per_seed
        For the card: what it says, and the number of items of each cell and evaluation seed.
    tables
        All of the file that decides what the model becomes.
    """

    name: str
    model: ModelConfig
    stream: StreamConfig
    train: TrainConfig
    sample_rounds: int
    sample_seed: int
    snapshots: tuple[int, ...]
    summary: str
    limits: tuple[str, ...]
    items_per_seed: int
    tables: dict[str, dict[str, Any]]


def read_tables(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a settings file, over those of the file that it extends, if any."""
    tables: dict[str, Any] = tomllib.loads(path.read_text())
    base = tables.pop("extends", None)
    if base is None:
        return tables
    below = read_tables(path.with_name(base))
    return below | {name: below.get(name, {}) | table for name, table in tables.items()}


def read_settings(path: Path) -> Settings:
    """Settings from TOML; an unknown or missing key is an error."""
    tables = read_tables(path)
    card = tables.pop("card")
    train = tables["train"] | {"adam_betas": tuple(tables["train"]["adam_betas"])}
    return Settings(
        name=path.stem,
        model=ModelConfig(**tables["model"]),
        stream=StreamConfig(**tables["stream"]),
        train=TrainConfig(**train),
        **tables["tokenizer"],
        snapshots=tuple(tables.get("snapshots", {}).get("steps", ())),
        summary=card["summary"],
        limits=tuple(card["limits"]),
        items_per_seed=card["items_per_seed"],
        tables=tables,
    )


def make_trainer(settings: Settings) -> Trainer:
    """Tokenizer, step-0 model and optimisers."""
    tokenizer = make_tokenizer(settings)
    config = model_config(settings.model, tokenizer)
    model = initial_model(config, settings.model.init_seed)
    return Trainer(model, tokenizer, settings.train, settings.stream)


def make_tokenizer(settings: Settings) -> PreTrainedTokenizerFast:
    """The tokenizer, from a sample of the stream."""
    texts = sample_texts(settings.sample_rounds, settings.sample_seed)
    return build_tokenizer(texts, max_length=settings.model.max_length)


def train(trainer: Trainer, work: Path, out: Path, snapshots: tuple[int, ...] = ()) -> None:
    """Train to the last step: checkpoints and a log in `work`, snapshots in `out`/stepN."""
    work.mkdir(parents=True, exist_ok=True)
    if trainer.restore(work):
        print(f"continuing from step {trainer.step}")
    log_path = work / "log.csv"
    rows = list(_rows_until(log_path, trainer.step))
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True, compact=True),
    )
    steps = trainer.config.steps
    with Progress(*columns) as progress:
        task = progress.add_task("train", total=steps, completed=trainer.step, loss=float("nan"))
        for row in trainer.run(steps):
            rows.append(asdict(row))
            progress.update(task, completed=row.step, loss=row.loss)
            if row.step in snapshots:
                export(trainer, out / f"step{row.step}")
            if row.step % trainer.config.checkpoint_every == 0 or row.step == steps:
                trainer.save(work)
                _write_log(rows, log_path)


def _rows_until(path: Path, step: int) -> Iterator[dict[str, Any]]:
    if path.exists():
        log = pd.read_csv(path)
        yield from log.query("step <= @step").to_dict("records")


def _write_log(rows: list[dict[str, Any]], path: Path) -> None:
    unfinished = path.with_suffix(".part")
    names = [field.name for field in fields(StepLog)]
    pd.DataFrame(rows, columns=names).to_csv(unfinished, index=False)
    os.replace(unfinished, path)


def export(trainer: Trainer, out: Path) -> None:
    """Write weights in float16, with a configuration that loads them in float32."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        # The output matrix is the embedding matrix, which transformers ties again on loading.
        name: tensor.half().contiguous()
        for name, tensor in trainer.model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    trainer.model.config.architectures = [type(trainer.model).__name__]
    trainer.model.config.dtype = "float32"
    trainer.model.config.save_pretrained(out)
    special = {
        key: getattr(trainer.tokenizer, key)
        for key in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    GenerationConfig(**special).save_pretrained(out)
    trainer.tokenizer.save_pretrained(out)


def reproduce(settings: Settings, out: Path, steps: int) -> None:
    """Train the first steps anew and compare their losses with those on the card in `out`."""
    told = json.loads((out / "card.json").read_text())["first_losses"][:steps]
    losses = [row.loss for row in make_trainer(settings).run(len(told))]
    apart = max(abs(loss - before) for loss, before in zip(losses, told, strict=True))
    print(f"{settings.name}: losses of {len(told)} steps differ by {apart:.1e} at most")
    if apart > SAME_LOSS:
        sys.exit(f"more than {SAME_LOSS}: another machine, library version or settings file")


def main() -> None:
    """Parse the command line, train, export, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--work", type=Path, help="folder for checkpoints")
    todo.add_argument("--card-only", action="store_true", help="measure the model in --out again")
    todo.add_argument("--reproduce", type=int, metavar="STEPS", help="compare the first losses")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--jobs", type=int, default=1, help="processes for the measurement")
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = read_settings(arguments.settings)
    out = arguments.out
    if arguments.reproduce:
        reproduce(settings, out, arguments.reproduce)
        return
    card = {}
    if arguments.work:
        trainer = make_trainer(settings)
        train(trainer, arguments.work, out, settings.snapshots)
        export(trainer, out)
        log = pd.read_csv(arguments.work / "log.csv")
        card = training_facts(trainer, settings.name, settings.tables, log)
    count = settings.items_per_seed
    cells = measure_exported(out, count, arguments.jobs)
    card |= described(settings.summary, settings.limits, count, cells)
    if settings.snapshots:
        steps = (*settings.snapshots, settings.train.steps)
        seed = settings.model.init_seed
        card["snapshots"] = measure_snapshots(out, steps, init_seed=seed, jobs=arguments.jobs)
    write_card(card, out)


if __name__ == "__main__":
    main()
