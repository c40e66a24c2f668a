"""The three cards of the gridding tab as HTML."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isnan

from PIL import Image

from demo.pictures import heat_map, png_data_url
from demo.serving import TRIO, describe
from demo.views import Panel
from demo.words import DEFINITION, EXPLANATIONS, RESPONSES, how_to_train, verdict

FAINTEST = 1e-4
"""Of the peak: fainter responses to one pixel are drawn black."""


def comparison(panels: Sequence[Panel], level: str, *, own_scale: bool, data: str) -> str:
    """Verdict, one card per network with map, explanation and score, and what the score means."""
    longest = max(1.0, *(p.ghd for p in panels if not isnan(p.ghd)), 1.0)
    warning = (
        '<div class="dg-warn" role="note">Each picture has its own colour scale: the same colour stands for different '
        "values, so brightness cannot be compared between pictures.</div>"
    )
    cards = {
        p.letter: _card(
            p,
            EXPLANATIONS[level][p.letter],
            _on_one_scale(p, [p] if own_scale else panels),
            score=_score(p, longest),
        )
        for p in panels
    }
    random_weights = any(p.served.card.weights == "random" for p in panels)
    sentence = verdict({p.letter: p.ghd for p in panels}, random_weights)
    return (
        f'<div class="dg"><p class="dg-verdict">{escape(sentence)}</p>{warning if own_scale else ""}'
        f'{_row(cards, data)}<p class="dg-note dg-definition">{DEFINITION} The score always covers '
        "all class maps of the picture, whichever map is shown.</p></div>"
    )


def one_pixel(panels: Sequence[Panel], level: str, *, data: str) -> str:
    """The response of each network to one bright pixel."""
    cards = {
        p.letter: _card(
            p, RESPONSES[level][p.letter], heat_map(p.values.numpy(), low=FAINTEST, high=1, logarithmic=True), score=""
        )
        for p in panels
    }
    return (
        '<div class="dg"><h2>One bright pixel</h2><p class="dg-note dg-section">One white pixel on a plain ground goes '
        "through each network. What comes out depends on the weights alone: how far the answer spreads, and on which "
        "cells it lands. Absolute response at the chosen level, relative to its peak; the colours are logarithmic and "
        "end at a ten-thousandth of it.</p>"
        f"{_row(cards, data)}</div>"
    )


def missing(data: str) -> str:
    """All three cards as hints, where nothing can be compared yet."""
    return (
        '<div class="dg"><p class="dg-verdict">This tab compares DRN-A, B and C on one data set. None is registered '
        f"yet; <code>make demo</code> trains all three.</p>{_row({}, data)}</div>"
    )


def _row(cards: Mapping[str, str], data: str) -> str:
    return '<div class="dg-trio">' + "".join(cards.get(letter) or _gap(letter, data) for letter in TRIO) + "</div>"


def _gap(letter: str, data: str) -> str:
    text, _, command = how_to_train(letter, TRIO[letter], data).partition(": ")
    return (
        f'<div class="dg-card"><h3>DRN-{letter}</h3><p class="why">{escape(text)}.<br><br>'
        f"<code>{escape(command)}</code></p></div>"
    )


def _on_one_scale(panel: Panel, panels: Sequence[Panel]) -> Image.Image:
    """The map of one panel in colours that span the values of all `panels`."""
    low = min(float(p.values.min()) for p in panels)
    high = max(float(p.values.max()) for p in panels)
    return heat_map(panel.values.numpy(), low=low, high=high)


def _card(panel: Panel, why: str, picture: Image.Image, *, score: str) -> str:
    height, width = panel.values.shape
    alt = (
        f"Heat map of DRN-{panel.letter}, {panel.layer}, {panel.shows}: {width} by {height} cells, "
        f"values {panel.values.min():.3g} to {panel.values.max():.3g}"
    )
    return (
        f'<figure class="dg-card"><h3>DRN-{panel.letter} <span>{escape(describe(panel.served))}</span></h3>'
        f'<img src="{png_data_url(picture)}" alt="{escape(alt)}">'
        f'<figcaption class="shows"><code>{escape(panel.layer)}</code> · {width} &times; {height} cells · '
        f'{escape(panel.shows)}</figcaption><p class="why">{escape(why)}</p>{score}</figure>'
    )


def _score(panel: Panel, longest: float) -> str:
    measured = panel.served.card.metrics.get("ghd")
    over_data = "not measured" if measured is None else f"{measured:.2f}"
    data = escape(panel.served.card.data)
    if isnan(panel.ghd):
        return '<div class="dg-score"><small>No score: the class maps are constant on this picture.</small></div>'
    return (
        f'<div class="dg-score"><div class="row"><span>GHD on this picture</span><b>{panel.ghd:.2f}</b></div>'
        f'<div class="dg-track" role="img" aria-label="GHD {panel.ghd:.2f} on a scale from 0 to {longest:.2f}">'
        f'<i style="width:{100 * panel.ghd / longest:.1f}%"></i></div>'
        f"<small>V {panel.variogram:.2f} · GHD over the probe pictures of {data}: {over_data}</small></div>"
    )
