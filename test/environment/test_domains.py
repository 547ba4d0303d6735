"""DDS domains are claimed: no two processes of a machine are given the same one, and none that somebody uses."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from esam_perception.environment.domains import DOMAINS, FIRST_PORT, PORTS, NoFreeDomain, claimed_domain
from test.conftest import ROOT

# claims a domain of the folder, says which, and holds it until its input ends
HOLD = (
    "import sys; from pathlib import Path; from esam_perception.environment.domains import claimed_domain\n"
    "with claimed_domain(Path(sys.argv[1])) as domain:\n"
    "    print(domain, flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def hold(tmp_path):
    """A function that starts a process which claims a domain and holds it: (the process, the domain)."""
    held = []

    def start():
        command = [sys.executable, "-c", HOLD, str(tmp_path)]
        held.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        return held[-1]

    yield lambda: (process := start(), int(process.stdout.readline()))
    for process in held:
        process.communicate()


def test_no_two_processes_hold_the_same_one_and_a_death_gives_it_back(hold, tmp_path):
    (first, one), (_, two) = hold(), hold()
    with claimed_domain(tmp_path) as three, claimed_domain(tmp_path) as four:
        assert len({one, two, three, four}) == 4 and {one, two, three, four} <= set(DOMAINS)
    first.send_signal(signal.SIGKILL)
    first.wait()
    with claimed_domain(tmp_path, (one,)) as again:
        assert again == one
    with pytest.raises(NoFreeDomain, match="ROS_DOMAIN_ID"), claimed_domain(tmp_path, (two,)):
        pass


def test_one_that_somebody_uses_without_a_claim_is_passed_over(tmp_path):
    with claimed_domain() as free, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", FIRST_PORT + PORTS * free + 11))
        with pytest.raises(NoFreeDomain), claimed_domain(tmp_path, (free,)):
            pass
        taken.close()
        with claimed_domain(tmp_path, (free,)) as domain:
            assert domain == free


def test_one_with_a_node_in_it_is_passed_over(tmp_path):
    rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from rclpy.context import Context
    from rclpy.node import Node

    context = Context()
    with claimed_domain() as domain:
        rclpy.init(context=context, domain_id=domain)
        node = Node("somebody", context=context)
        with pytest.raises(NoFreeDomain), claimed_domain(tmp_path, (domain,)):
            pass
        node.destroy_node()
        context.shutdown()


def test_a_lock_that_cannot_be_opened_is_passed_over(tmp_path):
    (tmp_path / f"esam_domain_{DOMAINS[0]}.lock").symlink_to(tmp_path / "precious")
    with claimed_domain(tmp_path) as domain:
        assert domain in DOMAINS[1:]
    assert not (tmp_path / "precious").exists()


def test_the_next_user_can_take_it_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        with claimed_domain(tmp_path) as domain:
            pass
    finally:
        os.umask(before)
    assert (tmp_path / f"esam_domain_{domain}.lock").stat().st_mode & 0o777 == 0o644
