#!/bin/bash
# ROS and the package, sourced, before what the container runs.
set -e
# shellcheck disable=SC1091
source /ws/install/setup.bash
exec "$@"
