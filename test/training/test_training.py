"""The training code on a handful of scenes: it learns, resumes, exports what the pipeline loads."""

import argparse
import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import torch

from esam_perception.blip_esam_itm import BlipEsamItm, BlipEsamItmConfig
from esam_perception.commands import train
from esam_perception.commands.dispatcher import main
from esam_perception.computing import PRECISIONS, choose_precision
from esam_perception.pipeline.mask_head import MaskDecoderSize
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.segmentation import EfficientSam
from esam_perception.tabletop.language import TabletopObject
from esam_perception.tabletop.words import CATEGORIES, COLOURS
from esam_perception.training.data.batches import cropped, draw_batch, mirrored
from esam_perception.training.data.scenes import SHARD, SIDE, build_cache
from esam_perception.training.data.vocabulary import tabletop_vocabulary
from esam_perception.training.loop import Machine, train_stage
from esam_perception.training.measure.curves import read_curve, write_curves
from esam_perception.training.muon import orthogonalise, split_weights
from esam_perception.training.stages import tabletop as stages
from esam_perception.training.stages.heat_prompts import HeatPrompts
from esam_perception.training.stages.image_tower import IGNORED, patch_coverage, patch_names
from esam_perception.training.stages.matching import MatchingStage, attention_loss
from esam_perception.training.stages.segmentation import SegmentationStage, draw_prompt
from test.tiny import BLIP, SAM


class FewScenes:
    """A cache of drawn scenes: coloured rectangles under the names of real objects."""

    def __init__(self, count: int = 6) -> None:
        self._scenes = [self._draw(np.random.default_rng(i)) for i in range(count)]

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index):
        return self._scenes[index]

    @staticmethod
    def _draw(rng):
        image, instances, objects = np.full((SIDE, SIDE, 3), 90, np.uint8), np.zeros((SIDE, SIDE), np.uint8), []
        colours = rng.permutation(list(COLOURS))
        for label, (row, column) in enumerate([(40, 40), (40, 160), (160, 100)], start=1):
            rows, columns = slice(row, row + 50), slice(column, column + 60)
            image[rows, columns] = np.array(COLOURS[colours[label]]) * 255
            instances[rows, columns] = label
            position = ((column - 100) / 300, 0.0, 1.2 - row / 300)
            objects.append(
                TabletopObject(label, CATEGORIES[rng.integers(32)], str(colours[label]), position, 3000, True)
            )
        return image, instances, tuple(objects)


def test_patch_names_and_coverage():
    instances = np.zeros((32, 48), np.uint8)
    instances[:16, :16], instances[16:, 32:36] = 1, 2
    objects = (
        TabletopObject(1, "mug", "red", (0, 0, 1), 256, True),
        TabletopObject(2, "key", "blue", (0, 0, 1), 64, True),
    )
    coverage = patch_coverage(instances, 16, 2)
    assert coverage.shape == (3, 2, 3)
    np.testing.assert_allclose(coverage.sum(0), 1)
    category, colour = patch_names(instances, objects, 16)
    assert category[0, 0] == CATEGORIES.index("mug") + 1 and colour[0, 0] == list(COLOURS).index("red") + 1
    assert category[1, 2] == IGNORED and category[0, 1] == 0


def test_batches_are_true_of_what_they_show():
    batch = draw_batch(FewScenes(), np.random.default_rng(0), 5, 192, 16)
    assert batch.images.shape == (5, 192, 192, 3) and batch.masks.shape == (40, 48, 48) and len(batch.texts) == 40
    covered = batch.masks.sum((1, 2)) > 0
    np.testing.assert_array_equal(covered, batch.match == 1)
    assert (batch.match.reshape(5, 8).mean(1) == 0.5).all() and batch.masks.max() <= 1


def test_mirrored_scenes_swap_left_and_right_and_crops_hide_what_is_cut():
    _, instances, objects = FewScenes()[0]
    assert [o.position[0] for o in mirrored(objects)] == [-o.position[0] for o in objects]
    shown = cropped(objects, instances, instances[:, :170])
    assert [(o.label, o.visible) for o in shown] == [(1, True), (2, False), (3, True)]
    assert [o.label for o in cropped(objects, instances, instances[:, :120])] == [1, 3]


def test_attention_is_best_on_what_the_phrase_names():
    coverage = torch.zeros(1, 4)
    coverage[0, 1] = 1
    tokens = torch.tensor([[0.0, 1.0, 0.0]])
    right, wrong = torch.full((2, 1, 2, 3, 5), 0.05)
    right[..., 2], wrong[..., 3] = 0.8, 0.8
    assert attention_loss(right, tokens, coverage) < attention_loss(wrong, tokens, coverage)


def test_prompts_lie_on_or_beside_the_object():
    mask = np.zeros((64, 64), bool)
    mask[20:40, 30:50] = True
    kinds = set()
    for seed in range(200):
        points, labels = draw_prompt(mask, np.random.default_rng(seed))
        used = labels > 0
        kinds.add(tuple(labels[used].astype(int)))
        assert used.any() and (points[~used] == -1).all()
        assert (np.abs(points[used] - (40, 30)) <= 24).all()
    assert (2, 3) in kinds and (1,) in kinds and (1,) * 6 in kinds


@pytest.mark.long
def test_segmentation_learns_and_is_not_trained_again(tmp_path):
    cache = FewScenes(3)

    def run(folder, *steps):
        torch.manual_seed(0)
        stage = SegmentationStage(EfficientSam(SAM))
        before = {name: value.clone() for name, value in stage.named_parameters()}
        for last in steps:
            train_stage("s", folder, stage, lambda step: stage.loss_of_clicks(cache, step, 2), last, 2e-3, warm_up=5)
        return stage, before

    stage, before = run(tmp_path / "whole", 100)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "s.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100]
    assert lines[-1]["loss"] < lines[0]["loss"]
    unused = {"mask_decoder.output_hypernetworks_mlps.0"}  # the single-mask token, which nobody asks for
    for name, value in stage.named_parameters():
        if not any(part in name for part in unused) and "pos_embed" not in name:
            assert not torch.equal(value, before[name]), f"{name} did not learn"
    # a finished stage is not trained again; a fresh process takes its weights from the checkpoint
    again, _ = run(tmp_path / "whole", 100)
    for (name, a), (_, b) in zip(stage.named_parameters(), again.named_parameters()):
        assert torch.equal(a, b), name


def tiny_matching_stage(folder):
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join(tabletop_vocabulary()) + "\n")
    config = BlipEsamItmConfig(
        str(vocab), dataclasses.replace(BLIP, image_size=SIDE), MaskDecoderSize(2, 4, 32, (16, 8), 16),
        sam_prompt_dim=32, sam_embed_dim=32, normalize_input=False,
    )  # fmt: skip
    return MatchingStage(BlipEsamItm.from_config(config))


@pytest.mark.long
def test_matching_learns_with_muon_and_is_not_trained_again(tmp_path):
    cache = FewScenes(3)

    def run(folder, *steps):
        torch.manual_seed(0)
        stage = tiny_matching_stage(tmp_path)
        for last in steps:
            train_stage(
                "m", folder, stage, lambda step: stage.loss_of_scenes(cache, step, 2, 128), last, 2e-3, warm_up=5,
                muon_rate=0.01, heads=stage.heads,
            )  # fmt: skip
        return stage

    stage = run(tmp_path / "whole", 100)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "m.jsonl").read_text().splitlines()]
    for name in ("loss", "loss_itm", "loss_attention", "loss_dice", "loss_names"):
        assert lines[-1][name] < lines[0][name], name
    again = run(tmp_path / "whole", 100)
    for (name, a), (_, b) in zip(stage.named_parameters(), again.named_parameters()):
        assert torch.equal(a, b), name


def test_refinement_goes_on_from_matching_in_cycles(tmp_path):
    matching = stages.new_matching_stage(tmp_path)
    with torch.no_grad():
        matching.names.colour.bias.fill_(7)
    torch.save({"modules": matching.state_dict()}, tmp_path / "matching.pt")
    assert stages.last_stages(tmp_path) == ("matching", "segmentation")
    stages.train_refinement(tmp_path, FewScenes(3), 1, batch=2)
    before = matching.state_dict()
    for name in ("refinement_1", "refinement_2"):
        state = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        assert state["step"] == 1 and (state["modules"]["names.colour.bias"] > 6.9).all()
        assert not torch.equal(state["modules"]["model.itm_head.weight"], before["model.itm_head.weight"])
        before = state["modules"]
    # what is shipped is the mean of the cycles
    assert stages.last_stages(tmp_path) == ("refinement", "segmentation")
    cycles = [torch.load(tmp_path / f"refinement_{i}.pt", weights_only=True)["modules"] for i in (1, 2)]
    mean = (cycles[0]["model.itm_head.weight"] + cycles[1]["model.itm_head.weight"]) / 2
    learned, _ = stages.trained_matcher(tmp_path, "refinement", torch.device("cpu"))
    torch.testing.assert_close(learned.model.itm_head.weight, mean)


def test_prompts_of_heatmaps_are_about_the_thing_under_them():
    pipeline = Pipeline.from_profile("tabletop", "cpu")
    heat = HeatPrompts(pipeline._matcher, pipeline.profile.prompting, pipeline._mask_head)
    kinds = set()
    for i, (image, instances, objects) in enumerate(FewScenes()):
        drawn = heat.draw(image, instances, objects, np.random.default_rng(i))
        for points, labels, label in drawn:
            assert points.shape == (6, 2) and label in (1, 2, 3) and (points[labels == -1] == -1).all()
            kinds.add(tuple(labels.astype(int)))
            inside = points[labels == 1].astype(int)
            under = np.bincount(instances[inside[:, 1], inside[:, 0]], minlength=4)
            assert under[label] == under.max() > 0
    assert kinds and all(kind[:3] == (2, 3, 1) for kind in kinds)
    assert not heat.draw(
        np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8), (), np.random.default_rng(0)
    )
    with pytest.raises(ValueError, match="points"):
        HeatPrompts(pipeline._matcher, dataclasses.replace(pipeline.profile.prompting, kind="box"))
    with pytest.raises(ValueError, match="need a mask_head"):
        HeatPrompts(pipeline._matcher, pipeline.profile.prompting)


def test_segmentation_goes_on_with_prompts_of_heatmaps(tmp_path):
    torch.save({"modules": stages.new_matching_stage(tmp_path).state_dict()}, tmp_path / "refinement_1.pt")
    segmenter = SegmentationStage(EfficientSam(stages.EFFICIENT_SAM)).state_dict()
    torch.save({"modules": segmenter}, tmp_path / "segmentation.pt")
    stages.train_segmentation_refinement(tmp_path, FewScenes(3), 2, batch=2)
    after = torch.load(tmp_path / "segmentation_refinement.pt", weights_only=True)["modules"]
    assert after.keys() == segmenter.keys()  # BLIP is asked, not trained
    changed = [name for name in after if not torch.equal(after[name], segmenter[name])]
    assert changed
    # two warm-up steps: still near what stage 4 learned
    assert all((after[name] - segmenter[name]).abs().max() < 0.05 for name in changed)


def test_muon_takes_matrices_and_convolutions_alone_and_orthogonalises():
    module = torch.nn.ModuleDict(
        {"conv": torch.nn.Conv2d(3, 8, 3), "head": torch.nn.Linear(8, 2), "table": torch.nn.Embedding(5, 4)}
    )
    matrices, others = split_weights(module, (module["head"],))
    assert [id(p) for p in matrices] == [id(module["conv"].weight)]
    assert len(matrices) + len(others) == len(list(module.parameters()))
    for shape in ((6, 20), (20, 6)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
        assert 0.6 < values.min() and values.max() < 1.3


def test_the_cache_holds_whole_blocks_only(tmp_path):
    with pytest.raises(ValueError, match="blocks"):
        build_cache(tmp_path, 0, SHARD + 1)


@pytest.mark.long
def test_bfloat16_computes_alike_and_keeps_weights_and_losses_in_float32(tmp_path):
    cache, losses = FewScenes(3), {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        stage = SegmentationStage(EfficientSam(SAM))
        machine = Machine(torch.device("cpu"), precision)
        train_stage(
            precision, tmp_path, stage, partial(stage.loss_of_clicks, cache, batch=2), 50, 2e-3, machine=machine
        )
        assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in stage.parameters())
        losses[precision] = read_curve(tmp_path / f"{precision}.jsonl")["loss"][0]
    # a loss is off by 2^-9 for each product in a row, at random: sqrt(32) of them, and 4 standard deviations
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=4 * 2**-9 * 32**0.5)


@pytest.mark.parametrize("capability, dtype", [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_training_computes_in_bfloat16_where_the_pipeline_does(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cuda = torch.device("cuda")
    assert Machine(cuda).dtype == choose_precision("auto", cuda) == dtype
    if dtype == torch.float32:
        with pytest.raises(ValueError, match="no bfloat16"):
            Machine(cuda, "bfloat16")


def test_a_precision_of_another_name_is_refused():
    assert train.PRECISIONS == PRECISIONS  # the command's help comes without torch
    assert Machine().dtype == torch.float32
    with pytest.raises(ValueError, match="precision"):
        Machine(precision="float8")


def test_curves_have_every_step_once(tmp_path):
    rows = [{"step": 50, "loss": 3.0}, {"step": 100, "loss": 2.0}, {"step": 100, "loss": 2.5, "iou": 0.4}]
    (tmp_path / "stage.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_curve(tmp_path / "stage.jsonl") == {"step": [50, 100], "loss": [3.0, 2.5], "iou": [None, 0.4]}
    assert write_curves(tmp_path, tmp_path / "out")["stage"]["loss"] == [3.0, 2.5]
    assert (tmp_path / "out" / "curves.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="no logs"):
        write_curves(tmp_path / "out", tmp_path)


def test_a_stage_runs_in_a_process_of_its_own(tmp_path, capfd):
    """With nothing rendered it says so; a process that did nothing would end well."""
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    args = parser.parse_args(["tabletop", "--work-dir", str(tmp_path), "--scenes", str(SHARD), "--device", "cpu"])
    args.matching_steps = args.segmentation_steps = 1
    assert train._start_stage("segmentation", args).wait() == 1
    assert "images_0000000.npy" in capfd.readouterr().err


def test_a_device_that_is_not_there_is_one_line_before_anything_is_rendered(capsys, tmp_path):
    assert main(["train", "tabletop", "--device", "abacus", "--work-dir", str(tmp_path / "work")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "abacus" in line and not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "say what to train"),
        (["tabletop", "--data", "somewhere"], "say what to train"),
        (["tabletop", "--scenes", "900000"], "at most 800000 scenes"),
    ],
)
def test_what_cannot_be_trained_is_refused(capsys, arguments, said):
    assert main(["train", *arguments]) == 2
    assert said in capsys.readouterr().err
