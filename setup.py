"""`pip install .`: the ROS-free library and the `esam` command. ROS users build with CMake (package.xml)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# Ranges, so that a robot's own torch and NumPy can stay. What was tested is in requirements.txt, exactly.
REQUIRES = [
    "torch>=2.4",
    "transformers>=5.0,<5.24",  # its BLIP is rewired from inside, which any minor version may move: up to what was tested
    "tokenizers>=0.22",
    "safetensors>=0.5",
    "huggingface-hub>=1.0",
    "numpy>=1.26",
    "opencv-python-headless>=4.8,<5",  # 5 breaks cv_bridge's users
    "pyyaml>=6.0",
    "tqdm>=4.60",
]


def requirements(name: str) -> list[str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


setup(
    name="esam_perception",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "esam_perception/__init__.py").read_text(encoding="utf-8"))[1],
    description="Text-queried perception for robots: BLIP image-text matching, Grad-CAM heatmaps, EfficientSAM masks",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["esam_perception", "esam_perception.*"]),
    package_data={"esam_perception": ["py.typed", "profiles/models/*/*", "tabletop/clip/*"]},
    install_requires=REQUIRES,
    # `esam replay` writes the contract's messages without ROS: it reads their definitions
    data_files=[("share/esam_perception/msg", [str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("msg/*.msg"))])],
    extras_require={
        "tabletop": requirements("requirements-tabletop.txt"),
        "replay": ["rosbags>=0.11"],
        "view": ["rerun-sdk>=0.39", "rosbags>=0.11"],
        "test": requirements("requirements-dev.txt"),
    },
    entry_points={"console_scripts": ["esam = esam_perception.commands.dispatcher:main"]},
)
