"""Mask + depth + intrinsics -> 3D target; depth paired with its image by stamp. No torch, no ROS."""
