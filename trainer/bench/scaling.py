"""`bench scaling`: how far data-parallel training scales on paper, from a step time and stated assumptions.

After every update each GPU needs the sum of all gradients. A ring all-reduce (the scheme of NCCL's large messages) has
every GPU send 2 (n - 1) / n times the gradients; across nodes the ring leaves each node as often, so the node's network
is what all of its GPUs share. DDP sends gradients in buckets while the backward pass goes on: all but the last bucket
hide behind it as far as it lasts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.errors import UserError
from shared.models import describe

NUM_GPUS = (8, 16, 64, 256, 1024)
NETWORKS_GBIT_S = (100, 200, 400)


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumptions:
    gpus_per_node: int = 8
    bytes_per_parameter: int = 4
    """Gradients in fp32."""

    node_gb_s: float = 200.0
    """What an all-reduce within a node gets of NVLink, in each direction: about two thirds of an A100's 300 GB/s."""

    network_share: float = 0.8
    """What it gets of the network's nominal speed."""

    hop_s: float = 10e-6
    """Latency of a message; a bucket's takes 2 log2(n) of them, one after the other (NCCL's trees)."""

    bucket_mb: float = 25.0
    """DDP's default."""

    backward_share: float = 2 / 3
    """Of the step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Of one GPU by itself."""

    model: str
    step_time_s: float
    batch_size: int
    source: str


# No step of an H100 is published; the time of drn_c_42 is not either
PUBLISHED = Step(
    model="resnet50", step_time_s=256 / 2470, batch_size=256, source="published: A100-80GB, 2,470 images/s (NVIDIA)"
)


def default_steps() -> list[Step]:
    """A published one, and what drn_c_42 would take if it ran at as many operations a second."""
    factor = describe("drn_c_42", num_classes=1000).gmacs / describe("resnet50", num_classes=1000).gmacs
    assumed = Step(
        model="drn_c_42",
        step_time_s=PUBLISHED.step_time_s * factor,
        batch_size=PUBLISHED.batch_size,
        source=f"assumed: resnet50's, times {factor:.2f} for its operations",
    )
    return [PUBLISHED, assumed]


def asked_for(model: str | None, step_time_s: float | None, batch_size: int) -> list[dict[str, Any]]:
    """For the command line.

    Raises:
        UserError: a network without a step time or the reverse, an unknown one, or numbers out of range.
    """
    if model is None and step_time_s is None:
        return [on_paper(step) for step in default_steps()]
    if model is None or step_time_s is None:
        raise UserError("--model and --step-time-s belong together; `python -m trainer bench step` measures step times")
    if step_time_s <= 0 or batch_size < 1:
        raise UserError(f"--step-time-s {step_time_s:g} and --batch-size {batch_size} should both be positive")
    return [on_paper(Step(model=model, step_time_s=step_time_s, batch_size=batch_size, source="given"))]


def from_measured(rows: Sequence[Mapping[str, Any]], batch_size: int) -> list[dict[str, Any]]:
    """For every network, at its fastest measured step."""
    fastest = {row["name"]: row for row in sorted(rows, key=lambda row: -row["step_time_s"])}
    return [
        on_paper(Step(model=name, step_time_s=row["step_time_s"], batch_size=batch_size, source="measured"))
        for name, row in fastest.items()
    ]


def on_paper(step: Step, given: Assumptions = Assumptions()) -> dict[str, Any]:
    """What goes into JSON: traffic, and for every number of GPUs the time of the all-reduce and the efficiency."""
    gradient_bytes = describe(step.model, num_classes=1000).params * given.bytes_per_parameter
    rows = []
    for num_gpus in NUM_GPUS:
        within_node = num_gpus <= given.gpus_per_node
        for network_gbit_s in (None,) if within_node else NETWORKS_GBIT_S:
            all_reduce_s = all_reduce_time_s(gradient_bytes, num_gpus, network_gbit_s, given)
            efficiency = _efficiency(step.step_time_s, gradient_bytes, all_reduce_s, given)
            rows.append(
                {
                    "gpus": num_gpus,
                    "network_gbit_s": network_gbit_s,
                    "sent_gb_per_gpu": _ring_share(num_gpus) * gradient_bytes / 1e9,
                    "all_reduce_s": all_reduce_s,
                    "efficiency": efficiency,
                    "images_per_s": efficiency * num_gpus * step.batch_size / step.step_time_s,
                }
            )
    return asdict(step) | {"gradient_mb": gradient_bytes / 1e6, "rows": rows, "assumptions": asdict(given)}


def all_reduce_time_s(gradient_bytes: float, num_gpus: int, network_gbit_s: float | None, given: Assumptions) -> float:
    """Of all gradients.

    Args:
        network_gbit_s: of a node, in each direction; None: there is one node.
    """
    gb_s = given.node_gb_s
    if network_gbit_s is not None:
        gb_s = min(gb_s, given.network_share * network_gbit_s / 8)
    latency_s = _num_buckets(gradient_bytes, given) * 2 * math.log2(num_gpus) * given.hop_s
    return _ring_share(num_gpus) * gradient_bytes / (gb_s * 1e9) + latency_s


def _efficiency(step_time_s: float, gradient_bytes: float, all_reduce_s: float, given: Assumptions) -> float:
    last_bucket_s = all_reduce_s / _num_buckets(gradient_bytes, given)
    exposed_s = max(last_bucket_s, all_reduce_s - given.backward_share * step_time_s)
    return step_time_s / (step_time_s + exposed_s)


def _num_buckets(gradient_bytes: float, given: Assumptions) -> int:
    return math.ceil(gradient_bytes / (given.bucket_mb * 1e6))


def _ring_share(num_gpus: int) -> float:
    return 2 * (num_gpus - 1) / num_gpus


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """For people: all-reduce and efficiency side by side for the speeds of a node's network."""
    networks = "".join(f"{f'{speed} Gbit/s':>20}" for speed in NETWORKS_GBIT_S)
    lines = []
    for step in found:
        on_one = f"{step['step_time_s']:.4f} s for {step['batch_size']} images on one GPU ({step['source']})"
        lines += [f"{step['model']}: {on_one}; gradients {step['gradient_mb']:.0f} MB"]
        lines += [f"{'GPUs':>6} {'sent by each':>14}{networks}"]
        for num_gpus in NUM_GPUS:
            rows = [row for row in step["rows"] if row["gpus"] == num_gpus]
            cells = "".join(f"{row['all_reduce_s'] * 1e3:>9.1f} ms {row['efficiency']:>7.1%}" for row in rows)
            note = "  (NVLink alone)" if num_gpus <= step["assumptions"]["gpus_per_node"] else ""
            lines += [f"{num_gpus:>6} {rows[0]['sent_gb_per_gpu']:>11.2f} GB{cells}{note}"]
        lines += [""]
    given = found[0]["assumptions"]
    return "\n".join([*lines, f"assumed: {', '.join(f'{name}={value:.3g}' for name, value in given.items())}"])
