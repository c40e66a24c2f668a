"""The Ray Train job and its tools; `python -m trainer --help` lists them."""
