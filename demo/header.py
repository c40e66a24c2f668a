"""The head of the page: what is served, since when, and what is wrong if something is."""

from html import escape
from urllib.parse import urlsplit

from demo.serving import State, describe
from shared.registry import Served

_START_COMMANDS = (
    "<code>make demo</code> or <code>python -m trainer quickstart</code> trains small networks within minutes; "
    "<code>python -m demo --model drn_c_26</code> shows a network with random weights."
)


def header(state: State, device: str, mlflow_ui: str | None) -> str:
    return (
        '<div class="dg dg-header"><h1>degrid</h1><p class="sub">Residual and dilated residual networks: what they '
        f"see, and the grid that dilation leaves behind.</p>{_status(state, device, mlflow_ui)}</div>"
    )


def banner(networks: list[Served]) -> str:
    """A red line where weights are random; empty otherwise."""
    if not any(s.card.weights == "random" for s in networks):
        return ""
    return (
        '<div class="dg dg-banner" role="alert">Random weights: these networks have not been trained, so their answers '
        "mean nothing. Train one with <code>make demo</code> or <code>python -m trainer quickstart</code>.</div>"
    )


def safe_ui_address(uri: str) -> str | None:
    """The address of an MLflow server without the password that a tracking URI may carry; None if it is no server."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        return None
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}"


def _status(state: State, device: str, mlflow_ui: str | None) -> str:
    trouble = _trouble(state)
    if state.served is None:
        return (
            f'<div class="dg-status waiting" role="status"><b>No trained network is registered yet.</b> '
            f"{_START_COMMANDS} This page starts answering by itself.{trouble}</div>"
        )
    facts = "".join(f"<span>{fact}</span>" for fact in _facts(state, state.served, device, mlflow_ui))
    aliases = state.served.version.aliases if state.served.version else ()
    badges = "".join(f' <span class="dg-badge">{escape(alias)}</span>' for alias in aliases)
    return (
        f'<div class="dg-status" role="status">Serving <b>{escape(describe(state.served))}</b>{badges}'
        f'<div class="facts">{facts}</div>{trouble}</div>'
    )


def _facts(state: State, served: Served, device: str, mlflow_ui: str | None) -> list[str]:
    card = served.card
    facts = []
    if "top1_error_pct" in card.metrics:
        facts.append(f"validation error {card.metrics['top1_error_pct']:.1f} % on {escape(card.data)}")
    elif card.weights != "random":
        facts.append(f"trained on {escape(card.data)}, error not measured")
    if card.weights not in ("trained", "random"):
        facts.append(f"weights: {escape(card.weights)}")
    facts.append(f"{len(card.classes)} classes")
    if state.loaded_at:
        facts.append(f"loaded {state.loaded_at.astimezone():%d %b %Y, %H:%M:%S %Z}")
    facts.append(f"on {escape(device)}")
    if mlflow_ui and served.version:
        link = f"{mlflow_ui}/#/runs/{served.version.run_id}"
        facts.append(f'<a href="{escape(link)}" target="_blank" rel="noopener">run in MLflow</a>')
    return facts


def _trouble(state: State) -> str:
    lines = []
    if state.unreachable_since:
        since = f"{state.unreachable_since.astimezone():%H:%M:%S}"
        lines.append(f"The registry has not answered since {since}; what is loaded goes on answering.")
    lines += [f"Could not be loaded: {failure}" for failure in state.failures]
    return "".join(f'<div class="trouble">{escape(line)}</div>' for line in lines)
