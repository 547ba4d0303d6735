"""`esam fetch` as a user runs it, against a hub on loopback; then the pipeline on what it fetched."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from esam_perception.commands.dispatcher import main
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.profiles.schema import ProfileError
from test.conftest import ROOT
from test.profiles.hub import serving
from test.tiny import write_tiny_profile

LAVIS_NAMES = (
    ("vision_model.embeddings.class_embedding", "visual_encoder.cls_token"),
    ("vision_model.embeddings.position_embedding", "visual_encoder.pos_embed"),
    ("vision_model.embeddings.patch_embedding.", "visual_encoder.patch_embed.proj."),
    ("vision_model.post_layernorm.", "visual_encoder.norm."),
    ("vision_model.encoder.layers.", "visual_encoder.blocks."),
    (".layer_norm", ".norm"),
    (".self_attn.qkv.", ".attn.qkv."),
    (".self_attn.projection.", ".attn.proj."),
)


def lavis_checkpoint(state: dict) -> dict:
    """The state under LAVIS' names, with what a retrieval checkpoint holds besides."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("vision_model."):
            for ours, theirs in LAVIS_NAMES:
                name = name.replace(ours, theirs)
        renamed[name] = value
    momentum = {
        name.replace("visual_encoder.", "visual_encoder_m.").replace("text_encoder.", "text_encoder_m."): value
        for name, value in renamed.items()
        if name.startswith(("visual_encoder.", "text_encoder."))
    }
    rest = {"temp": torch.tensor(0.07), "image_queue": torch.zeros(4, 8), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"model": {**renamed, **momentum, **rest}, "config": {"lr": 1e-5}, "epoch": 5}


def esam(*arguments, endpoint="http://127.0.0.1:9"):
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    environment["TQDM_POSITION"] = "-1"  # show progress bars without a terminal, too
    # without the half minute that the hub's client waits between its tries
    code = "import sys, time; time.sleep = lambda _: None; from esam_perception.commands.dispatcher import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)


def change(profile, **fields):
    """Edit the source of the BLIP weights."""
    path = profile / "profile.yaml"
    content = yaml.safe_load(path.read_text())
    content["sources"][1].update(fields)
    path.write_text(yaml.safe_dump(content))


def scores(profile):
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    (match,) = Pipeline.from_profile(str(profile), "cpu").locate(image, ["the red mug"], segment_always=True)
    return np.concatenate([match.itm_logits, match.heatmap.ravel()])


def test_from_the_hub_interrupted_and_resumed_then_never_again(published, home, tiny_profile):
    profile, files = published
    # the hub's client writes in chunks of 10 MB: only a larger file can be resumed
    save_file(load_file(files / "model.safetensors"), files / "model.safetensors", {"padding": "x" * 30_000_000})
    with serving(files) as hub:
        hub.cut = {"model.safetensors"}
        first = esam("fetch", profile, endpoint=hub.address)
        if first.returncode:  # the client gave up at the break: the user runs the command again
            first = esam("fetch", profile, endpoint=hub.address)
        assert first.returncode == 0, first.stderr
        asked = hub.spans("model.safetensors")
        size = (files / "model.safetensors").stat().st_size
        assert len(asked) == 2 and 0 < int(asked[1].removeprefix("bytes=").split("-")[0]) <= size // 2
        assert "model.safetensors" in first.stderr and "%" in first.stderr  # the progress bar
        count = len(hub.asked)
        again = esam("fetch", profile, endpoint=hub.address)
        assert again.returncode == 0 and "already" in again.stdout and len(hub.asked) == count
    np.testing.assert_array_equal(scores(profile), scores(tiny_profile))
    notes = json.loads((home / "fetched_tiny" / "fetched.json").read_text())
    assert set(notes) == {"vocab.txt", "blip.safetensors", "efficient_sam.safetensors"}
    assert all(set(note) == {"size", "sha256", "source"} for note in notes.values())


def test_lavis_names_from_a_directory_without_any_network(published, home, tiny_profile):
    profile, files = published
    torch.save(lavis_checkpoint(load_file(files / "model.safetensors")), files / "blip.pth")
    (files / "model.safetensors").unlink()
    assert main(["fetch", str(profile), "--from", str(files)]) == 0
    assert (files / "blip.pth").exists()  # the user's own files stay
    np.testing.assert_array_equal(scores(profile), scores(tiny_profile))


def test_without_network_there_is_one_error_that_says_what_to_do(published, home):
    answer = esam("fetch", published[0])
    assert answer.returncode == 1 and "Traceback" not in answer.stderr
    (line,) = answer.stderr.strip().splitlines()
    for word in ("some/blip/vocab.txt", "network", "HF_ENDPOINT", "--from DIR"):
        assert word in line


def fail_with(published, home, capsys, said, file="model.safetensors"):
    profile, files = published
    assert main(["fetch", str(profile), "--from", str(files)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and file in line
    assert not (home / "fetched_tiny" / "blip.safetensors").exists()


def edit_weights(files, edit):
    state = load_file(files / "model.safetensors")
    edit(state)
    save_file(state, files / "model.safetensors")


def test_each_thing_that_is_wrong_with_a_file_has_its_own_error(published, home, capsys):
    profile, files = published
    whole = (files / "model.safetensors").read_bytes()
    edit_weights(files, lambda state: state.pop("itm_head.bias"))
    fail_with(published, home, capsys, "missing: itm_head.bias")
    edit_weights(files, lambda state: state.update({"itm_head.bias": torch.zeros(2), "other": torch.zeros(1)}))
    fail_with(published, home, capsys, "unknown: other")
    edit_weights(files, lambda state: (state.pop("other"), state.update({"itm_head.bias": torch.zeros(3)})))
    fail_with(published, home, capsys, "shape of itm_head.bias: (3,) instead of (2,)")
    (files / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    fail_with(published, home, capsys, "truncated")
    change(profile, size=len(whole))
    fail_with(published, home, capsys, f"bytes instead of {len(whole)}")
    (files / "model.safetensors").write_bytes(whole[:-1] + b"\x01")
    change(profile, sha256="ab" * 32)
    fail_with(published, home, capsys, "SHA-256")
    (files / "model.safetensors").unlink()
    fail_with(published, home, capsys, "holds none of")


def test_pickled_code_is_never_run(published, home, tmp_path, capsys):
    profile, files = published

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (files / "model.safetensors").unlink()
    for content in (pickle.dumps({"model": Trap()}), None):
        if content:
            (files / "blip.pth").write_bytes(content)
        else:
            torch.save({"model": Trap()}, files / "blip.pth")
        fail_with(published, home, capsys, "safely", "blip.pth")
    assert not (tmp_path / "sprung").exists()


def test_what_was_altered_after_the_fetch_is_refused_by_name(published, home):
    profile, files = published
    assert main(["fetch", str(profile), "--from", str(files)]) == 0
    path = home / "fetched_tiny" / "efficient_sam.safetensors"
    whole = path.read_bytes()
    for content, said in ((whole[:-7], "truncated"), (whole[:-1] + bytes([whole[-1] ^ 1]), "SHA-256")):
        path.write_bytes(content)
        with pytest.raises(ProfileError, match=said) as error:
            Pipeline.from_profile(str(profile), "cpu")
        assert str(path) in str(error.value) and "--force" in str(error.value)
    assert main(["fetch", str(profile), "--from", str(files), "--force"]) == 0
    Pipeline.from_profile(str(profile), "cpu")


def test_at_run_time_nothing_touches_the_network(published, home):
    """With every socket forbidden, the profile is loaded and asked."""
    profile, files = published
    assert main(["fetch", str(profile), "--from", str(files)]) == 0
    code = (
        "import socket, sys\n"
        "def forbidden(*args, **kwargs): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = forbidden\n"
        "socket.socket.sendto = socket.getaddrinfo = forbidden\n"
        "import numpy as np\n"
        "from esam_perception.pipeline.pipeline import Pipeline\n"
        "for name in sys.argv[1:]:\n"
        "    match, = Pipeline.from_profile(name, 'cpu').locate(np.zeros((60, 90, 3), np.uint8), ['the red mug'])\n"
        "    print(match.verdict.name)\n"
    )
    command = [sys.executable, "-c", code, str(profile), "tabletop"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.split()) == 2


def test_what_has_nothing_to_fetch_is_wrong_usage(capsys):
    assert main(["fetch", "tabletop"]) == 2
    assert "nothing to fetch" in capsys.readouterr().err


def test_damaged_notes_are_named_and_mended_by_force(published, home, capsys):
    profile, files = published
    assert main(["fetch", str(profile), "--from", str(files)]) == 0
    notes = home / "fetched_tiny" / "fetched.json"
    for damaged in ("{", "[1]"):
        notes.write_text(damaged)
        assert main(["fetch", str(profile), "--from", str(files)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert str(notes) in line and "--force" in line
        assert main(["fetch", str(profile), "--from", str(files), "--force"]) == 0
        assert len(json.loads(notes.read_text())) == 3


def test_a_mask_head_is_fetched_too(tmp_path, home):
    """Its weights have the names of its own network."""
    profile, files = tmp_path / "profile", tmp_path / "files"
    profile.mkdir()
    write_tiny_profile(profile, with_mask_head=True)
    content = yaml.safe_load((profile / "profile.yaml").read_text())
    names = ["vocab.txt", "blip.safetensors", "efficient_sam.safetensors", "mask_head.safetensors"]
    content["sources"] = [{"target": name, "repository": "some/model", "file": name} for name in names]
    files.mkdir()
    for name in names:
        (profile / name).rename(files / name)
    for section in ("blip_weights", "efficient_sam_weights", "mask_head_weights"):
        content[section]["sha256"] = ""
    (profile / "profile.yaml").write_text(yaml.safe_dump(content))
    assert main(["fetch", str(profile), "--from", str(files)]) == 0
    image = np.zeros((60, 90, 3), np.uint8)
    (match,) = Pipeline.from_profile(str(profile), "cpu").locate(image, ["the red mug"])
    assert match.mask_head is not None


def test_profiles_lists_what_is_there(home):
    answer = esam("profiles")
    assert answer.returncode == 0
    lines = answer.stdout.splitlines()
    assert any(line.startswith("blip_base") and "esam fetch blip_base" in line for line in lines)
    assert any(line.startswith("tabletop") and "ready" in line and "auto" in line for line in lines)
