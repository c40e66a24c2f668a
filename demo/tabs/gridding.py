"""The tab Gridding: choosers of level, channel and class, and the cards of the three networks."""

from dataclasses import dataclass

import gradio as gr

from demo.inference import CLASS_MAP, LEVELS

MEAN, ONE = "mean over channels", "one channel"
LARGEST_RANK = 16

_LEVEL_LABELS = {
    "stride-8 entry": "Stride 8, not dilated",
    "dilation 2": "Dilation 2",
    "dilation 4": "Dilation 4",
    "output": "Last features",
    CLASS_MAP: "Class map",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GriddingTab:
    banner: gr.HTML
    level: gr.Radio
    channels: gr.Radio
    rank: gr.Slider
    class_name: gr.Dropdown
    own_scale: gr.Checkbox
    feature_row: gr.Row
    class_row: gr.Row
    cards: gr.HTML
    pixel_cards: gr.HTML
    scores: gr.JSON

    @property
    def choosers(self) -> list[gr.components.Component]:
        return [self.level, self.channels, self.rank, self.class_name, self.own_scale]

    @property
    def results(self) -> list[gr.components.Component]:
        return [self.cards, self.pixel_cards, self.scores]


def layout() -> GriddingTab:
    banner = gr.HTML(visible=False, elem_id="banner-gridding", elem_classes="dg-html")
    level = gr.Radio(
        choices=[(_LEVEL_LABELS[role], role) for role in (*LEVELS, CLASS_MAP)],
        value=CLASS_MAP,
        label="Level",
        elem_id="level",
    )
    with gr.Row(visible=False) as feature_row:
        channels = gr.Radio([MEAN, ONE], value=MEAN, label="Show", elem_id="channels")
        rank = gr.Slider(
            1,
            LARGEST_RANK,
            value=1,
            step=1,
            label="Channel, by rank of its mean activation (1 is the highest)",
            interactive=True,
            elem_id="rank",
        )
    with gr.Row() as class_row:
        class_name = gr.Dropdown(
            choices=class_choices(()),
            value="",
            label="Class",
            # the list of classes changes when other networks are registered
            allow_custom_value=True,
            interactive=True,
            elem_id="class",
        )
    own_scale = gr.Checkbox(False, label="Own colour scale for each picture", elem_id="own-scale")
    cards = gr.HTML(elem_id="cards", elem_classes="dg-html")
    pixel_cards = gr.HTML(elem_id="one-pixel", elem_classes="dg-html")
    scores = gr.JSON(visible=False, label="Scores")
    return GriddingTab(
        banner=banner,
        level=level,
        channels=channels,
        rank=rank,
        class_name=class_name,
        own_scale=own_scale,
        feature_row=feature_row,
        class_row=class_row,
        cards=cards,
        pixel_cards=pixel_cards,
        scores=scores,
    )


def class_choices(classes: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """(readable label, class name) pairs, led by the default."""
    return [("Each network's own top class", ""), *classes]
