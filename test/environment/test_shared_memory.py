"""Room in /dev/shm for the segments of Fast DDS."""

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from esam_perception.environment.shared_memory import FOLDER, segment_bytes, shortage
from test.conftest import ROOT

PROFILE = ROOT / "config" / "fastdds.xml"
MEGABYTE = 1 << 20
SEGMENT = 32 * MEGABYTE  # of config/fastdds.xml


def room(total: int, free: int | None = None):
    """A statvfs of a /dev/shm of that many bytes."""
    return lambda folder: SimpleNamespace(
        f_frsize=4096, f_blocks=total // 4096, f_bavail=(total if free is None else free) // 4096
    )


def test_the_segment_is_the_profiles(tmp_path):
    assert segment_bytes(PROFILE) == SEGMENT
    for text in ("", "no XML", "<profiles/>", "<a><segment_size>many</segment_size></a>"):
        (tmp_path / "other.xml").write_text(text)
        assert segment_bytes(tmp_path / "other.xml") == 0
    assert segment_bytes(tmp_path / "nowhere.xml") == 0
    (tmp_path / "users.xml").write_text('<p xmlns="urn:x"><t><segment_size> 1048576 </segment_size></t></p>')
    assert segment_bytes(tmp_path / "users.xml") == MEGABYTE


def test_dockers_default_is_too_small_and_what_is_advised_is_enough():
    told = shortage(PROFILE, room(64 * MEGABYTE))
    assert "/dev/shm has 64 MB" in told and "--shm-size=512m" in told and "--ipc=host" in told and "\n" not in told
    assert shortage(PROFILE, room(512 * MEGABYTE)) == ""


@settings(deadline=None)
@given(total=st.integers(0, 1 << 36), free=st.integers(0, 1 << 36))
def test_it_is_said_where_three_segments_do_not_fit_or_not_one_more(total, free):
    free = min(free, total)
    pages = [4096 * (size // 4096) for size in (total, free)]
    assert bool(shortage(PROFILE, room(total, free))) == (pages[0] < 3 * SEGMENT or pages[1] < SEGMENT)


def test_no_shared_memory_at_all_is_said_and_no_profile_needs_none():
    def missing(folder):
        raise FileNotFoundError(2, "No such file or directory", folder)

    assert f"{FOLDER}: No such file or directory" in shortage(PROFILE, missing)
    assert shortage("", missing) == ""
