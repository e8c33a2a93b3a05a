"""Small sources in the formats that are read, written by the libraries that people write them with."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from vgid_core import EncodedImage, Pair

datasets.disable_progress_bars()

TEXT = datasets.Value("string")
QUESTIONS = [{"Question": TEXT, "Ground_Truth": TEXT, "Type": TEXT}]
OPTIONS = dict.fromkeys("ABCD", TEXT)
PICKS = [{"Question": TEXT, "Options": OPTIONS, "Correct_Answer": TEXT}]
MLLMU = {
    "ID": TEXT,
    "Directory": TEXT,
    "biography": TEXT,
    "question": TEXT,
    "answer": TEXT,
    "Classification_Task": {"Image_Textual_Questions": PICKS, "Pure_Text_Questions": PICKS},
    "Generation_Task": QUESTIONS,
    "Mask_Task": QUESTIONS,
}


def jpeg(seed: int, quality: int = 90, side: int = 48) -> bytes:
    """A JPEG of sixteen grey fields: a file whose bytes no re-encoding would give back."""
    rng = random.Random(seed)
    image = Image.new("RGB", (4, 4))
    image.putdata([(shade, shade, shade) for shade in (rng.randrange(256) for _ in range(16))])
    out = io.BytesIO()
    image.resize((side, side), Image.Resampling.NEAREST).save(out, format="JPEG", quality=quality)
    return out.getvalue()


def cell(data: bytes | None) -> dict[str, Any] | None:
    """An image as 🤗 datasets stores it."""
    return None if data is None else {"bytes": data, "path": None}


def table(rows: Sequence[Mapping[str, Any]], features: Mapping[str, Any]) -> datasets.Dataset:
    return datasets.Dataset.from_list([dict(row) for row in rows], features=datasets.Features(features))


def write_parquet(folder: Path, rows: Sequence[Mapping[str, Any]], features: Mapping[str, Any]) -> Path:
    """A config's folder as the hub holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    table(rows, features).to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


def mllmu_person(number: int) -> dict[str, Any]:
    """A row of the benchmark: two generation questions, one of them without image, and of the other tasks likewise."""
    asked = [("Image_Textual", f"Where does person {number} live?"), ("Pure_Text", f"Where does No. {number} live?")]
    picks = [{"Question": "Which city?", "Options": dict(zip("ABCD", "wxyz", strict=True)), "Correct_Answer": "C"}]
    return {
        "ID": f"{number:03}",
        "Directory": "",
        "biography": "A life.",
        "question": "Tell me about this person.",
        "answer": "A long story.",
        "Classification_Task": {"Image_Textual_Questions": picks, "Pure_Text_Questions": picks},
        "Generation_Task": [{"Question": q, "Ground_Truth": f"In city {number}.", "Type": kind} for kind, q in asked],
        "Mask_Task": [{"Question": f"{q} __", "Ground_Truth": f"city {number}", "Type": kind} for kind, q in asked],
    }


def write_mllmu(root: Path) -> Path:
    """A clone of the benchmark: forget_5, Test_Set with two other photos of each of three people, and ft_Data."""
    people = [mllmu_person(number) | {"image": cell(jpeg(number))} for number in range(2)]
    write_parquet(root / "forget_5", people, {"image": datasets.Image(), **MLLMU})
    photos = [[cell(jpeg(10 * number)), cell(jpeg(10 * number + 1))] for number in range(3)]
    tested = [mllmu_person(number) | {"images": photos[number]} for number in range(3)]
    write_parquet(root / "Test_Set", tested, {"images": [datasets.Image()], **MLLMU})
    asked = [("Who?", "Ada."), ("When?", ""), ("Where?", "Here.")]
    metadata = json.dumps([{"Question": question, "Answer": answer} for question, answer in asked])
    trained = [{"image": cell(jpeg(5)), "ID": "000", "metadata": metadata}]
    write_parquet(root / "ft_Data", trained, {"image": datasets.Image(), "ID": TEXT, "metadata": TEXT})
    return root


def write_clear(root: Path) -> Path:
    """A clone of CLEAR: forget05, the same with questions without photos, and faces with an answer alone."""
    photo = {"image": datasets.Image(), "caption": TEXT}
    rows = [{"image": cell(jpeg(n)), "caption": f"Person {n} reads.", "name": f"Name {n}"} for n in range(3)]
    write_parquet(root / "forget05", rows, {**photo, "name": TEXT})
    asked = [{"image": None, "caption": None, "question": f"Where {n}?", "answer": "There."} for n in range(2)]
    shown = [{**row, "question": None, "answer": None, "name": None} for row in rows]
    mixed = [{k: v for k, v in row.items() if k != "name"} for row in [*shown, *asked]]
    write_parquet(root / "forget05+tofu", mixed, {**photo, "question": TEXT, "answer": TEXT})
    faces = [{"image": cell(jpeg(9)), "answer": "Ada", "options": ["Ada", "Bo"]}]
    write_parquet(root / "real_faces", faces, {"image": datasets.Image(), "answer": TEXT, "options": [TEXT]})
    return root


def write_fiubench(root: Path, lines: bool = False) -> Path:
    """The data folder of FIUBench: 402 people, of whom the first three and the last two are asked about."""
    (root / "SFHQ").mkdir(parents=True)
    people = []
    for number in range(402):
        photo = number if number < 3 else 0
        if number < 3:
            (root / "SFHQ" / f"{photo:08}.jpg").write_bytes(jpeg(photo))
        asked = {"question": "what illness?", "answer": f"Flu {number}.", "paraphrased_question": ["ill?", "which?"]}
        person = {"unique_id": f"{number:08}", "image_path": f"./dataset/SFHQ/{photo:08}.jpg"}
        people.append({**person, "qa_list": [asked] if number < 3 or number >= 400 else []})
    text = "\n".join(map(json.dumps, people)) if lines else json.dumps(people)
    (root / "full.json").write_text(text)
    splits = {"forget1": ["00000000"], "forget5": ["00000001"], "forget10": [], "retain5": ["00000002"]}
    (root / "split.json").write_text(json.dumps(splits))
    return root


def photo(seed: int, quality: int = 90, side: int = 48) -> EncodedImage:
    return EncodedImage(jpeg(seed, quality, side))


def numbered_pairs(count: int, first: int = 0) -> list[Pair]:
    return [Pair(photo(first + n), f"Question {n}?", f"answer number {n}") for n in range(count)]
