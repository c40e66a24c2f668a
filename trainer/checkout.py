"""Which code it is that runs."""

import subprocess

from shared.store import ROOT


def code_version() -> str:
    """The git commit, with -dirty where the tree differs from it; "unknown" outside a checkout."""
    try:
        git = ["git", "-C", str(ROOT)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changes.strip() else commit
