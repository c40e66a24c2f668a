"""The page: layout, events, and what they call."""

from collections.abc import Callable
from html import escape
from math import isnan
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demo import cards, inference
from demo.header import banner, header
from demo.inference import CLASS_MAP, LEVELS, Passes
from demo.serving import Serving, describe
from demo.tabs import classify, gridding
from demo.upload import PictureInput
from demo.views import View, panel, response_panel
from shared.labels import readable
from shared.photos import photo

REFRESH_S = 10
EXAMPLES = ("cat", "coffee", "astronaut", "rocket", "motorcycle", "coins", "brick", "retina", "hubble_deep_field")

_NAME_EXAMPLES = """() => document.querySelectorAll('.gallery-item img').forEach(
    image => { image.alt = 'Example: ' + image.src.split('/').pop().replace('.png', '').replaceAll('_', ' '); })"""
"""Gradio gives the thumbnails of examples no alternative text."""


def build_page(serving: Serving, *, mlflow_ui: str | None, scratch: Path) -> gr.Blocks:
    """Layout and events. One picture serves both tabs; the gridding tab is computed only while it is looked at."""
    device = str(serving.device)
    with gr.Blocks(title="degrid", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        head = gr.HTML(lambda: header(serving.state, device, mlflow_ui), elem_id="head", elem_classes="dg-html")
        seen = gr.State("")
        active = gr.State("classify")
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=280):
                picture = PictureInput(
                    type="pil",
                    label="Your picture",
                    sources=["upload", "webcam", "clipboard"],
                    height=300,
                    buttons=[],
                    alt_text="The picture that you chose",
                    elem_id="picture",
                )
                gr.Examples(_example_files(scratch), picture, label="Or take one of these", cache_examples=False)
            with gr.Column(scale=11, min_width=300), gr.Tabs():
                with gr.Tab("Classify", id="classify") as classify_tab:
                    first = classify.layout()
                with gr.Tab("Gridding", id="gridding") as gridding_tab:
                    second = gridding.layout()

        gr.on(
            [gr.Timer(REFRESH_S).tick, blocks.load],
            refresher(serving, device, mlflow_ui),
            [seen, second.class_name],
            [head, first.banner, second.banner, second.class_name, seen],
            show_progress="hidden",
            api_visibility="private",
        )
        blocks.load(None, js=_NAME_EXAMPLES)
        show = comparer(serving, Passes())
        looks = [picture, *second.choosers]
        classified = gr.on(
            [picture.change, seen.change],
            classifier(serving),
            picture,
            [first.classes, first.crop, first.note],
            api_name="classify",
        )
        classified.failure(
            lambda: [_hint("This picture cannot be used."), gr.skip(), {}],
            None,
            second.results,
            api_visibility="private",
        )
        classified.success(
            # one event per picture: a second one would repeat the message about a picture that cannot be read
            lambda tab, *look: show(*look) if tab == "gridding" else [gr.skip()] * len(second.results),
            [active, *looks],
            second.results,
            api_visibility="private",
            concurrency_id="gridding",
        )
        classify_tab.select(lambda: "classify", None, active, show_progress="hidden", api_visibility="private")
        gridding_tab.select(lambda: "gridding", None, active, show_progress="hidden", api_visibility="private").then(
            show, looks, second.results, api_name="gridding", concurrency_id="gridding"
        )
        gr.on(
            [chooser.change for chooser in second.choosers],
            show,
            looks,
            second.results,
            trigger_mode="always_last",
            api_visibility="private",
            concurrency_id="gridding",
        )
        second.level.change(
            lambda level: (gr.update(visible=level != CLASS_MAP), gr.update(visible=level == CLASS_MAP)),
            second.level,
            [second.feature_row, second.class_row],
            show_progress="hidden",
            api_visibility="private",
        )
    return blocks


def refresher(serving: Serving, device: str, mlflow_ui: str | None) -> Callable[[str, str], list[Any]]:
    """Redraws what depends on the served networks, but only when they have changed."""

    def refresh(seen: str, class_name: str) -> list[Any]:
        state = serving.state
        if state.fingerprint == seen:
            return [gr.skip()] * 5
        trio = list(state.trio.values())
        classes = tuple((readable(name), name) for name in trio[0].card.classes) if trio else ()
        return [
            header(state, device, mlflow_ui),
            _shown_if_any(banner([state.served] if state.served else [])),
            _shown_if_any(banner(trio)),
            gr.update(
                choices=gridding.class_choices(classes),
                value=class_name if any(class_name == name for _, name in classes) else "",
            ),
            state.fingerprint,
        ]

    return refresh


def classifier(serving: Serving) -> Callable[..., tuple[Any, Any, str]]:
    def classify_picture(picture: Image.Image | None) -> tuple[dict[str, float] | None, Image.Image | None, str]:
        served = serving.state.served
        if picture is None:
            return None, None, _hint("Choose a picture: the five most probable classes appear here.")
        if served is None:
            return None, None, _hint("No network is there yet; your picture is classified as soon as one is.")
        result = inference.classify(served, picture)
        width, height = result.crop.size
        note = (
            f"{escape(describe(served))} took {result.seconds * 1000:.0f} ms and saw {width} &times; {height} pixels."
        )
        return dict(result.top), result.crop, f'<p class="dg dg-note">{note}</p>'

    return classify_picture


def comparer(serving: Serving, passes: Passes) -> Callable[..., tuple[str, str, dict[str, Any]]]:
    def compare(
        picture: Image.Image | None, level: str, channels: str, rank: float, class_name: str, own_scale: bool
    ) -> tuple[str, str, dict[str, Any]]:
        state = serving.state
        if not state.trio:
            return cards.missing(state.trio_data), "", {}
        if level not in (*LEVELS, CLASS_MAP):
            raise gr.Error(f"There is no level {level!r}.", print_exception=False)
        if class_name and not any(class_name in s.card.classes for s in state.trio.values()):
            raise gr.Error(f"These networks know no class {class_name!r}.", print_exception=False)
        responses = [response_panel(k, s, passes.of_one_pixel(s), level) for k, s in state.trio.items()]
        below = cards.one_pixel(responses, level, data=state.trio_data)
        if picture is None:
            return _hint("Choose a picture: its maps in DRN-A, B and C appear here side by side."), below, {}
        view = View(
            level=level, channel_rank=int(rank) if channels == gridding.ONE else None, class_name=class_name or None
        )
        panels = [panel(k, s, passes.of_picture(s, picture), view) for k, s in state.trio.items()]
        scores = {
            p.letter: {
                "network": describe(p.served),
                "layer": p.layer,
                "ghd": None if isnan(p.ghd) else p.ghd,
                "variogram": None if isnan(p.variogram) else p.variogram,
            }
            for p in panels
        }
        return cards.comparison(panels, level, own_scale=own_scale, data=state.trio_data), below, scores

    return compare


def _hint(text: str) -> str:
    return f'<div class="dg dg-hint">{text}</div>'


def _shown_if_any(html: str) -> dict[str, Any]:
    return gr.update(value=html, visible=bool(html))


def _example_files(folder: Path) -> list[str]:
    files = [folder / f"{name}.png" for name in EXAMPLES]
    for name, file in zip(EXAMPLES, files, strict=True):
        photo(name).save(file)
    return [str(file) for file in files]
