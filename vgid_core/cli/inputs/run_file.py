"""Run files: TOML files that describe a run, overridden by flags, and validated before torch is imported.

model = "models/llava"            # a folder, or a hub id such as "org/name"
forget = "data/forget.jsonl"      # paths are relative to this file
retain = "data/retain.jsonl"
out = "adapter"
[probes]
rephrased = "data/rephrased.jsonl"
[config.training]                 # any part of UnlearnConfig
steps = 100
[compare]                         # options of `vgid compare`
out = "comparison"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, PrivateAttr, StringConstraints, ValidationError

from terminal.assignments import assignments, parse_value
from vgid_core.cli.inputs.config_errors import error_lines
from vgid_core.cli.inputs.flags import Setting, flags_by_key, name_source
from vgid_core.cli.inputs.paths import absolute_paths, is_path
from vgid_core.config import UnlearnConfig
from vgid_core.config.strict import Strict
from vgid_core.data.pairs import RESERVED_NAMES
from vgid_core.models.name import name_of

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
SetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _a_path(value: str) -> str:
    if not is_path(value):
        raise ValueError("holds a NUL character" if value else "is empty")
    return value


def _not_reserved(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError("is a reserved name")
    return name


FilePath = Annotated[str, AfterValidator(_a_path)]
_ProbeName = Annotated[SetName, AfterValidator(_not_reserved)]


class RunFileError(Exception):
    """An unusable run file or flag. The message names the key."""


class RunFile(Strict):
    """The keys of a run file. Which are needed depends on the command.

    A set is a path, or `format:path`. Paths in a file are relative to it, those of flags to the working folder.
    """

    model: FilePath | None = Field(default=None, description="a folder, or a hub id such as org/name")
    model_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="the base's name in the artifact; by default the folder's name, or the hub id",
    )
    forget: FilePath | None = Field(default=None, description="pairs to forget")
    retain: FilePath | None = Field(default=None, description="pairs that must stay known")
    utility: FilePath | None = Field(
        default=None, description="pairs that are only measured: what the model must still be able to do"
    )
    probes: dict[_ProbeName, FilePath] = Field(
        default_factory=dict, description="more sets that are only measured, by name"
    )
    out: FilePath | None = Field(default=None, description="the adapter's folder")
    reference_model: FilePath | None = Field(
        default=None, description="a model trained without the forget set, measured beside the adapter"
    )
    unseen: FilePath | None = Field(
        default=None,
        description="pairs with true answers about people whom the model has never seen, other ones than the "
        "unseen faces: the control of audits and attacks",
    )
    neighbours: FilePath | None = Field(
        default=None, description="pairs about known people whom no other set holds: what they lose is collateral"
    )
    unseen_faces: FilePath | None = Field(
        default=None,
        description="photos of people whom the model has never seen, for the default method's teachers: a folder of "
        "images, or a set whose questions are ignored",
    )
    unlabelled: FilePath | None = Field(
        default=None,
        description="photos of anybody, without labels, such as those that users send: the base's answers on them are "
        "to stay",
    )
    facts: FilePath | None = Field(
        default=None,
        description="pairs whose facts `vgid compare` attacks, by default the forget set's. A JSONL line can name its "
        "fact, a part of the answer, as `fact`",
    )
    config: UnlearnConfig = Field(default=UnlearnConfig(), description="the settings of the run")
    compare: Any = Field(default=None, description="options of `vgid compare`; other commands ignore them")

    _flags: dict[str, str] = PrivateAttr(default_factory=dict)  # names of flags by the key that they set

    def source_of(self, key: str) -> str:
        """The name of `key` in messages: that of the flag that set it, else the key."""
        return self._flags.get(key, key)

    def require(self, key: str) -> str:
        """The value of `key`, which can be dotted ("compare.out"). Raises RunFileError if it is missing."""
        value: str | None = attrgetter(key)(self)
        if value is None:
            flag = key.rpartition(".")[2].replace("_", "-")
            raise RunFileError(f"{key} is missing: pass --{flag}, or set it in the run file")
        return value

    @property
    def model_label(self) -> str:
        """The model's name in artifacts."""
        return self.model_name or name_of(self.require("model"))


Kind = TypeVar("Kind", bound=RunFile)


def load_run(file: Path | None, flags: Mapping[str, Any], settings: Sequence[Setting] = ()) -> RunFile:
    """As `load_run_as`, with the keys that all commands share."""
    return load_run_as(RunFile, file, flags, settings)


def load_run_as(
    kind: type[Kind], file: Path | None, flags: Mapping[str, Any], settings: Sequence[Setting] = ()
) -> Kind:
    """Reads and validates a run file, overridden by `flags` (None: not given) and then by `settings`.

    kind: the class to validate with. A flag that is a mapping overrides the file's table key by key. Raises
    RunFileError naming the flag, or the file's key, that is unknown, missing or invalid.
    """
    given = _drop_missing(flags)
    values = {} if file is None else absolute_paths(read_toml(file), file.resolve().parent)
    values = _merge(values, absolute_paths(given, Path.cwd()))
    if any(setting.key == "preset" for setting in settings):
        values = _without_method(values)
    for setting in settings:
        values = _set_key(values, f"config.{setting.key}", setting.value)
    flag_names = dict(flags_by_key(given)) | {f"config.{setting.key}": setting.flag for setting in settings}
    try:
        run = kind.model_validate(values)
    except ValidationError as error:
        lines = error_lines(error, kind, values)
        raise RunFileError("\n".join(name_source(line, file, flag_names) for line in lines)) from None
    run._flags.update(flag_names)
    for key in ("model", "reference_model"):
        require_model(run.source_of(key), getattr(run, key))
    return run


def adapter_folder(run: RunFile, given: Path | None) -> Path | None:
    """The adapter's folder: the given one, else the run's `out` if it holds an adapter, else None.

    Raises RunFileError if the given folder holds no adapter.
    """
    if given is not None and not (given / "adapter_config.json").is_file():
        raise RunFileError(f"--adapter: {given} holds no adapter_config.json")
    if given is not None or run.out is None:
        return given
    own = Path(run.out)
    return own if (own / "adapter_config.json").is_file() else None


def flag_settings(named: Mapping[str, Any], given: Iterable[str] | None) -> list[Setting]:
    """The settings given by flags: first by options of their own, then by `--set`.

    named: values by dotted key (None: not given); the option has the name of the key's last part. given: texts of
    `--set`. Raises typer.BadParameter for a `--set` without a value.
    """
    own = [
        Setting(key, value, f"--{key.rpartition('.')[2].replace('_', '-')}")
        for key, value in named.items()
        if value is not None
    ]
    return own + [Setting(key, parse_value(text), f"--set {key}") for key, text in assignments(given, "--set").items()]


def read_toml(file: Path) -> dict[str, Any]:
    """Reads a TOML file. Raises RunFileError naming the file."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFileError(f"{file} can't be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunFileError(f"{file} isn't TOML: {error}") from None


def _drop_missing(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given, without None and empty tables."""
    values = {name: _drop_missing(value) if isinstance(value, Mapping) else value for name, value in flags.items()}
    return {name: value for name, value in values.items() if value is not None and value != {}}


def _merge(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`values` overridden by `overrides`, tables key by key."""
    merged = dict(values)
    for key, value in overrides.items():
        current = merged.get(key)
        merged[key] = _merge(current, value) if isinstance(current, Mapping) and isinstance(value, Mapping) else value
    return merged


def _without_method(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without the file's method, which a preset given by a flag replaces, as --method does."""
    config = values.get("config")
    if not isinstance(config, Mapping):
        return dict(values)
    return {**values, "config": {key: value for key, value in config.items() if key != "method"}}


def _set_key(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`values` with the dotted `key` set. A string in the place of a table becomes the table {"name": string}."""
    first, _, rest = key.partition(".")
    if not rest:
        return {**values, first: value}
    inside = values.get(first, {})
    if isinstance(inside, str):
        inside = {"name": inside}
    if not isinstance(inside, Mapping):
        raise RunFileError(f"{first} holds no settings of its own")
    return {**values, first: _set_key(inside, rest, value)}


def require_model(key: str, model: str | None) -> None:
    """Raises RunFileError if `model` is neither a model's folder nor in the form of a hub id. Asks no hub."""
    if model is None:
        return
    if Path(model).is_dir():
        if not (Path(model) / "config.json").is_file():
            raise RunFileError(f"{key}: {model} holds no config.json")
    elif not _HUB_ID.fullmatch(model):
        raise RunFileError(f"{key}: no folder {model}")
    elif Path(model).parent.is_dir():
        raise RunFileError(
            f"{key}: no folder {model}. It isn't asked of the hub, since {Path(model).parent} is one here"
        )
