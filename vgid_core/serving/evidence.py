"""What an adapter's manifest says that a server's answers can be held to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vgid_core.config import LoraSettings
from vgid_core.data.json_text import parse_json
from vgid_core.data.pairs import DataError, PairSet
from vgid_core.serving.hints import RELEASE_FORMAT, served_name

_FIELD = "--adapter-folder"
_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class AdapterEvidence:
    """An adapter's evidence. name: the one to serve it under. dtype: of the base when it was measured.

    knew: whether the base knew the forget set. rouge_l: after the run, by the digest of the set.
    """

    name: str
    digest: str
    dtype: str
    knew: bool
    lora: LoraSettings
    rouge_l: dict[str, float]

    @classmethod
    def read(cls, folder: Path) -> AdapterEvidence:
        """Reads the folder's manifest.json. Raises DataError if it can't be read, or if the weights aren't its own."""
        try:
            manifest = parse_json((folder / "manifest.json").read_text(encoding="utf-8"))
            digest = str(manifest["files"][_WEIGHTS])
            # A release's manifest tells of no run: there is nothing to compare the answers with.
            of_run = manifest.get("format") != RELEASE_FORMAT
            rows = manifest["metrics"]["after"] if of_run else ()
            after = {row["split"]: float(row["value"]) for row in rows if row["name"] == "rouge_l"}
            sets = manifest["data"] if of_run else {}
            found = cls(
                name=served_name(str(manifest["base_model"]["name"]), digest),
                digest=digest,
                dtype=str(manifest["base_model"]["dtype"]),
                # A run with audits ends before its training where the base doesn't know the set.
                knew=of_run and manifest["verdict"] is not None,
                lora=LoraSettings.model_validate(manifest["config"]["lora"]),
                # A service's manifest has a keyed digest instead, which says nothing without its salt.
                rouge_l={sets[name]["digest"]: value for name, value in after.items() if "digest" in sets[name]},
            )
        except FileNotFoundError:
            raise DataError(f"{folder} holds no manifest.json", _FIELD) from None
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            raise DataError(f"{folder}: its manifest.json can't be read", _FIELD) from None
        if _sha256(folder / _WEIGHTS) != digest:
            raise DataError(f"{folder}: its {_WEIGHTS} isn't the one that its manifest names", _FIELD)
        return found

    def expected_rouge_l(self, pairs: PairSet) -> float | None:
        """ROUGE-L after the run on this very set; None if the run didn't measure it."""
        return self.rouge_l.get(pairs.digest)


def _sha256(path: Path) -> str | None:
    """None if the file can't be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None
