"""Nodes in processes of their own that need not import everything anew: a start costs a tenth of its CPU time so."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

from esam_perception.environment.processes import Child, ros_arguments

# A fresh process that imports what a node imports, and joins no ROS graph; every node is a fork of it.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["esam_perception.ros.node.node", "esam_perception.pipeline.pipeline"])


class ForkedChild(Child):
    """A Child whose interpreter did not start anew. How it ends is not that of an interpreter of its own, so that a test of
    an end, and one of other modules than the installed ones, takes a Child."""

    def __init__(self, module: str, parameters: dict[str, object], log: Path, environment: dict[str, str]) -> None:
        self.name, self.log = module.rsplit(".", 1)[1], log
        log.touch()
        ready, told = CONTEXT.Pipe(duplex=False)
        arguments = (module, ros_arguments(parameters), str(log), environment, told)
        self._process = _Forked(CONTEXT.Process(target=_run, args=arguments, daemon=True))
        told.close()
        ready.recv()


class _Forked:
    """What Child wants of a subprocess.Popen, of a multiprocessing.Process."""

    def __init__(self, process) -> None:
        self._process = process
        process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> None:
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)


def _run(module: str, arguments: list[str], log: str, environment: dict[str, str], told) -> None:
    """In the fork: a process group, an environment and an output of its own, then the module's main."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output, nothing = os.open(log, os.O_WRONLY | os.O_APPEND), os.open(os.devnull, os.O_RDONLY)
    for there, here in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(there, here)
    os.environ.clear()
    os.environ.update(environment)
    # for modules that the fresh process has not imported
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["-c", *arguments]
    told.send(True)
    sys.exit(importlib.import_module(module).main())
