"""From frame to frame, without ROS and without threads of its own: query sets, slots, rotation, hysteresis, labels."""
