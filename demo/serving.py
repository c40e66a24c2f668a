"""Follows the registry: which networks answer now, and what is wrong if something is."""

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import torch

from shared import registry
from shared.errors import UserError
from shared.photos import photo
from shared.registry import Served, Version

POLL_S = 10.0
RETRY_S = 300.0
"""A version that failed to load is tried again after this: its files may have been out of reach only for a while."""

TRIO = {"A": "drn_a_18", "B": "drn_b_26", "C": "drn_c_26"}
"""Letter of the gridding tab -> the architecture that stands in where none is registered."""

log = logging.getLogger(__name__)

_Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What the page shows; replaced as a whole, so that one request never sees half of a change."""

    served: Served | None = None
    loaded_at: datetime | None = None
    trio: dict[str, Served] = field(default_factory=dict)
    """Letter -> network, all of one data set; a letter that nobody has trained is absent."""

    trio_data: str = "photos"
    unreachable_since: datetime | None = None
    failures: tuple[str, ...] = ()
    """One line for each version that could not be loaded."""

    @property
    def fingerprint(self) -> str:
        """Differs whenever the page should be drawn anew."""
        networks = [describe(s) + str(s.version and s.version.aliases) for s in (self.served, *self.trio.values()) if s]
        return repr((networks, self.loaded_at, self.trio_data, self.unreachable_since, self.failures))


def describe(served: Served) -> str:
    """One phrase for a network: `drn_c_26-photos, version 3` or `drn_c_26 with random weights`."""
    if served.version is None:
        return f"{served.card.architecture} with random weights"
    return f"{served.version.name}, version {served.version.number}"


class Serving:
    """Keeps a State up to date from a background thread.

    Args:
        reference: what shared.registry.load takes; None follows the newest registered version.
        poll_s: seconds between two looks at the registry.
    """

    def __init__(self, reference: str | None = None, *, poll_s: float = POLL_S) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._reference = reference
        self._poll_s = poll_s
        self._state = State()
        self._loaded: dict[_Key, tuple[Served, datetime]] = {}
        self._failed: dict[_Key, tuple[str, float]] = {}
        self._random: dict[str, Served] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)

    @property
    def state(self) -> State:
        return self._state

    def start(self) -> None:
        """Load the first network, then follow the registry in the background.

        Raises:
            UserError: no such model, or the registry is needed and does not answer.
        """
        if self._follows_registry:
            registry.check_reachable()
            if self._reference:
                version = registry.resolve(self._reference)
                if self._load(version) is None:
                    raise UserError(self._failed[_key(version)][0])
            self._serve(registry.versions())
        else:
            assert self._reference is not None
            served = self._untrained(self._reference)
            self._state = replace(self._state, served=served, loaded_at=_now())
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def refresh(self) -> None:
        """Look at the registry once; an answer that does not come changes nothing but `unreachable_since`."""
        try:
            with registry.impatient():
                known = registry.versions()
        except Exception as error:  # MLflow lets errors of SQLAlchemy, requests and urllib through
            if self._state.unreachable_since is None:
                log.warning("the registry does not answer (%s)", str(error).splitlines()[0][:160])
                self._state = replace(self._state, unreachable_since=_now())
            return
        if self._state.unreachable_since is not None:
            log.warning("the registry answers again")
            self._state = replace(self._state, unreachable_since=None)
        if self._follows_registry:
            self._serve(known)
        self._gather_trio(known)
        self._forget(known)

    @property
    def _follows_registry(self) -> bool:
        return self._reference is None or registry.names_a_version(self._reference)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.refresh()
            except Exception:  # the thread must outlive every surprise: the old network goes on answering
                log.exception("following the registry failed; trying again")
            self._stopped.wait(self._poll_s)

    def _serve(self, known: Sequence[Version]) -> None:
        """Swap in the first wanted version that loads; keep the present one where none does."""
        wanted = known
        if self._reference:
            # its alias may be gone, or the registry may have been emptied: the present network stays
            with contextlib.suppress(UserError):
                wanted = [registry.resolve(self._reference)]
        for version in wanted:
            served = self._load(version)
            if served is not None:
                if _identity(self._state.served) != _identity(served):
                    log.info("serving %s", describe(served))
                self._state = replace(self._state, served=served, loaded_at=self._loaded[_key(version)][1])
                return

    def _gather_trio(self, known: Sequence[Version]) -> None:
        data, candidates = choose_trio(known)
        trio = {}
        for letter in TRIO:
            loaded = (self._load(version) for version in candidates.get(letter, []))
            served = next((s for s in loaded if s is not None), None)
            if served is not None:
                trio[letter] = served
        if len(trio) < len(TRIO) and not self._follows_registry:
            trio, data = {letter: self._untrained(self._stand_in(letter)) for letter in TRIO}, "none"
        self._state = replace(self._state, trio=trio, trio_data=data)

    def _stand_in(self, letter: str) -> str:
        chosen = self._reference or ""
        return chosen if chosen.startswith(f"drn_{letter.lower()}_") else TRIO[letter]

    def _untrained(self, architecture: str) -> Served:
        if architecture not in self._random:
            served = registry.untrained(architecture)
            served.model.to(self.device)
            self._random[architecture] = served
        return self._random[architecture]

    def _load(self, version: Version) -> Served | None:
        """The network of a version, loaded once; None where it cannot be."""
        key = _key(version)
        if key in self._loaded:
            return replace(self._loaded[key][0], version=version)  # its aliases may have moved
        if key in self._failed and time.monotonic() < self._failed[key][1]:
            return None
        try:
            served = registry.load_version(version)
            served.model.to(self.device)
            _smoke_test(served, self.device)
        except Exception as error:  # whatever is wrong with one version must not stop the others
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:240]
            message = reason if reason.startswith(version.uri) else f"{version.uri}: {reason}"
            log.warning("cannot be served: %s", message)
            self._failed[key] = message, time.monotonic() + RETRY_S
            self._state = replace(self._state, failures=tuple(text for text, _ in self._failed.values()))
            return None
        self._failed.pop(key, None)
        self._loaded[key] = served, _now()
        return served

    def _forget(self, known: Sequence[Version]) -> None:
        """Release networks that no one looks at any more, and failures of versions that are gone."""
        in_use = {_identity(s) for s in (self._state.served, *self._state.trio.values())}
        self._loaded = {key: value for key, value in self._loaded.items() if key in in_use}
        there = {_key(version) for version in known}
        self._failed = {key: value for key, value in self._failed.items() if key in there}
        self._state = replace(self._state, failures=tuple(text for text, _ in self._failed.values()))


def choose_trio(known: Sequence[Version]) -> tuple[str, dict[str, list[Version]]]:
    """The data set to compare DRN-A, B and C on, and for each letter its versions there, newest first.

    A data set with all three letters wins over one with fewer; among equals the one trained on last.
    """
    by_data: dict[str, dict[str, list[Version]]] = {}
    for version in known:
        for letter in TRIO:
            if version.architecture.startswith(f"drn_{letter.lower()}_"):
                by_data.setdefault(version.tags.get("data", ""), {}).setdefault(letter, []).append(version)
    if not by_data:
        return "photos", {}
    data = max(by_data, key=lambda name: len(by_data[name]))  # the first, so the newest, among equals
    return data, by_data[data]


def _smoke_test(served: Served, device: torch.device) -> None:
    images = served.card.transform(photo("cat"))[None].to(device)
    with torch.inference_mode():
        logits = served.model(images)
    if logits.shape != (1, len(served.card.classes)) or not logits.isfinite().all():
        raise UserError("its answer to a sample picture is not one finite number per class")


def _key(version: Version) -> _Key:
    return version.uri, version.source


def _identity(served: Served | None) -> _Key | None:
    return _key(served.version) if served and served.version else None


def _now() -> datetime:
    return datetime.now(UTC)
