"""Lays out the window of config/esam.rviz anew, and prints its section `Window Geometry`: pip install PySide6-Essentials,
then QT_QPA_PLATFORM=offscreen python scripts/rviz_layout.py [--picture FILE]

RViz keeps its layout as Qt's own bytes (QMainWindow.saveState, in hex), which find a dock by its objectName: the name of
the panel or of the image display. Whoever renames one of these, or adds one, runs this again.
"""

import argparse
from pathlib import Path

import yaml
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QDockWidget, QHBoxLayout, QLabel, QMainWindow, QToolBar, QWidget

CONFIG = Path(__file__).resolve().parents[1] / "config" / "esam.rviz"
# A laptop's 1366x768, less the desktop's bar and the window's title.
WIDTH, HEIGHT = 1340, 690
# Widths of the columns beside the 3D view. Images are 4:3: the overlay at 440 x 330, two at half of that below it; the buttons
# under `Displays` need 300.
IMAGES, PANELS = 440, 300
LEFT, RIGHT, BOTTOM = (Qt.DockWidgetArea[f"{side}DockWidgetArea"] for side in ("Left", "Right", "Bottom"))


def window(images: list[str], panels: list[str]) -> QMainWindow:
    """A window with docks of the names that RViz gives them."""
    made = QMainWindow()
    made.resize(WIDTH, HEIGHT)
    made.menuBar().addMenu("File")
    tools = QToolBar("Tools", objectName="Tools")
    tools.addAction("Move Camera")
    made.addToolBar(tools)
    made.statusBar().showMessage(" ")
    centre = QWidget()
    beside = QHBoxLayout(centre)
    for text in ("<", "3D view", ">"):
        beside.addWidget(QLabel(text, alignment=Qt.AlignmentFlag.AlignCenter))
    made.setCentralWidget(centre)
    docks = {}
    for name in [*images, *panels]:
        docks[name] = QDockWidget(name, objectName=name)
        content = QLabel(name, alignment=Qt.AlignmentFlag.AlignCenter)
        content.setMinimumSize(1, 1)
        content.setStyleSheet("background: #444; color: white")
        docks[name].setWidget(content)
        made.addDockWidget(LEFT, docks[name])
    lay_out(made, docks, images)
    return made


def lay_out(made: QMainWindow, docks: dict[str, QDockWidget], images: list[str]) -> None:
    """Left the images, the first one large; right what is shown and the view; below the time; the rest is 3D."""
    first, *others = (docks[name] for name in images)
    made.splitDockWidget(first, others[0], Qt.Orientation.Vertical)
    for before, after in zip(others, others[1:]):
        made.splitDockWidget(before, after, Qt.Orientation.Horizontal)
    made.addDockWidget(RIGHT, docks["Displays"])
    made.tabifyDockWidget(docks["Displays"], docks["Views"])
    docks["Displays"].raise_()
    made.addDockWidget(BOTTOM, docks["Time"])
    made.show()
    QApplication.processEvents()
    made.resizeDocks([docks["Time"]], [36], Qt.Orientation.Vertical)
    made.resizeDocks([first, docks["Displays"]], [IMAGES, PANELS], Qt.Orientation.Horizontal)
    made.resizeDocks([first, others[0]], [3 * IMAGES // 4, 3 * IMAGES // 8], Qt.Orientation.Vertical)
    made.resizeDocks(others, [IMAGES // len(others)] * len(others), Qt.Orientation.Horizontal)
    QApplication.processEvents()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="FILE", help="save what the window looks like, without RViz' contents")
    args = parser.parse_args()
    application = QApplication([])
    content = yaml.safe_load(CONFIG.read_text())
    displays = content["Visualization Manager"]["Displays"]
    images = [display["Name"] for display in displays if display["Class"] == "rviz_default_plugins/Image"]
    panels = [panel["Name"] for panel in content["Panels"]]
    made = window(images, panels)
    geometry: dict[str, object] = {name: {"collapsed": False} for name in [*images, *panels]}
    geometry |= {"X": 0, "Y": 30, "Width": WIDTH, "Height": HEIGHT, "Hide Left Dock": False, "Hide Right Dock": False}
    geometry["QMainWindow State"] = made.saveState().toHex().data().decode()
    print(yaml.safe_dump({"Window Geometry": geometry}, sort_keys=False, width=1_000_000), end="")
    if args.picture:
        made.grab().save(args.picture)
    application.quit()


if __name__ == "__main__":
    main()
