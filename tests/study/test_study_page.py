"""The page of a study: its figures, a slider that works without scripts of its own, no markup."""

from pathlib import Path

import plotly.graph_objects as go

from parsed_page import figure, numbers, parse
from synatlas.study.page import Finding, Page, Section, Table, figure_plot, write_page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def a_page(text: str) -> Page:
    drawn = go.Figure(go.Scatter(x=[0.0, 1.0], y=[2.0, 3.0]))
    drawn.update_layout(
        height=300, sliders=[{"steps": [{"label": "8", "method": "restyle", "args": ["y", [[1]]]}]}]
    )
    plots = tuple(figure_plot(f"figure-{i}", f"{text} {i}", drawn, text) for i in range(2))
    table = Table(label=text, columns=("model", "value"), rows=((text, "1"),))
    return Page(
        title=text,
        summary=text,
        headline=text,
        findings=(Finding(claim=text, holds="no", tone="no", numbers=((text, "1"),), why=text),),
        warnings=(text,),
        sections=(
            Section(name="one", title="One", text=(text, text), plots=plots[:1], tables=(table,)),
            Section(name="two", title="Two", plots=plots[1:], choose="Which"),
        ),
        references=((text, "https://arxiv.org/abs/2601.06851"),),
    )


def test_everything_is_there_in_order_and_nothing_becomes_markup(tmp_path: Path) -> None:
    path = write_page(tmp_path / "study.html", a_page(HOSTILE))
    page = parse(path.read_text(encoding="utf-8"))
    assert [s.attrs["id"] for s in page.find("section")] == [
        "verdict", "one", "two", "glossary", "references",
    ]  # fmt: skip
    assert {link.attrs["href"] for link in page.only("nav").find("a")} == {
        "#verdict", "#one", "#two", "#glossary",
    }  # fmt: skip
    assert page.only("p", name="headline").text == HOSTILE
    assert page.only("section", name="one").only("table").find("th")[2].text == HOSTILE
    assert not page.find("img")
    plain = parse(write_page(path, a_page("plain")).read_text(encoding="utf-8"))
    assert [e.tag for e in page.walk()] == [e.tag for e in plain.walk()]


def test_figures_carry_their_data_and_slider(tmp_path: Path) -> None:
    path = write_page(tmp_path / "study.html", a_page("plain"))
    page = parse(path.read_text(encoding="utf-8"))
    shown = figure(page, "figure-0")
    assert numbers(shown["data"][0]["y"]).tolist() == [2.0, 3.0]
    assert shown["layout"]["sliders"][0]["steps"][0]["args"] == ["y", [[1]]]
    assert page.only("select").find("option")[0].text == "plain 1"
