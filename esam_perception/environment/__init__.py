"""What surrounds the graph, without importing ROS: distributions, DDS, domains, child processes, shared memory."""
