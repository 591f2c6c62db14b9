"""How a prompt is put to a model: chat template, question and answer, or as it stands."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import jinja2

from synatlas.errors import ConfigError, ModelError

#: A function of a tokenizer, a text and a system prompt, empty where there is none; the tokenizer
#: is transformers', which is not imported here.
Style = Callable[[Any, str, str], str]


def chat(tokenizer: Any, text: str, system: str) -> str:
    """The user's turn in the tokenizer's chat template, and the opening of the reply."""
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": text})
    try:
        rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except jinja2.TemplateError as error:
        raise ConfigError(
            given=f"prompt style chat{' with a system prompt' if system else ''}",
            expected="a chat template that takes "
            + ("a system prompt" if system else "a single user turn"),
            cause=f"the tokenizer's template says: {error}",
            remedy="leave the system prompt out"
            if system
            else "choose prompt style question or raw",
        ) from error
    if system.strip() not in rendered:
        raise ConfigError(
            given="a system prompt",
            expected="a chat template that puts it before the prompt",
            cause="the tokenizer's template leaves it out without a word",
            remedy="leave the system prompt out, or write it into the prompts",
        )
    return rendered


def question(tokenizer: Any, text: str, system: str) -> str:
    """``Question: TEXT``, a line break, ``Answer:``; the system prompt in a line before."""
    del tokenizer
    before = f"{system}\n" if system else ""
    return f"{before}Question: {text}\nAnswer:"


def raw(tokenizer: Any, text: str, system: str) -> str:
    """The text as it stands."""
    del tokenizer
    if system:
        raise ConfigError(
            given="a system prompt with prompt style raw",
            expected="prompt style chat or question",
            cause="raw prompts are put to the model as they stand",
            remedy="write it into the prompts, or choose another style",
        )
    return text


def auto(tokenizer: Any, text: str, system: str) -> str:
    """`chat` where the tokenizer has a template, else `question`."""
    return STYLES[style_name("auto", tokenizer)](tokenizer, text, system)


#: Prompt styles by name.
STYLES: Final[dict[str, Style]] = {"auto": auto, "chat": chat, "question": question, "raw": raw}

#: Characters that neither tokenizers nor files take: NUL and lone surrogates.
_UNSAFE: Final = re.compile("[\x00\ud800-\udfff]")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A prompt as the model sees it: `text`, and its token `ids`."""

    text: str
    ids: tuple[int, ...]


def storable(text: str) -> str:
    """`text` with U+FFFD in place of NUL and of lone surrogates."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def style_name(style: str, tokenizer: Any) -> str:
    """The style that `style` stands for with this tokenizer.

    Raises
    ------
    ConfigError
        The style is unknown, or it is ``chat`` and the tokenizer has no template.
    """
    if style not in STYLES:
        raise ConfigError(
            given=f"prompt style {style!r}",
            expected=f"one of {', '.join(STYLES)}",
            remedy="choose one of these names",
        )
    has_template = bool(tokenizer.chat_template)
    if style == "chat" and not has_template:
        raise ConfigError(
            given="prompt style chat",
            expected="a tokenizer with a chat template",
            cause="the model's tokenizer has none: it is a base model",
            remedy="choose prompt style question or raw",
        )
    if style != "auto":
        return style
    return "chat" if has_template else "question"


def render(
    tokenizer: Any, texts: Sequence[str], style: str, system: str = ""
) -> tuple[Rendered, ...]:
    """Put `texts` to the model in `style` (resolved), and turn them into tokens.

    A `system` prompt comes before each of them.

    A beginning-of-sequence token is added by the tokenizer's own habit; with ``chat`` it is the
    template's affair, so it never comes twice. What a tokenizer appends after the text, such as
    an end-of-sequence token, is left out: the model is to continue.

    Raises
    ------
    ConfigError
        The style or the tokenizer's template takes no system prompt.
    ModelError
        A prompt has no tokens, or a token that the tokenizer does not state.
    """
    before = storable(system)
    rendered = [STYLES[style](tokenizer, storable(text), before) for text in texts]
    return tuple(
        Rendered(text=storable(text), ids=_encode(tokenizer, text, own_habit=style != "chat"))
        for text in rendered
    )


def _encode(tokenizer: Any, text: str, *, own_habit: bool) -> tuple[int, ...]:
    bare = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not own_habit:
        return tuple(bare)
    full = tokenizer(text)["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[: start + len(bare)])
    return tuple(full)


def check_ids(prompt_ids: Sequence[str], rendered: Sequence[Rendered], *, vocabulary: int) -> None:
    """Every prompt must have tokens, and the model an embedding for each of them."""
    for name, prompt in zip(prompt_ids, rendered, strict=True):
        if not prompt.ids:
            raise ConfigError(
                given=f"prompt {name}",
                expected="a prompt of at least one token",
                cause="it is empty, and the tokenizer adds nothing to it",
                remedy="remove the prompt, or give it text",
            )
        if max(prompt.ids) >= vocabulary:
            raise ModelError(
                given=f"prompt {name} with token {max(prompt.ids)}",
                expected=f"tokens below {vocabulary}, the rows of the model's embedding",
                cause="the tokenizer belongs to another model",
                remedy="pass the folder of a model with its own tokenizer",
            )
