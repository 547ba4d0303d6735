"""Types <-> messages, QoS, TF."""
