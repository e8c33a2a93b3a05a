"""Draws what the teacher sees under each intervention, and measures what each does to the demo model.

    python -m bench.interventions [--measure]

Draws docs/interventions.png from one portrait: a row for each kind, a column for each strength. With --measure, it runs
each kind without the instruction, one with a changing strength, the instruction alone, and the preset `paper`. All
runs have one forget set, one seed and one thread. Writes bench/results/interventions.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from bench.parts.machine import save
from local.demo.data import DemoData, make
from local.demo.faces import draw_portrait
from local.demo.paths import BASE
from local.demo.world import the_world
from vgid_core import UnlearnConfig, UnlearnSpec, unlearn
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.config.perturbation import PerturbationConfig
from vgid_core.methods.perturb import perturb

PICTURE = Path(__file__).parent.parent / "docs" / "interventions.png"
STRENGTHS: dict[str, tuple[float, ...]] = {
    "gaussian": (0.1, 0.25, 0.5, 1, 2),
    "diffusion": (50, 200, 350, 500, 800),
    "blur": (1, 2, 4, 8, 16),
    "patch_shuffle": (2, 4, 8, 16, 32),
}
KINDS = ("uniform", "gaussian", "diffusion", "blur", "patch_shuffle", "blank")
_SIDE, _GAP, _LABEL, _MARGIN = 96, 10, 20, 14
_INK, _QUIET, _PAPER = "#1f2328", "#656d76", "#ffffff"


def main() -> None:
    """Draws the picture, and measures if --measure is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    draw(PICTURE)
    print("written:", PICTURE)
    if parser.parse_args().measure:
        torch.set_num_threads(1)
        set_up_logs()
        data, rows = make(), []
        for name, values in _runs():
            rows.append({"name": name, **_measured(data, values)})
            print(rows[-1], flush=True)
        print("written:", save("interventions", {"rows": rows}, seed=UnlearnConfig().seed, runs=1))


def draw(target: Path) -> None:
    """Writes the picture as PNG: the portrait, then each perturbed version with its label."""
    person = the_world().people[0]
    portrait = draw_portrait(person.face, person.training_views[0], _SIDE)
    rows: list[list[tuple[str, Image.Image | None]]] = [[("the photo", portrait), *_whole(portrait)]]
    rows += [[(kind, None), *_strengths(portrait, kind)] for kind in STRENGTHS]
    columns = max(len(row) for row in rows)
    size = (2 * _MARGIN + columns * (_SIDE + _GAP) - _GAP, 2 * _MARGIN + len(rows) * (_SIDE + _LABEL + _GAP) - _GAP)
    picture = Image.new("RGB", size, _PAPER)
    canvas = ImageDraw.Draw(picture)
    for number, row in enumerate(rows):
        top = _MARGIN + number * (_SIDE + _LABEL + _GAP)
        for column, (label, image) in enumerate(row):
            left = _MARGIN + column * (_SIDE + _GAP)
            if image is None:
                canvas.text((left, top + _SIDE // 2), label, fill=_INK, font=ImageFont.load_default(14), anchor="lm")
                continue
            picture.paste(image, (left, top))
            middle = (left + _SIDE // 2, top + _SIDE + 3)
            canvas.text(middle, label, fill=_QUIET, font=ImageFont.load_default(11), anchor="ma")
    # A palette makes the file a third as large, without a visible difference.
    picture.quantize(224, dither=Image.Dither.NONE).save(target, format="PNG", optimize=True)


def _whole(portrait: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """The portrait under the kinds that leave nothing of the image, which have no strength."""
    yield "uniform", perturb(portrait, PerturbationConfig(kind="uniform"), torch.Generator().manual_seed(1))
    yield "blank", perturb(portrait, PerturbationConfig(kind="blank"), torch.Generator())


def _strengths(portrait: Image.Image, kind: str) -> Iterator[tuple[str, Image.Image]]:
    for strength in STRENGTHS[kind]:
        config = PerturbationConfig.model_validate({"kind": kind, "strength": strength})
        yield f"{strength:g}", perturb(portrait, config, torch.Generator().manual_seed(1))


def _runs() -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in KINDS:
        yield f"{kind}, no instruction", {"method": {"perturbation": {"kind": kind}, "instruction": ""}}
    rising = {"kind": "diffusion", "strength": 100, "final_strength": 800, "course": "cosine"}
    yield "diffusion 100 to 800, no instruction", {"method": {"perturbation": rising, "instruction": ""}}
    yield "instruction, no noise", {"method": {"perturbation": {"kind": "none"}}}
    yield "preset paper", {"preset": "paper"}


def _measured(data: DemoData, values: dict[str, Any]) -> dict[str, Any]:
    """Runs with these settings. Returns ROUGE-L of each set, the scorer and the steps."""
    values = {"preset": "paper", **values, "training": {"steps": 60, "learning_rate": 3e-3}}
    with tempfile.TemporaryDirectory() as folder:
        spec = UnlearnSpec(
            model=str(BASE),
            model_name="demo",
            forget=data.forget,
            retain=data.retain,
            utility=data.utility,
            probes={"rephrased": data.rephrased, "held_out_photos": data.held_out_photos},
            out=Path(folder) / "out",
            config=UnlearnConfig.model_validate({**values, "device": "cpu"}),
        )
        result = unlearn(spec)
    row: dict[str, Any] = {"scorer": result.manifest["scorer"], "steps": result.steps}
    for stage, metrics in (("before", result.metrics_before), ("after", result.metrics_after)):
        row |= {f"{m.split}.{stage}": round(m.value, 3) for m in metrics if m.name == "rouge_l"}
    return row


if __name__ == "__main__":
    main()
