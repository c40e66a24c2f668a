"""What trainer and demo must agree on: networks, transforms, labels, gridding, cards and the registry."""
