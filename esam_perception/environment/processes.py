"""Child processes of the demo: started with the right environment, watched, always ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from esam_perception.environment.distro import loopback_environment, transport_environment
from esam_perception.environment.installed import installed

GRACE_SECONDS = 8.0


def ros_environment(domain_id: int) -> dict[str, str]:
    """This process' environment, on loopback, in a domain of its own, with shared memory large enough for images.

    What the user has set stays."""
    environment = dict(os.environ)
    environment.setdefault("ROS_DOMAIN_ID", str(domain_id))
    environment.update(loopback_environment(environment))
    environment.update(transport_environment(installed("config/fastdds.xml"), environment))
    return environment


def ros_arguments(parameters: dict[str, object], namespace: str = "") -> list[str]:
    """The command line that gives a node its parameters and its namespace."""
    arguments = ["--ros-args"]
    for key, value in parameters.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        # an empty or odd string needs YAML's quotes
        arguments += ["-p", f"{key}:={text}" if not isinstance(value, str) else f'{key}:="{text}"']
    if namespace:
        arguments += ["-r", f"__ns:={namespace}"]
    return arguments


class Child:
    """A ROS executable of this package in its own process group, its output in a log file."""

    def __init__(
        self,
        module: str,
        parameters: dict[str, object],
        log: Path,
        environment: dict[str, str],
        namespace: str = "",
    ) -> None:
        self.name, self.log = module.rsplit(".", 1)[1], log
        command = [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main())"]
        command += ros_arguments(parameters, namespace)
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal(self, number: int) -> None:
        """Send a signal to the whole group."""
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """SIGINT, and SIGKILL after a while; to the whole group."""
        for signal_number, patience in ((signal.SIGINT, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
            if self._process.poll() is not None:
                return
            try:
                self.signal(signal_number)
                self._process.wait(patience)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue
