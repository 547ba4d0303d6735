"""Training that was interrupted in the middle of a stage ends as if nothing had happened."""

from types import SimpleNamespace

import pytest
import torch

from esam_perception.commands.dispatcher import main
from esam_perception.profiles.schema import read_profile
from esam_perception.segmentation import EfficientSam
from esam_perception.training import loop
from esam_perception.training.loop import train_stage
from esam_perception.training.measure.curves import read_curve
from esam_perception.training.stages.segmentation import SegmentationStage
from test.tiny import SAM, write_tiny_profile
from test.training.test_training import FewScenes, tiny_matching_stage

STEPS = 56  # the log gets its line at 50: in the part that is done anew


class Interrupted(BaseException):
    """As KeyboardInterrupt, which a test must not swallow."""


@pytest.fixture
def slow_clock(monkeypatch):
    """Every look at the clock is 25 s after the one before: there is a checkpoint every third step."""
    times = iter(range(0, 10**6, 25))
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(times)))


def small_network():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 1))


def loss_of_small(stage, step):
    batch = torch.rand(16, 4, generator=torch.Generator().manual_seed(step))
    return {"loss": (stage(batch)[:, 0] - batch.sum(1)).square().mean()}


def run(work, new_stage, loss_of, steps, interrupt_at=None, **options):
    """The stage after training, and the steps that were asked for."""
    torch.manual_seed(0)
    stage, asked = new_stage(), []

    def loss(step):
        if step == interrupt_at:
            raise Interrupted
        asked.append(step)
        return loss_of(stage, step)

    try:
        train_stage("s", work, stage, loss, steps, 2e-3, warm_up=5, **options)
    except Interrupted:
        assert interrupt_at is not None
    return stage, asked


def same(stage, other):
    for (name, a), (_, b) in zip(stage.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("muon_rate", [0.0, 0.01])
def test_it_goes_on_from_the_last_checkpoint(tmp_path, slow_clock, muon_rate):
    whole, asked = run(tmp_path / "whole", small_network, loss_of_small, STEPS, muon_rate=muon_rate)
    assert asked == list(range(STEPS))
    _, asked = run(tmp_path / "parts", small_network, loss_of_small, STEPS, interrupt_at=11, muon_rate=muon_rate)
    assert asked == list(range(11))
    _, asked = run(tmp_path / "parts", small_network, loss_of_small, STEPS, interrupt_at=53, muon_rate=muon_rate)
    assert asked == list(range(9, 53))  # two steps after the checkpoint were lost
    resumed, asked = run(tmp_path / "parts", small_network, loss_of_small, STEPS, muon_rate=muon_rate)
    assert 0 < asked[0] < 53 and asked[-1] == STEPS - 1
    same(resumed, whole)
    curve = read_curve(tmp_path / "whole" / "s.jsonl")
    assert curve["step"] == [50, STEPS] and read_curve(tmp_path / "parts" / "s.jsonl") == curve


def test_segmentation_goes_on_from_the_last_checkpoint(tmp_path, slow_clock):
    cache = FewScenes(3)

    def new():
        return SegmentationStage(EfficientSam(SAM))

    def loss_of(stage, step):
        return stage.loss_of_clicks(cache, step, 2)

    whole, _ = run(tmp_path / "whole", new, loss_of, 8)
    run(tmp_path / "parts", new, loss_of, 8, interrupt_at=5)
    resumed, asked = run(tmp_path / "parts", new, loss_of, 8)
    assert asked == [3, 4, 5, 6, 7]
    same(resumed, whole)


def test_matching_goes_on_from_the_last_checkpoint(tmp_path, slow_clock):
    cache = FewScenes(3)

    def new():
        return tiny_matching_stage(tmp_path)

    def loss_of(stage, step):
        return stage.loss_of_scenes(cache, step, 2, 128)

    whole, _ = run(tmp_path / "whole", new, loss_of, 8, muon_rate=0.01)
    run(tmp_path / "parts", new, loss_of, 8, interrupt_at=5, muon_rate=0.01)
    resumed, asked = run(tmp_path / "parts", new, loss_of, 8, muon_rate=0.01)
    assert asked == [3, 4, 5, 6, 7]
    same(resumed, whole)


def test_the_command_interrupted_twice_writes_the_same_profile(folder, tmp_path, monkeypatch, slow_clock, capsys):
    """Ctrl-C in each of the two stages, and the same command again."""
    base = tmp_path / "base"
    base.mkdir()
    write_tiny_profile(base)
    monkeypatch.chdir(tmp_path)

    def train(work, interrupt_in=None):
        options = {"--data": folder, "--from": base, "--work-dir": work, "--matching-steps": 5, "--segmentation-steps": 5,
                   "--batch": 2, "--validation-share": 0.2, "--device": "cpu"}  # fmt: skip
        words = [str(word) for pair in options.items() for word in pair]
        if interrupt_in is None:
            return main(["train", *words])
        with monkeypatch.context() as patch:
            steps, real = iter(range(10)), torch.nn.utils.clip_grad_norm_

            def interrupted(*arguments, **keywords):  # in the middle of a step
                if next(steps) == interrupt_in:
                    raise KeyboardInterrupt
                return real(*arguments, **keywords)

            patch.setattr(torch.nn.utils, "clip_grad_norm_", interrupted)
            return main(["train", *words])

    assert train(tmp_path / "whole") == 0
    assert train(tmp_path / "parts", interrupt_in=4) == 130  # matching's fifth step
    assert (tmp_path / "parts" / "matching.pt").exists() and not (tmp_path / "parts" / "segmentation.pt").exists()
    assert train(tmp_path / "parts", interrupt_in=6) == 130  # two steps to end matching, and four of segmentation
    assert (tmp_path / "parts" / "segmentation.pt").exists() and not (tmp_path / "parts" / "profile").exists()
    assert train(tmp_path / "parts") == 0
    whole, parts = (read_profile(tmp_path / name / "profile") for name in ("whole", "parts"))
    assert parts.blip_weights == whole.blip_weights and parts.efficient_sam_weights == whole.efficient_sam_weights


def test_no_mask_head_is_written_that_nothing_is_drawn_from(folder, tmp_path, monkeypatch, capsys):
    """It would run in every frame."""
    monkeypatch.chdir(tmp_path)
    options = ["--matching-steps", "1", "--segmentation-steps", "1", "--batch", "2", "--device", "cpu"]
    for with_head, source in ((False, "gradcam"), (True, "gradcam"), (True, "both")):
        base = tmp_path / f"{with_head} {source}"
        base.mkdir()
        write_tiny_profile(base, with_head)
        if source != "gradcam":
            text = (base / "profile.yaml").read_text()
            (base / "profile.yaml").write_text(text.replace("source: gradcam", f"source: {source}"))
        work = tmp_path / f"work {with_head} {source}"
        assert main(["train", "--data", str(folder), "--from", str(base), "--work-dir", str(work), *options]) == 0
        trained = read_profile(work / "profile")
        used = source != "gradcam"
        assert (trained.mask_head is not None) == (trained.mask_head_weights is not None) == used
        assert (work / "profile" / "mask_head.safetensors").exists() == used
