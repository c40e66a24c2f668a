"""From pictures in folders (or ImageNet's original tar files) to shards: `python -m trainer pack`."""
