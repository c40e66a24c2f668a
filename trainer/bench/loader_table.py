"""The figures of `bench loader` for people."""

from collections.abc import Mapping
from typing import Any

_ROWS = {
    "reference_raw": "torchvision's recipe, raw files",
    "raw": "degrid, raw files",
    "packed": "degrid, packed at 256 px",
    "reference_packed": "torchvision's recipe, packed pictures as files",
    "decoder_raw": "simplejpeg.decode_jpeg alone, raw",
    "decoder_packed": "simplejpeg.decode_jpeg alone, packed",
}
_SCALING_ROWS = {
    "raw_2": "degrid, raw files, 2 processes on 2 cores",
    "raw_2_unconnected": "the same as 2 loaders that know nothing of each other",
    "raw_alone": "1 process, nothing beside it",
}


def table(found: Mapping[str, Any]) -> str:
    """Speeds, then what follows from them, then what was measured where."""
    core, clock = found["images_per_core_s"], found["images_per_s"]
    width = max(map(len, [*_ROWS.values(), *_SCALING_ROWS.values()]))
    lines = [f"{'images per second and process':<{width}}  {'a core':>9} {'clock':>9} {'x reference':>12}"]
    for name, label in _ROWS.items():
        ratio = core[name] / core["reference_raw"]
        lines += [f"{label:<{width}}  {core[name]:>9,.0f} {clock[name]:>9,.0f} {ratio:>12.2f}"]
    lines += [f"{label:<{width}}  {core[name]:>9,.0f} {clock[name]:>9,.0f}" for name, label in _SCALING_ROWS.items()]
    lines += ["", *(_ratio_line(found, name) for name in found["spread"]), *_other_lines(found), "", *_origin(found)]
    return "\n".join(lines)


def _ratio_line(found: Mapping[str, Any], name: str) -> str:
    spread = found["spread"][name]
    clock = found["on_the_clock"][name]
    return (
        f"{name:<22}  {found[name]:.2f}  (rounds {spread['min']:.2f} to {spread['max']:.2f}; on the clock {clock:.2f})"
    )


def _other_lines(found: Mapping[str, Any]) -> list[str]:
    index = found["index"]
    company = f"{index['entries']:,} entries, {index['processes']} loader processes and the one they serve"
    return [
        f"{'index_open_s':<22}  {found['index_open_s']:.3f}",
        f"{'index_memory_mb':<22}  {found['index_memory_mb']:.0f}  ({company})",
        f"{'waited_share':<22}  {found['waited_share']:.2f}  (of the time, for a core; near 0 on a quiet machine)",
    ]


def _origin(found: Mapping[str, Any]) -> list[str]:
    seen, hardware = found["pictures"], found["hardware"]
    left_out = f" ({seen['undecodable']} that cannot be decoded left out)" if seen["undecodable"] else ""
    sizes = f"{seen['mean_kb']:.1f} kB on average, packed {seen['packed_mean_kb']:.1f} kB"
    how = f"{found['processes']} process(es), batches of {found['batch_size']}, {found['rounds']} rounds"
    return [
        f"{seen['count']} pictures{left_out} from {seen['source']}: {sizes}",
        f"{hardware['cpu']}, {hardware['cores']} cores; {how}",
        ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
    ]
