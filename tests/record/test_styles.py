"""How a prompt becomes tokens: templates, special tokens, and text that no file can hold."""

from typing import Any

import pytest
from tokenizers import processors

from synatlas.errors import ConfigError, ModelError
from synatlas.record.styles import Rendered, check_ids, render, storable, style_name
from tiny_models import tiny_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def with_habit(template: str, **options: Any) -> Any:
    """A tokenizer that adds special tokens of its own accord, such as ``<s> $A </s>``."""
    tokenizer = tiny_tokenizer(**options)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


def ids(text: str) -> list[int]:
    return tiny_tokenizer()(text)["input_ids"]


def test_question_and_raw() -> None:
    tokenizer = tiny_tokenizer()
    (question,) = render(tokenizer, ["Why?"], "question")
    assert question.text == "Question: Why?\nAnswer:"
    assert list(question.ids) == ids("Question: Why?\nAnswer:")
    (raw,) = render(tokenizer, ["Why?"], "raw")
    assert list(raw.ids) == ids("Why?")


def test_what_the_tokenizer_adds_before_stays_and_after_goes() -> None:
    (prompt,) = render(with_habit("<s> $A </s>"), ["Why?"], "raw")
    assert list(prompt.ids) == [0, *ids("Why?")]


def test_chat_has_one_beginning() -> None:
    tokenizer = with_habit("<s> $A", chat_template=TEMPLATE)
    (prompt,) = render(tokenizer, ["Why?"], "chat")
    assert prompt.text == "<s><user>Why?<assistant>"
    assert list(prompt.ids) == [0, *ids("<user>Why?<assistant>")]


def test_auto_is_chat_where_there_is_a_template() -> None:
    assert style_name("auto", tiny_tokenizer(chat_template=TEMPLATE)) == "chat"
    assert style_name("auto", tiny_tokenizer()) == "question"
    with pytest.raises(ConfigError, match="chat template"):
        style_name("chat", tiny_tokenizer())
    with pytest.raises(ConfigError, match="auto, chat, question, raw"):
        style_name("story", tiny_tokenizer())
    refusing = tiny_tokenizer(chat_template="{{ raise_exception('system first') }}")
    with pytest.raises(ConfigError, match="system first"):
        render(refusing, ["Why?"], "chat")


def test_unstorable_characters_are_replaced_for_model_and_file_alike() -> None:
    assert storable("a\x00b\ud800c") == "a\ufffdb\ufffdc"
    (prompt,) = render(tiny_tokenizer(), ["a\x00b\ud800c"], "raw")
    assert prompt == Rendered(text="a\ufffdb\ufffdc", ids=tuple(ids("a\ufffdb\ufffdc")))


def test_empty_prompts_and_foreign_tokens_are_named() -> None:
    empty = render(tiny_tokenizer(), ["x", ""], "raw")
    with pytest.raises(ConfigError, match="prompt second"):
        check_ids(["first", "second"], empty, vocabulary=258)
    with pytest.raises(ModelError, match="tokenizer belongs to another model"):
        check_ids(["first"], empty[:1], vocabulary=50)


SYSTEM_TEMPLATE = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content | trim }}{% endfor %}<reply>"
)
USER_TEMPLATE = "{% for turn in messages if turn.role == 'user' %}{{ turn.content }}{% endfor %}"


def test_a_system_prompt_comes_first() -> None:
    chatting = tiny_tokenizer(chat_template=SYSTEM_TEMPLATE)
    (chat,) = render(chatting, ["Why?"], "chat", " Be brief. ")
    assert chat.text == "<system>Be brief.<user>Why?<reply>"
    (question,) = render(chatting, ["Why?"], "question", "Be brief.")
    assert question.text == "Be brief.\nQuestion: Why?\nAnswer:"


@pytest.mark.parametrize(
    ("style", "template", "remedy"),
    [
        ("raw", None, "another style"),
        ("chat", USER_TEMPLATE, "leave the system prompt out"),
        ("chat", "{{ raise_exception('System role not supported') }}", "leave the system prompt"),
    ],
)
def test_a_system_prompt_that_would_be_lost(style: str, template: str | None, remedy: str) -> None:
    tokenizer = tiny_tokenizer(chat_template=template)
    with pytest.raises(ConfigError) as caught:
        render(tokenizer, ["Why?"], style, "Be brief.")
    assert remedy in caught.value.remedy
