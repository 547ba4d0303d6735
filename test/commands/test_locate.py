import json

import cv2
import numpy as np
import pytest

from esam_perception.commands.dispatcher import main


@pytest.fixture
def image_file(tmp_path):
    path = tmp_path / "scene one.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    return path


def locate(tiny_profile, output, *arguments):
    return main(
        ["locate", "--model", str(tiny_profile), "--device", "cpu", "--output", str(output), *map(str, arguments)]
    )


def test_one_image(tiny_profile, image_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert locate(tiny_profile, out, image_file, "the red mug", "a banana", "--segment-always") == 0
    (line,) = [json.loads(text) for text in (out / "results.jsonl").read_text().splitlines()]
    assert line["image"] == str(image_file) and [m["text"] for m in line["matches"]] == ["the red mug", "a banana"]
    assert line["timing"]["total"] > 0
    for match in line["matches"]:
        assert set(match) == {"text", "verdict", "itm_score", "itc_similarity", "heatmap_peak", "segments"}
        assert match["verdict"] in ("MATCH", "UNSURE", "NO_MATCH")
        assert 0 <= match["heatmap_peak"][0] <= 64 and 0 <= match["heatmap_peak"][1] <= 48
        for segment in match["segments"]:
            mask = cv2.imread(str(out / segment["mask"]), cv2.IMREAD_UNCHANGED)
            assert mask.shape == (48, 64) and set(np.unique(mask)) <= {0, 255}
            x, y, width, height = segment["box"]
            rows, columns = np.nonzero(mask)
            assert (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) == (x, y, width, height)
            assert segment["prompt_points"] and 0 < len(segment["prompt_points"]) <= 6
    assert any(match["segments"] for match in line["matches"])
    assert cv2.imread(str(out / "scene_one.png")) is not None
    assert "the red mug" in capsys.readouterr().out


def test_a_batch_with_one_start_of_the_model(tiny_profile, image_file, tmp_path):
    batch = tmp_path / "batch.jsonl"
    lines = [{"image": str(image_file), "texts": ["the red mug"]}, {"image": image_file.name, "texts": ["a", "b"]}]
    batch.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    out = tmp_path / "out"
    assert locate(tiny_profile, out, "--batch", batch) == 0
    results = [json.loads(text) for text in (out / "results.jsonl").read_text().splitlines()]
    assert [len(result["matches"]) for result in results] == [1, 2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("missing.png", "the red mug"),
        ("IMAGE", ""),
        ("IMAGE", "the red mug", " ?! "),
        ("IMAGE",),
        (),
        ("--batch", "missing.jsonl"),
        ("BROKEN", "the red mug"),
        ("IMAGE", "the red mug", "--batch", "x.jsonl"),
        ("IMAGE", "the red mug", "--model", "nothing"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(tiny_profile, image_file, tmp_path, capfd, arguments):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    names = {"IMAGE": image_file, "BROKEN": broken}
    assert locate(tiny_profile, tmp_path / "out", *(names.get(a, a) for a in arguments)) == 2
    error = capfd.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("esam locate: ")


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"image": "x"}', '{"image": "x", "texts": "mug"}', '{"image": 3, "texts": []}']
)
def test_a_wrong_batch_line_is_named(tiny_profile, tmp_path, capsys, line):
    batch = tmp_path / "batch.jsonl"
    batch.write_text(line)
    assert locate(tiny_profile, tmp_path / "out", "--batch", batch) == 2
    assert "batch.jsonl:1" in capsys.readouterr().err


def test_what_the_library_logs_is_a_line_of_the_command(image_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ESAM_HOME", str(tmp_path))
    for _ in range(2):  # the second start does not say it twice
        assert (
            main(["locate", str(image_file), "the red mug", "--device", "cpu", "--output", str(tmp_path / "out")]) == 0
        )
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("esam locate: model 'auto': blip_base is not fetched")
