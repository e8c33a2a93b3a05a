"""How an adapter is to be served: its name, and what servers won't take. The limits are those of vLLM 0.33."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vgid_core.config import LoraSettings

# The ranks that vLLM's --max-lora-rank takes, from its default up.
_SERVER_RANKS = (16, 32, 64, 128, 256)
DEFAULT_MAX_RANK = _SERVER_RANKS[0]
DIGEST_DIGITS = 12
RELEASE_FORMAT = "vgid-release/1"  # of a manifest that tells how an adapter is served, and nothing of who is forgotten


@dataclass(frozen=True)
class ServingWarning:
    """Something that a server's defaults don't allow for."""

    kind: Literal["rank", "vision-layers"]
    message: str
    advice: str


def served_name(model_name: str, adapter_digest: str) -> str:
    """The name under which the adapter is to be served: `vgid-<model>-<first digits of its sha256>`.

    Servers keep cached prefixes under an adapter's name, so that another adapter needs another name.
    """
    model = re.sub(r"[^a-z0-9._]+", "-", model_name.lower()).strip("-.") or "model"
    return f"vgid-{model}-{adapter_digest[:DIGEST_DIGITS]}"


def serving_warnings(lora: LoraSettings) -> tuple[ServingWarning, ...]:
    """What servers won't take of such an adapter unless they are told."""
    found = []
    if lora.rank > DEFAULT_MAX_RANK:
        found.append(
            ServingWarning(
                "rank",
                f"the adapter's rank {lora.rank} is above {DEFAULT_MAX_RANK}, the most that vLLM takes by default",
                f"start vLLM with --max-lora-rank {server_rank(lora)}, or train with lora.rank={DEFAULT_MAX_RANK}",
            )
        )
    if lora.scope != "language":
        found.append(
            ServingWarning(
                "vision-layers",
                "the adapter changes vision layers, which vLLM leaves out without an error",
                "merge the adapter and serve the merged model, or train with lora.scope=language",
            )
        )
    return tuple(found)


def server_rank(lora: LoraSettings) -> int:
    """The smallest value of vLLM's --max-lora-rank that takes the adapter."""
    return next(rank for rank in _SERVER_RANKS if rank >= lora.rank)


def as_manifest_entry(model_name: str, adapter_digest: str, lora: LoraSettings) -> dict[str, Any]:
    """Name and warnings for the manifest, in JSON types."""
    return {
        "name": served_name(model_name, adapter_digest),
        "warnings": [warning.message for warning in serving_warnings(lora)],
    }


def serving_guide(manifest: Mapping[str, Any]) -> str:
    """The section of an adapter's README.md on how to serve it. manifest: with its entry `serving`."""
    lora = LoraSettings.model_validate(manifest["config"]["lora"])
    base, name = manifest["base_model"]["name"], manifest["serving"]["name"]
    warnings = "".join(f"**Mind:** {one.message}: {one.advice}.\n\n" for one in serving_warnings(lora))
    rank = server_rank(lora)
    return f"""## Serving it

Its name on a server is `{name}`: it carries the adapter's digest. Under a reused name some servers answer from
what they cached for an earlier adapter. Keep each adapter in a folder of its own, too.

{warnings}With vLLM:

```console
$ vllm serve <path of {base}> --enable-lora --max-lora-rank {rank} --lora-modules {name}=<this folder>
```

The base stays reachable under its own name, and without any name. Close both in front of the server, or merge the
adapter and serve the merged model alone, for instance with `transformers serve`:

```python
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("<path of {base}>")
merged = PeftModel.from_pretrained(model, "<this folder>").merge_and_unload()
merged.save_pretrained("{name}")
AutoProcessor.from_pretrained("<path of {base}>").save_pretrained("{name}")
```

```console
$ transformers serve {name}
```

Then ask the server what its users get, with the pairs that were to be forgotten:

```console
$ vgid verify-serving --endpoint http://localhost:8000 --adapter {name} --pairs forget.jsonl
```
"""
