"""A part of the table of docs/models.md, checked at every run; `make conformity` checks all."""

import re

import pytest
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from conformity import LIVE_TOLERANCE, PAGE, check
from synatlas.catalogue import COVERED

#: One of every kind of layout: gates, latent attention, own code, two attentions a layer, widths
#: and counts that differ by layer, shared keys, wrappers of modalities, hybrids, Conv1D.
TYPES = (
    "afmoe", "axk2", "bart", "beam", "bert", "bitnet", "bloom", "cohere2_moe", "ctrl", "dbrx",
    "deepseek_v3", "deepseek_v4", "diffllama", "doge", "dots3_note_text", "falcon_h1",
    "gemma3", "gemma4_text", "gpt_bigcode", "gpt_neox_japanese", "hunyuan_v1_dense", "hy_v4",
    "inkling2_text", "jamba", "laguna", "lfm3", "llama4_text", "longcat_flash", "mimo_v2_flash",
    "minicpm3", "modernbert-decoder", "mpt", "nemotron_h", "olmo_hybrid", "openai-gpt",
    "persimmon", "qwen3_5", "recurrent_gemma", "zamba2", "zaya",
)  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_what_the_table_claims(name: str) -> None:
    checked = check(name)
    assert checked.error <= LIVE_TOLERANCE
    claimed = re.search(rf"^\| {name} \|.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert claimed
    assert _of_heads(checked.row()) == _of_heads(claimed[0])


def _of_heads(row: str) -> tuple[list[str], str, str, str]:
    """Heads, sites, roles and status; another machine may round the error otherwise."""
    _, _, units, sites, roles, _, status, _ = row.split("|")
    return [part for part in units.strip().split("; ") if " heads " in part], sites, roles, status


def test_the_table_has_every_type_and_counts_right() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w.-]+) \|.*\| (.*) \|$", text, re.MULTILINE)[1:]
    assert [name for name, _ in rows] == sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert all(status for _, status in rows)
    covered = sum(status == "ok" for _, status in rows)
    assert f"{covered} of the {len(rows)} types" in text
    assert covered >= 150
    assert (covered, len(rows), transformers.__version__) == COVERED
