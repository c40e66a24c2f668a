"""The tab Classify: the five most probable classes and the crop that they were found on."""

from dataclasses import dataclass

import gradio as gr


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyTab:
    banner: gr.HTML
    classes: gr.Label
    crop: gr.Image
    note: gr.HTML


def layout() -> ClassifyTab:
    banner = gr.HTML(visible=False, elem_id="banner-classify", elem_classes="dg-html")
    note = gr.HTML(elem_id="classify-note", elem_classes="dg-html")
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=280):
            classes = gr.Label(label="Most probable classes", num_top_classes=5, elem_id="classes")
        with gr.Column(scale=2, min_width=220):
            crop = gr.Image(
                label="What the network saw",
                format="png",
                interactive=False,
                height=280,
                buttons=["fullscreen"],
                alt_text="The part of the picture that the network saw, after resizing and cropping",
                elem_id="crop",
            )
    return ClassifyTab(banner=banner, classes=classes, crop=crop, note=note)
