"""What the node says of itself: counters, diagnostics, connections."""
