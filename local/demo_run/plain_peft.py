"""Answers questions with an adapter, using Transformers and PEFT alone: nothing of this project is imported.

    python -I plain_peft.py BASE_FOLDER ADAPTER_FOLDER QUESTIONS.json

QUESTIONS.json holds a list of {"image": path, "question": text}. The answers are printed as one JSON list. Whoever
receives an adapter needs no more than this, and `vgid demo` runs the script in a process of its own to show that.
"""

import json
import sys
from typing import Any

import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

_OURS = {"api", "compare", "jobs", "local", "migrations", "vgid_client", "vgid_core", "worker"}


def _answers(base: str, adapter: str, items: list[dict[str, str]]) -> list[str]:
    processor = AutoProcessor.from_pretrained(base)  # type: ignore[no-untyped-call]
    model: Any = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    said = []
    for item in items:
        content = [{"type": "image"}, {"type": "text", "text": item["question"]}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(text=prompt, images=Image.open(item["image"]).convert("RGB"), return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
        rest = output[0, inputs["input_ids"].shape[1] :]
        said.append(processor.tokenizer.decode(rest, skip_special_tokens=True).strip())
    return said


if __name__ == "__main__":
    with open(sys.argv[3], encoding="utf-8") as questions:
        found = _answers(sys.argv[1], sys.argv[2], json.load(questions))
    imported = sorted(_OURS & set(sys.modules))
    if imported:
        sys.exit(f"imported {', '.join(imported)}: this wouldn't show that the adapter stands alone")
    json.dump(found, sys.stdout, ensure_ascii=False)
