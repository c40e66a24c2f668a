"""Colours, fonts and layout of the page: quiet, readable in light and dark, nothing fetched from elsewhere."""

import gradio as gr

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", font=_SANS, font_mono=_MONO
    ).set(
        # the default primary button has a contrast of 2.8:1
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_800",
        button_primary_text_color="white",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
    )


CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
.dg-html, .dg-html .html-container { padding: 0 !important; }
#crop img { width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; }
footer .divider { display: none; }
.dg a { color: var(--link-text-color); text-decoration: underline; }
.dg code { font-family: var(--font-mono); font-size: .92em; overflow-wrap: anywhere; }
.dg p { margin: 0; }
.dg-header h1 { font-size: 1.5rem; font-weight: 650; margin: 0 0 .15rem; }
.dg-header .sub { color: var(--body-text-color-subdued); margin: 0 0 .7rem; }
.dg-status { border: 1px solid var(--border-color-primary); border-left: 4px solid var(--primary-600);
  border-radius: 6px; padding: .6rem .9rem; background: var(--background-fill-secondary); line-height: 1.5; }
.dg-status.waiting { border-left-color: #d97706; }
.dg-status .facts { display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; color: var(--body-text-color-subdued); }
.dg-status .trouble { color: #92400e; margin-top: .3rem; }
.dark .dg-status .trouble { color: #fbbf24; }
.dg-banner { border-radius: 8px; padding: .6rem .9rem; background: #b91c1c; color: white; font-weight: 600; }
.dg-banner code { color: inherit; }
.dg-badge { display: inline-block; border-radius: 999px; padding: 0 .55rem; font-size: .82em; font-weight: 600;
  background: var(--primary-700); color: white; vertical-align: 1px; }
.dg-hint { border: 1px dashed var(--border-color-primary); border-radius: 8px; padding: 1.4rem; text-align: center;
  color: var(--body-text-color-subdued); }
.dg-verdict { font-size: 1.05rem; line-height: 1.5; padding: .2rem 0 .8rem; }
.dg-verdict small, .dg-note { color: var(--body-text-color-subdued); font-size: .88rem; line-height: 1.5; }
.dg-warn { color: #92400e; font-size: .9rem; padding-bottom: .6rem; }
.dark .dg-warn { color: #fbbf24; }
.dg-trio { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 16px; }
.dg-card { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 12px; min-width: 0;
  background: var(--block-background-fill); display: flex; flex-direction: column; gap: .5rem; margin: 0; }
.dg-card h3 { font-size: 1.02rem; font-weight: 650; margin: 0; }
.dg-card h3 span { display: block; font-weight: 400; color: var(--body-text-color-subdued); font-size: .85rem; }
.dg-card img { width: 100%; max-width: 560px; display: block; border-radius: 4px; margin: 0; }
.dg-card .shows { font-size: .85rem; color: var(--body-text-color-subdued); min-height: 2.5em;
  overflow-wrap: anywhere; }
.dg-card .why { font-size: .9rem; line-height: 1.45; flex: 1; }
.dg-score { border-top: 1px solid var(--border-color-primary); padding-top: .5rem; }
.dg-score .row { display: flex; justify-content: space-between; align-items: baseline; gap: .5rem; }
.dg-score .row b { font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.dg-track { position: relative; height: 10px; border-radius: 5px; margin: .25rem 0 .35rem;
  background: var(--border-color-primary); overflow: hidden; }
.dg-track i { position: absolute; inset: 0 auto 0 0; background: var(--primary-600); border-radius: 5px; }
.dark .dg-track i { background: var(--primary-400); }
.dg-score small { color: var(--body-text-color-subdued); font-size: .82rem; line-height: 1.4; display: block; }
.dg h2 { font-size: 1.15rem; font-weight: 650; margin: 1.4rem 0 .3rem; }
.dg p.dg-section { margin-bottom: .8rem; }
.dg p.dg-definition { margin-top: .8rem; }
button[role=tab].selected { color: var(--link-text-color) !important; }
@media (max-width: 700px) {
  .dg-trio { grid-template-columns: minmax(0, 1fr); }
  .dg-card .shows { min-height: 0; }
  .gradio-container main, .gradio-container .main { padding-left: 10px !important; padding-right: 10px !important; }
}
"""
