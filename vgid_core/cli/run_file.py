"""A run as it is written down: a TOML file, flags that override it, checked whole before torch is loaded.

model = "models/llava"            # a folder, or a hub id such as "org/name"
forget = "data/forget.jsonl"      # paths start at this file
retain = "data/retain.jsonl"
out = "adapter"
[probes]
rephrased = "data/rephrased.jsonl"
[config.training]                 # any part of UnlearnConfig
steps = 100
[compare]                         # what `vgid compare` is told besides
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

from vgid_core.cli.config_errors import readable
from vgid_core.cli.flags import Setting, blamed, typed_in
from vgid_core.cli.paths import absolute, possible
from vgid_core.config import UnlearnConfig
from vgid_core.config.strict import Strict
from vgid_core.data.json_text import NotJson, parse_json
from vgid_core.models.name import name_of

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
SetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _a_path(value: str) -> str:
    if not possible(value):
        raise ValueError("holds a NUL character" if value else "is empty")
    return value


def _no_sets_own(name: str) -> str:
    if name in ("forget", "retain", "utility", "strangers", "unlabelled"):
        raise ValueError("is a reserved name")
    return name


FilePath = Annotated[str, AfterValidator(_a_path)]
_ProbeName = Annotated[SetName, AfterValidator(_no_sets_own)]


class RunFileError(Exception):
    """A file or flag that can't be used; the message names the key."""


class RunFile(Strict):
    """What the library's commands are told; which keys are needed depends on the command.

    A set is a path, or `format:path`. Paths in a file start at the file, those of flags at the present folder.
    """

    model: FilePath | None = Field(default=None, description="a folder, or a hub id such as org/name")
    model_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="what the adapter calls its base; else the folder's name, or the hub id",
    )
    forget: FilePath | None = Field(default=None, description="pairs that are to be forgotten")
    retain: FilePath | None = Field(default=None, description="pairs that must stay known")
    utility: FilePath | None = Field(
        default=None, description="pairs that are measured: what the model must still be able to do"
    )
    probes: dict[_ProbeName, FilePath] = Field(
        default_factory=dict, description="more sets that are measured and never trained on, by name"
    )
    out: FilePath | None = Field(default=None, description="the adapter's folder")
    twin: FilePath | None = Field(
        default=None, description="a model trained without what is forgotten, to be measured beside the adapter"
    )
    never_seen: FilePath | None = Field(
        default=None, description="pairs like the forgotten ones that no model was shown, for membership attacks"
    )
    strangers: FilePath | None = Field(
        default=None,
        description="photos of people whom the model has never seen: a folder of images, or a set whose questions are "
        "ignored. The default method's teachers see them",
    )
    unlabelled: FilePath | None = Field(
        default=None,
        description="photos of anybody, without labels, such as those that people show the model: what it says of them "
        "is to stay",
    )
    facts: FilePath | None = Field(
        default=None,
        description="forgotten pairs that are attacked, else the forget set; a JSONL line may name in `fact` what of "
        "its answer matters",
    )
    config: UnlearnConfig = Field(default=UnlearnConfig(), description="the settings of the run")
    compare: Any = Field(default=None, description="what `vgid compare` is told besides; others leave it unread")

    _flags: dict[str, str] = PrivateAttr(default_factory=dict)  # by the key that they gave

    def named(self, key: str) -> str:
        """What messages call `key`: the flag that gave its value, if one did."""
        return self._flags.get(key, key)

    def needed(self, key: str) -> str:
        """The value of `key`, of the run or with a dot of `compare`. Raises RunFileError when there is none."""
        value: str | None = attrgetter(key)(self)
        if value is None:
            flag = key.rpartition(".")[2].replace("_", "-")
            raise RunFileError(f"{key} is missing: pass --{flag}, or set it in the run file")
        return value

    @property
    def called(self) -> str:
        """What artifacts call the model."""
        return self.model_name or name_of(self.needed("model"))


Kind = TypeVar("Kind", bound=RunFile)


def load_run(file: Path | None, flags: Mapping[str, Any], settings: Sequence[Setting] = ()) -> RunFile:
    """As `load_run_as`, for what every command is told."""
    return load_run_as(RunFile, file, flags, settings)


def load_run_as(
    kind: type[Kind], file: Path | None, flags: Mapping[str, Any], settings: Sequence[Setting] = ()
) -> Kind:
    """The file with `flags` (None: not given) and then `settings` put over it; `kind` says which tables are read.

    A flag that is a mapping is put over the file's table key by key. Raises RunFileError naming the flag, or the file's
    key, that is unknown, missing or out of range.
    """
    given = _given(flags)
    values = {} if file is None else absolute(settings_in(file), file.resolve().parent)
    values = _over(values, absolute(given, Path.cwd()))
    if any(setting.key == "preset" for setting in settings):
        values = _without_method(values)
    for setting in settings:
        values = _with(values, f"config.{setting.key}", setting.value)
    typed = dict(typed_in(given)) | {f"config.{setting.key}": setting.flag for setting in settings}
    try:
        run = kind.model_validate(values)
    except ValidationError as error:
        lines = readable(error, kind, values)
        raise RunFileError("\n".join(blamed(line, file, typed) for line in lines)) from None
    run._flags.update(typed)
    for key in ("model", "twin"):
        require_model(run.named(key), getattr(run, key))
    return run


def adapter_of(run: RunFile, given: Path | None) -> Path | None:
    """The adapter's folder: the one given, else the run's own where it has been written; None for the base alone.

    Raises RunFileError when the given one holds no adapter.
    """
    if given is not None and not (given / "adapter_config.json").is_file():
        raise RunFileError(f"--adapter: {given} holds no adapter_config.json")
    if given is not None or run.out is None:
        return given
    own = Path(run.out)
    return own if (own / "adapter_config.json").is_file() else None


def assignments(given: Iterable[str] | None, option: str) -> dict[str, str]:
    """NAME=VALUE texts as a mapping. Raises RunFileError naming `option`."""
    parts = [text.partition("=") for text in given or []]
    if any(not (name and mark) for name, mark, _ in parts):
        raise RunFileError(f"{option} must look like NAME=VALUE")
    if len({name for name, _, _ in parts}) < len(parts):
        raise RunFileError(f"{option} gives one name two values")
    return {name: value for name, _, value in parts}


def settings_of(named: Mapping[str, Any], given: Iterable[str] | None) -> list[Setting]:
    """Settings of the flags: those with an option of their own (None: not given), then those behind `--set`.

    Such an option bears the last name of its key. Raises RunFileError for a `--set` without a value.
    """
    own = [
        Setting(key, value, f"--{key.rpartition('.')[2].replace('_', '-')}")
        for key, value in named.items()
        if value is not None
    ]
    return own + [Setting(key, _value_of(text), f"--set {key}") for key, text in assignments(given, "--set").items()]


def _value_of(text: str) -> Any:
    """A number, list, object, true, false or null as JSON writes it, anything else as the string it is."""
    try:
        return parse_json(text)
    except NotJson:
        return text


def settings_in(file: Path) -> dict[str, Any]:
    """What stands in a TOML file. Raises RunFileError naming it."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFileError(f"{file} can't be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunFileError(f"{file} isn't TOML: {error}") from None


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given."""
    values = {name: _given(value) if isinstance(value, Mapping) else value for name, value in flags.items()}
    return {name: value for name, value in values.items() if value is not None and value != {}}


def _over(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with what is `given` in its place, tables key by key."""
    found = dict(values)
    for key, value in given.items():
        below = found.get(key)
        found[key] = _over(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return found


def _without_method(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` as they are put under a preset that a flag names: it is a method, as --method is."""
    config = values.get("config")
    if not isinstance(config, Mapping):
        return dict(values)
    return {**values, "config": {key: value for key, value in config.items() if key != "method"}}


def _with(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`values` with the dotted `key` set; where a name stands for a table of settings, the table takes its place."""
    first, _, rest = key.partition(".")
    if not rest:
        return {**values, first: value}
    inside = values.get(first, {})
    if isinstance(inside, str):
        inside = {"name": inside}
    if not isinstance(inside, Mapping):
        raise RunFileError(f"{first} holds no settings of its own")
    return {**values, first: _with(inside, rest, value)}


def require_model(key: str, model: str | None) -> None:
    """Raises RunFileError for what is neither a model's folder nor looks like a hub id: no hub needs to be asked."""
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
