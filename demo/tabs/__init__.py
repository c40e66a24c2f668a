"""One module per tab, layout only."""
