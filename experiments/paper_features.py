"""How much features of sharp and of blurred images differ (the paper's figure 4): records and pictures.

Run by paper_tables.py, with its networks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blurlib import metrics
from blurlib.evaluation import disparity, invariance
from blurlib.notation import parse
from blurlib.paper import Run, Training
from blurlib.protocol import Protocol, evaluation_views, normalised
from blurlib.reporting import markdown_table, with_interval

PICTURE = Path(__file__).parents[1] / "docs" / "results" / "features.webp"
# Ends of the stages in which EfficientNet halves the image, and the features before the last layer.
LAYERS = ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.10", "_blocks.15", "_bn1")
NETWORKS = {"original": "original", "sharp": "control", "defocus": "defocus mix"}
LIMIT = 100
BLUR = "D8"


def measure(run: Run, records: Path, *, seeds: tuple[int, ...], colours: dict[str, Any]) -> None:
    """Averages over photographs of the root, and maps of one that scikit-image ships."""
    side = run.settings.side
    usual: dict[str, Any] = {"layers": LAYERS, "side": side, "limit": LIMIT, "blur": BLUR, **colours}
    networks = {"original": [run.model]}
    for name in ("sharp", "defocus"):
        networks[name] = [run.network(Training(mix=name, sides=(256,)), seed) for seed in seeds]
    found = {
        name: [invariance(network, run.validation, **usual) for network in every]
        for name, every in networks.items()
    }
    record: dict[str, Any] = {name: [each.to_dict() for each in every] for name, every in found.items()}
    # Paired over images, of the seeds' means.
    for measured in ("hamming", "cosine"):
        means = {
            name: np.mean([getattr(each, measured) for each in every], axis=0)
            for name, every in found.items()
        }
        for base in ("original", "sharp"):
            change = means["defocus"] - means[base]
            samples = metrics.means(change)
            record[f"{measured}, defocus minus {base}"] = [
                {
                    "layer": layer,
                    "change": float(change[:, number].mean()),
                    "interval": metrics.interval(samples[:, number]),
                }
                for number, layer in enumerate(LAYERS)
            ]
    (records / "figure4.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    views = evaluation_views(
        photograph(), [parse("sharp"), parse(BLUR)], protocol=Protocol(network_side=side), crops="dense"
    )
    sharp, soft = (normalised(views[number, side], run.colours[0], run.colours[1]) for number in (0, 1))
    maps = {
        f"{name}/{layer}": each.hamming[0].numpy().astype(np.float16)
        for name, every in networks.items()
        for layer, each in disparity(every[0], sharp, soft, layers=LAYERS).items()
    }
    np.savez_compressed(records / "figure4.npz", **maps)


def photograph() -> Image.Image:
    """A cup of coffee, by Rachel Michetti (CC0), which scikit-image ships."""
    from skimage import data

    return Image.fromarray(data.coffee())


def tables(records: Path) -> None:
    """The table of averages and the picture of the maps, from the records."""
    record = json.loads((records / "figure4.json").read_text(encoding="utf-8"))
    parts = []
    for measured, title in (("hamming", "Hamming distance"), ("cosine", "Cosine distance")):
        rows = []
        for number, layer in enumerate(LAYERS):
            means = [
                np.mean([each["layers"][number][measured] for each in record[name]]) for name in NETWORKS
            ]
            changes = [record[f"{measured}, defocus minus {base}"][number] for base in ("original", "sharp")]
            rows.append(
                [
                    f"`{layer}`",
                    *(f"{mean:.3f}" for mean in means),
                    *(with_interval(each["change"], each["interval"], "{:+.3f}".format) for each in changes),
                ]
            )
        header = ["after", *NETWORKS.values(), "minus original", "minus control"]
        parts.append(f"### {title}\n\n{markdown_table(header, rows)}")
    place = records.parent / "paper-figure4"
    place.mkdir(exist_ok=True)
    (place / "table.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    picture(records)


def picture(records: Path) -> None:
    """Sharp, blurred, and the maps: a row a network, a column a stage."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    side = json.loads((records / "figure4.json").read_text(encoding="utf-8"))["original"][0]["side"]
    views = evaluation_views(
        photograph(), [parse("sharp"), parse(BLUR)], protocol=Protocol(network_side=side), crops="dense"
    )
    with np.load(records / "figure4.npz") as stored, mpl.rc_context({"font.size": 9}):
        top = max(float(stored[name].max()) for name in stored.files)
        drawing = Figure(figsize=(11.5, 3.9), layout="constrained", dpi=110)
        grid = drawing.subplots(len(NETWORKS), len(LAYERS) + 1)
        for row, (name, words) in enumerate(NETWORKS.items()):
            for column, layer in enumerate(LAYERS, 1):
                values = stored[f"{name}/{layer}"].astype(np.float32)
                shown = grid[row, column].imshow(values, vmin=0, vmax=top, cmap="viridis", aspect="auto")
                grid[row, column].set_xlabel(f"{values.mean():.2f}")
                if row == 0:
                    grid[row, column].set_title(layer, fontsize=9)
            grid[row, 1].set_ylabel(words)
        for row, (number, words) in enumerate(((0, "sharp"), (1, BLUR))):
            grid[row, 0].imshow(views[number, side][0].permute(1, 2, 0).numpy(), aspect="auto")
            grid[row, 0].set_title(words, fontsize=9)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        grid[-1, 0].remove()
        drawing.colorbar(shown, ax=grid[:, -1], shrink=0.8)
        drawing.savefig(PICTURE, pil_kwargs={"quality": 88, "method": 6})
