"""The goldens' deterministic weights: drawn once a session and kept in files, which other processes read too."""

import importlib.util
import json
import re
import shutil
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

# Where a manifest has entries of another one's, of the same names and shapes: these are drawn once, for the other.
SHARES = {("blip_itm", "hf_names"): "lavis_names"}
# Weights that are those of a manifest times powers of two (`scale_rule`).
SCALED = {("blip_itm", "eps"): "lavis_names", ("efficient_sam", "vitt_eps"): "vitt"}


class GoldenWeights:
    """weights(folder, name) -> state dict of float32. files: where they are kept; what another process has put there is
    taken."""

    def __init__(self, goldens: Path, files: Path) -> None:
        self.goldens, self.files = goldens, files
        spec = importlib.util.spec_from_file_location("detweights", goldens / "detweights.py")
        assert spec is not None and spec.loader is not None  # the name ends in .py
        self._rule = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._rule)

    def __call__(self, folder: str, name: str) -> dict[str, Tensor]:
        source = SCALED.get((folder, name), name)
        entries = _manifest(self.goldens / folder, source)
        state: dict[str, Tensor] = {}
        if shared := SHARES.get((folder, source)):
            other = _manifest(self.goldens / folder, shared)
            state = {key: value for key, value in self(folder, shared).items() if entries.get(key) == other[key]}
        path = self.files / f"{folder}-{source}.safetensors"
        if not path.exists():
            self._draw({key: entry for key, entry in entries.items() if key not in state}, path)
        state |= load_file(path)
        return state if source == name else _scaled(state, self.goldens / folder / f"golden_{name}.json")

    def _draw(self, entries: dict[str, dict], path: Path) -> None:
        size = 4 * sum(torch.Size(entry["shape"]).numel() for entry in entries.values())
        if size > shutil.disk_usage(self.files).free:
            pytest.skip(f"too little disk space for the goldens' weights in {self.files}")
        state = {}
        for key, entry in entries.items():
            value = self._rule.value(key, entry["shape"])
            # numpy promises no stream: said here, not by a hundred failing comparisons
            assert zlib.crc32(value.tobytes()) == entry["crc32"], f"numpy draws other normals than the goldens' ({key})"
            state[key] = torch.from_numpy(value)
        unfinished = path.with_suffix(".unfinished")
        save_file(state, unfinished)
        unfinished.rename(path)


def _manifest(folder: Path, name: str) -> dict[str, dict]:
    entries = json.loads((folder / f"manifest_{name}.json").read_text())["state_dict"]
    return {key: entry for key, entry in entries.items() if "float" in entry["dtype"]}


def _scaled(state: dict[str, Tensor], description: Path) -> dict[str, Tensor]:
    """Each weight times a power of two, which is exact: that of the first pattern that fits."""
    content = json.loads(description.read_text())
    exponents = {
        key: next((rule["exponent"] for rule in content["scale_rule"] if re.search(rule["regex"], key)), 0)
        for key in state
    }
    state = {key: value * 2.0 ** exponents[key] if exponents[key] else value for key, value in state.items()}
    for key, crc32 in content["crc32"].items():
        assert zlib.crc32(state[key].numpy().tobytes()) == crc32, f"scaled otherwise than the golden's ({key})"
    return state
