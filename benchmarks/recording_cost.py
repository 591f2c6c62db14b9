"""What recording costs against plain batched generation of the same tokens: time and memory.

Run with: OMP_NUM_THREADS=1 python benchmarks/recording_cost.py run RESULTS.jsonl, which can be
interrupted and taken up again, then
python benchmarks/recording_cost.py tables RESULTS.jsonl --into docs/benchmarks.md.

Plain is ``model.generate`` of transformers on left-padded batches of the prompts, sorted by length
and as many at once as the recording takes, greedy, end of sequence suppressed. The three ways run
in turn, round by round, in one process and on one thread, after a short one of each. Memory is
the greatest resident size of a fresh process for each way, from when its model was loaded.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import torch
from marked_tables import show_tables
from transformers import AutoConfig, AutoModelForCausalLM

import synatlas as sa
from synatlas.models.batching import batching_of
from synatlas.models.load import LanguageModel
from synatlas.record.batches import split
from synatlas.record.captures import CAPTURE
from synatlas.record.generate import end_ids
from synatlas.record.reading import options_for
from synatlas.record.record import choose_batch_size
from synatlas.record.replay import Reading
from synatlas.record.self_test import self_test
from synatlas.record.styles import render
from synatlas.tasks.battery import battery
from synatlas.tasks.prompts import Prompts

SEED: Final = 0
STYLE: Final = "question"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model and what is recorded of it.

    Parameters
    ----------
    what : the model in words.
    config : of a random model; empty for the bundled one.
    prompts : the first so many of the battery.
    tokens : of each reply.
    units : what is recorded.
    targets : greatest ratio of processor time to plain generation, by way; none where empty.
    """

    what: str
    config: dict[str, Any]
    prompts: int
    tokens: int
    units: str = "heads"
    targets: dict[str, float]


DENSE: Final = {"replay": 1.5, "live": 1.15}
ROUTED: Final = {"replay": 1.8, "live": 1.8}

LLAMA_150M: Final = {
    "model_type": "llama",
    "vocab_size": 50_000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "tie_word_embeddings": True,
}

#: Cases by name.
CASES: Final = MappingProxyType(
    {
        "bundled": Case(
            what="`bundled:reference`, 1.9 M", config={}, prompts=60, tokens=100, targets=DENSE
        ),
        "dense": Case(
            what="Llama, 12 layers x 768, vocabulary 50,000",
            config=LLAMA_150M,
            prompts=12,
            tokens=32,
            targets=DENSE,
        ),
        "dense_long": Case(
            what="Llama, 12 layers x 768, usual replies",
            config=LLAMA_150M,
            prompts=24,
            tokens=100,
            targets=DENSE,
        ),
        "small_experts": Case(
            what="Mixtral, 4 layers x 128, 2 of 8 experts",
            config={
                "model_type": "mixtral",
                "vocab_size": 1000,
                "hidden_size": 128,
                "intermediate_size": 256,
                "num_hidden_layers": 4,
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
                "num_local_experts": 8,
                "num_experts_per_tok": 2,
            },
            prompts=32,
            tokens=50,
            units="experts",
            targets=ROUTED,
        ),
        "experts": Case(
            what="Qwen3-MoE, 8 layers x 512, 4 of 16 experts",
            config={
                "model_type": "qwen3_moe",
                "vocab_size": 8000,
                "hidden_size": 512,
                "intermediate_size": 1024,
                "moe_intermediate_size": 512,
                "num_hidden_layers": 8,
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
                "head_dim": 64,
                "num_experts": 16,
                "num_experts_per_tok": 4,
                "tie_word_embeddings": True,
            },
            prompts=16,
            tokens=50,
            units="experts",
            targets=ROUTED,
        ),
        "recurrent": Case(
            what="Mamba-2, 4 layers x 256",
            config={
                "model_type": "mamba2",
                "vocab_size": 1000,
                "hidden_size": 256,
                "num_hidden_layers": 4,
                "state_size": 32,
                "num_heads": 16,
                "head_dim": 32,
                "n_groups": 1,
                "chunk_size": 64,
            },
            prompts=16,
            tokens=50,
            units="recurrent",
            targets={},
        ),
    }
)


class Work(NamedTuple):
    """A case ready to run: its model, its prompts, their tokens, and the rows at once."""

    case: Case
    model: LanguageModel
    prompts: Prompts
    ids: list[list[int]]
    rows: int

    def batches(self) -> list[list[list[int]]]:
        """Prompts of each batch, by length."""
        return [[self.ids[i] for i in some] for some in split(list(map(len, self.ids)), self.rows)]


def work_of(case: Case) -> Work:
    """Load or make the model; a random one reads with the tokenizer of the bundled."""
    model = sa.load("bundled:reference")
    if case.config:
        settings = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} | case.config
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        torch.manual_seed(SEED)
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model = sa.adopt(network.eval().requires_grad_(False), model.tokenizer, name=case.what)
    prompts = first(battery(), case.prompts)
    ids = [list(prompt.ids) for prompt in render(model.tokenizer, prompts.texts, STYLE)]
    rows = choose_batch_size(model, prompts, tokens=case.tokens, prompt_style=STYLE)
    return Work(case, model, prompts, ids, rows)


def first(prompts: Prompts, count: int) -> Prompts:
    """The first so many of them."""
    columns = (prompts.ids, prompts.texts, prompts.categories)
    ids, texts, categories = (column[:count] for column in columns)
    return Prompts(ids=ids, texts=texts, categories=categories)


def plain(work: Work) -> None:
    """Generate, as a user of transformers would."""
    network: Any = work.model.model
    ends = list(end_ids(work.model))
    for batch in work.batches():
        longest = max(map(len, batch))
        ids = torch.tensor([[ends[0]] * (longest - len(p)) + p for p in batch])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch])
        network.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=work.case.tokens,
            do_sample=False,
            suppress_tokens=ends,
            pad_token_id=ends[0],
        )


def recorded(work: Work, capture: str) -> None:
    """The whole of `record`, self-test and labels included."""
    sa.record(
        work.model,
        work.prompts,
        tokens=work.case.tokens,
        units=work.case.units,
        prompt_style=STYLE,
        batch_size=work.rows,
        capture=capture,
    )


def captured(work: Work, capture: str) -> None:
    """Generation and reading alone."""
    reading = reading_of(work)
    for batch in work.batches():
        CAPTURE[capture](
            work.model,
            batch,
            tokens=work.case.tokens,
            stop_at_eos=False,
            reading=reading,
        )


def reading_of(work: Work) -> Reading:
    """What `record` reads by default."""
    units = {"units": work.case.units, "site": "z", "reduce": "norm", "policy": "contribution"}
    options = options_for(work.model, direction=None, **units)
    reducers = options.reducers()
    assert reducers is not None
    return Reading(options.table, reducers)


def tested(work: Work) -> None:
    """The comparison of two short replies, live and replayed."""
    self_test(work.model, work.ids, reading_of(work), site="z", signed=False)


def without_taps(work: Work) -> None:
    """The replay's passes, nothing read."""
    module = sys.modules["synatlas.record.replay"]
    stock = vars(module)["capture"]
    vars(module)["capture"] = nothing
    try:
        captured(work, "replay")
    finally:
        vars(module)["capture"] = stock


@contextmanager
def nothing(model: Any, units: Any, *, positions: torch.Tensor, **options: Any) -> Iterator[Any]:
    """A capture without taps."""
    del model, options
    zeros = torch.zeros(()).expand(*positions.shape, len(units))
    yield argparse.Namespace(units=lambda: zeros, routed=lambda: None)


#: Ways whose time is compared.
TIMED: Final[dict[str, Callable[[Work], None]]] = {
    "plain": plain,
    "replay": lambda work: recorded(work, "replay"),
    "live": lambda work: recorded(work, "live"),
    # Done once in every recording, however long.
    "self-test": tested,
}

#: Ways whose memory is compared.
WEIGHED: Final[dict[str, Callable[[Work], None]]] = {
    "plain": plain,
    "replay": lambda work: captured(work, "replay"),
    "without taps": without_taps,
    "live": lambda work: captured(work, "live"),
}


def timed(name: str, rounds: int) -> dict[str, Any]:
    """Processor and elapsed seconds of each way, one entry a round."""
    begun = time.process_time()
    work = work_of(CASES[name])
    made = time.process_time()
    batching_of(work.model.model)
    probed = time.process_time()
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in TIMED}
    few = work._replace(case=replace(work.case, tokens=8), ids=work.ids[:2], rows=2)
    few = few._replace(prompts=first(work.prompts, 2))
    for run in TIMED.values():
        run(few)
    for _ in range(rounds):
        for way, run in TIMED.items():
            start = time.process_time(), time.perf_counter()
            run(work)
            spent = time.process_time() - start[0], time.perf_counter() - start[1]
            seconds[way].append(spent)
            print(name, way, spent, file=sys.stderr, flush=True)
    return {
        "kind": "time",
        "case": name,
        "rows": work.rows,
        "prompt_tokens": sum(map(len, work.ids)),
        "parameters": sum(p.numel() for p in work.model.model.parameters()),
        "units": len(work.model.found.select(work.case.units)),
        "making": made - begun,
        "batching": probed - made,
        "seconds": seconds,
    }


def weighed(name: str, way: str) -> dict[str, Any]:
    """Greatest resident bytes of one way, measured in this process."""
    work = work_of(CASES[name])
    batching_of(work.model.model)
    few = replace(work.case, tokens=2)
    # What is allocated once a process is there already.
    WEIGHED[way](work._replace(case=few, ids=work.ids[:1]))
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    WEIGHED[way](work)
    return {"case": name, "way": way, "before": before, "peak": resident("VmHWM")}


def resident(name: str) -> int:
    """Bytes that the kernel counts for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def in_child(name: str, way: str) -> dict[str, Any]:
    """:func:`weighed` in a fresh process."""
    command = [sys.executable, __file__, "weigh", name, "--way", way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(path: Path, names: list[str], rounds: int, children: int) -> None:
    """Measure what `path` does not hold yet."""
    rows = read(path)
    done = {(row["kind"], row["case"]) for row in rows}
    for name in names:
        made: list[dict[str, Any]] = []
        if ("time", name) not in done:
            made.append(timed(name, rounds))
        if ("memory", name) not in done:
            found = {way: [in_child(name, way) for _ in range(children)] for way in WEIGHED}
            made.append({"kind": "memory", "case": name, "found": found})
        with path.open("a") as file:
            for row in made:
                print(row, file=sys.stderr, flush=True)
                file.write(json.dumps(row | {"settings": asdict(CASES[name])}) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a results file, none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def of_kind(rows: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """Rows of one kind by case, in the order of the cases."""
    found = {row["case"]: row for row in rows if row["kind"] == kind}
    return {name: found[name] for name in CASES if name in found}


def ratios(row: dict[str, Any], way: str, clock: int) -> list[float]:
    """Of a way's seconds to those of plain generation, round by round."""
    seconds = row["seconds"]
    both = zip(seconds[way], seconds["plain"], strict=True)
    return [own[clock] / base[clock] for own, base in both]


def verdict(value: float, target: float | None) -> str:
    """Target, and whether it is met."""
    if target is None:
        return ""
    return f"{target}: {'met' if value <= target else '**missed**'}"


def times(rows: list[dict[str, Any]]) -> str:
    """Markdown table of ratios of time."""
    head = ["model", "settings", "plain", "way", "processor time", "target", "elapsed"]
    head += ["less self-test"]
    body = []
    for name, row in of_kind(rows, "time").items():
        case = CASES[name]
        base = statistics.median(spent[0] for spent in row["seconds"]["plain"])
        settings = (
            f"{row['parameters'] / 1e6:.1f} M parameters; {case.prompts} prompts of together "
            f"{row['prompt_tokens']:,} tokens, x {case.tokens}; {row['rows']} at once; "
            f"{row['units']} {case.units}"
        )
        for way in ("replay", "live"):
            processor, elapsed = (ratios(row, way, clock) for clock in (0, 1))
            middle = statistics.median(processor)
            less = [
                (own[0] - test[0]) / base[0]
                for own, test, base in zip(
                    *(row["seconds"][k] for k in (way, "self-test", "plain")), strict=True
                )
            ]
            body.append(
                [
                    *((case.what, settings, f"{base:.1f} s") if way == "replay" else ("", "", "")),
                    way,
                    f"{middle:.2f} ({min(processor):.2f} to {max(processor):.2f})",
                    verdict(round(middle, 2), case.targets.get(way)),
                    f"{statistics.median(elapsed):.2f}",
                    f"{statistics.median(less):.2f}",
                ]
            )
    return table(head, body)


def memory(rows: list[dict[str, Any]]) -> str:
    """Markdown table of peaks, and of what the norms add to the pass that they are read in."""
    head = ["model", "loaded", *(f"peak, {way}" for way in WEIGHED)]
    head += ["norms in the replay", "norms while generating", "target"]
    body = []
    for name, row in of_kind(rows, "memory").items():
        found = row["found"]
        peak = {way: statistics.median(each["peak"] for each in found[way]) for way in WEIGHED}
        added = [
            peak["replay"] / peak["without taps"] - 1,
            peak["live"] / peak["plain"] - 1,
        ]
        loaded = statistics.median(each["before"] for each in found["plain"])
        body.append(
            [
                CASES[name].what,
                *(f"{value / 1e6:,.0f} MB" for value in (loaded, *peak.values())),
                *(f"{value:+.1%}" for value in added),
                "2 %: " + ("met" if max(added) <= 0.02 else "**missed**"),
            ]
        )
    return table(head, body)


def table(head: list[str], body: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(r) + " |" for r in (head, ["---"] * len(head), *body))


def main() -> None:
    """Run, or print the tables or write them into a document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "tables", "weigh"))
    parser.add_argument("where", help="results file; with weigh the name of a case")
    parser.add_argument("--cases", nargs="*", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--children", type=int, default=3, help="processes for each peak")
    parser.add_argument("--way", choices=tuple(WEIGHED), default="plain")
    parser.add_argument("--into", type=Path, help="document with the marked tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "weigh":
        print(json.dumps(weighed(options.where, options.way)))
    elif options.what == "run":
        run(Path(options.where), options.cases, options.rounds, options.children)
    else:
        rows = read(Path(options.where))
        made = {"recording_times": times(rows), "recording_memory": memory(rows)}
        show_tables(made, options.into)


if __name__ == "__main__":
    main()
