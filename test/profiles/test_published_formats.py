"""Full-size checkpoints in the published formats, under deterministic weights, through the code that loads real ones."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bench.models import deterministic_state
from esam_perception.commands.dispatcher import main
from esam_perception.matching.configuration import BlipArchitecture, build_blip
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.segmentation import EfficientSam, EfficientSamConfig
from esam_perception.tabletop.clip import load_clip
from test.matching.goldens import BERT_VOCAB_SIZE, SPECIAL
from test.profiles.test_fetch import lavis_checkpoint

DISK = 6e9  # bytes that the files of this test take for a while


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A directory for each format: hub (transformers' directory and EfficientSAM's .pt) and lavis (.pth)."""
    root = tmp_path_factory.mktemp("published")
    if shutil.disk_usage(root).free < DISK:
        pytest.skip(f"less than {DISK / 1e9:.0f} GB free in {root}")
    entries = [f"[unused{i}]" for i in range(BERT_VOCAB_SIZE)]
    for index, name in {**SPECIAL, 1996: "the", 2417: "red", 14757: "mug"}.items():
        entries[index] = name
    with torch.device("meta"):
        blip, sam = build_blip(BlipArchitecture()), EfficientSam(EfficientSamConfig())
    blip_state, sam_state = deterministic_state(blip), deterministic_state(sam)
    for name in ("hub", "lavis"):
        (root / name).mkdir()
        (root / name / "vocab.txt").write_text("\n".join(entries) + "\n")
        torch.save({"model": sam_state}, root / name / "efficient_sam_vitt.pt")
    save_file(blip_state, root / "hub" / "model.safetensors", {"format": "pt"})
    torch.save(lavis_checkpoint(blip_state), root / "lavis" / "model_base_retrieval_coco.pth")
    yield root, sum(value.numel() for value in blip_state.values()), sum(value.numel() for value in sam_state.values())
    shutil.rmtree(root)


@pytest.mark.long  # a GB is drawn, written, read, checked and converted for each; small ones: test_fetch.py
def test_both_formats_load_and_answer_alike(published, tmp_path, monkeypatch):
    root, blip_size, sam_size = published
    assert (blip_size, sam_size) == (223_744_258, 10_223_460)
    image = load_clip()[0].image
    answers = []
    for name in ("hub", "lavis"):
        monkeypatch.setenv("ESAM_HOME", str(tmp_path))
        assert main(["fetch", "blip_base", "--from", str(root / name)]) == 0
        pipeline = Pipeline.from_profile("auto", "cpu")  # auto takes it, now that it is there
        assert pipeline.profile.name == "blip_base" and not pipeline.provenance.notes
        (match,) = pipeline.locate(image, ["the red mug"], segment_always=True)
        assert match.gradcam.shape == (24, 24) and match.gradcam.max() == 1
        answers.append(np.concatenate([match.itm_logits, [match.itc_similarity], match.heatmap.ravel()]))
        del pipeline
        shutil.rmtree(tmp_path / "blip_base")
    np.testing.assert_array_equal(*answers)
    assert np.isfinite(answers[0]).all() and np.ptp(answers[0][3:]) > 0.01


@pytest.mark.long
def test_a_truncated_download_is_refused_by_name(published, tmp_path, monkeypatch, capsys):
    root, _, _ = published
    monkeypatch.setenv("ESAM_HOME", str(tmp_path))
    checkpoint = root / "lavis" / "model_base_retrieval_coco.pth"
    with open(checkpoint, "r+b") as file:
        file.truncate(checkpoint.stat().st_size // 2)
    assert main(["fetch", "blip_base", "--from", str(root / "lavis")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "model_base_retrieval_coco.pth" in line and "truncated" in line
