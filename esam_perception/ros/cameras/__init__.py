"""Camera nodes: the simulated tabletop, files and the recorded clip."""
