"""The figures of `bench step` for people."""

from collections.abc import Mapping
from typing import Any

from trainer.bench import scaling

_LOOPS = {
    "bare": "a bare loop",
    "real": "degrid's loop, batches that lie ready",
    "loaded": "degrid's loop with its loader, packed pictures",
    "timm": "timm's step, batches that lie ready",
    "bare_2": "a bare loop, 2 workers",
    "real_2": "degrid's loop, 2 workers",
    "real_2_unconnected": "2 of degrid's loops that know nothing of each other",
}


def table(found: Mapping[str, Any]) -> str:
    """Loops, then networks, then stages, then what was measured where."""
    parts = [_loops(found), _networks(found), _stages(found), _settings(found)]
    if found["scaling_on_paper"]:
        parts.append(scaling.table(found["scaling_on_paper"]).splitlines())
    return "\n".join("\n".join([*part, ""]) for part in [*parts, _origin(found)] if part).rstrip()


def _loops(found: Mapping[str, Any]) -> list[str]:
    speeds = found["images_per_s"]
    width = max(map(len, _LOOPS.values()))
    lines = [f"{found['network']:<{width}}  {'images/s':>9}"]
    lines += [f"{label:<{width}}  {speeds[name]:>9,.4g}" for name, label in _LOOPS.items() if name in speeds] + [""]
    for name, spread in found["spread"].items():
        processor = found["by_processor_time"].get(name)
        beside = "" if processor is None else f"; by processor time {processor:.3f}"
        lines.append(f"{name:<22}  {found[name]:.3f}  (rounds {spread['min']:.3f} to {spread['max']:.3f}{beside})")
    return lines


def _networks(found: Mapping[str, Any]) -> list[str]:
    lines = [f"{'network':<12} {'precision':<24} {'':<16} {'images/s':>9} {'s/step':>8} {'of peak':>8} {'GB':>6}"]
    for row in found["models"]:
        how = ", ".join([*(["compiled"] if row["compiled"] else []), *(["folded"] if row["folded"] else [])])
        precision = f"{row['precision']} {row['memory_format']}"
        lines.append(
            f"{row['name']:<12} {precision:<24} {how:<16} {row['images_per_s']:>9,.4g} {row['step_time_s']:>8.4g} "
            f"{row['share_of_peak']:>8.0%} {row['memory_gb']:>6.1f}"
        )
    peaks = ", ".join(f"{name} {tflops:.4g} TFLOPS" for name, tflops in found["peak_tflops"].items())
    source = "its maker's" if found["device"] == "cuda" else "of products of large matrices"
    return [*lines, f"peak, {source}: {peaks}"]


def _stages(found: Mapping[str, Any]) -> list[str]:
    if not found["stages"]:
        return []
    lines = [f"{'stage':<24} {'dilation':>8} {'time as it is by time folded':>30}"]
    for row in found["stages"]:
        name, spread = f"{row['model']} {row['stage']}", row["spread"]
        rounds = f"(rounds {spread['min']:.2f} to {spread['max']:.2f})"
        lines.append(f"{name:<24} {row['dilation']:>8} {row['ratio']:>10.2f}  {rounds}")
    return lines


def _settings(found: Mapping[str, Any]) -> list[str]:
    """What to put into a recipe."""
    lines = []
    for name in dict.fromkeys(row["model"] for row in found["stages"]):
        stages = ", ".join(f'"{stage}"' for stage in found["phase_folded_stages"][name])
        advice = f"model.phase_folded_stages=[{stages}]" if stages else "no stage is clearly faster folded: fold none"
        lines.append(f"{name}: {advice}")
    return lines


def _origin(found: Mapping[str, Any]) -> list[str]:
    hardware = found["hardware"]
    device = hardware["gpu"] if found["device"] == "cuda" else f"{hardware['cpu']}, a core for each process"
    turns = f"{found['rounds']} rounds of {found['steps_per_turn']} steps"
    pictures = f"{found['batch_size']} images of {found['image_size']} px each"
    return [
        f"{device}; {hardware['cores']} cores; {turns}, {pictures}; {found['loader_processes']} loader process(es)",
        f"logging: {found['logging']}",
        ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
    ]
