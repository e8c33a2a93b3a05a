"""`vgid chat`: questions about an image to a model, with and without its adapter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from vgid_core.cli import options
from vgid_core.cli.exit_codes import ended_in_words, notices
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.cli.run_file import RunFileError, adapter_of, load_run, settings_of
from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import DataError, EncodedImage, require_encodable

if TYPE_CHECKING:
    from vgid_core.cli.reports.chat_session import Talk


def chat(
    file: options.RunFileArgument = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    image: Annotated[Path | None, typer.Option(help="The image that is asked about.", show_default=False)] = None,
    ask: Annotated[
        list[str] | None,
        typer.Option(metavar="QUESTION", help="Answer this and end. Repeatable.", show_default=False),
    ] = None,
    both: Annotated[bool, typer.Option("--both", help="Answers with and without the adapter, side by side.")] = False,
    device: options.Device = None,
    setting: options.Setting = None,
) -> None:
    """Ask a model about an image, with its adapter and without."""
    with ended_in_words():
        settings = settings_of({"device": device}, setting)
        run = load_run(file, {"model": model}, settings)
        source, folder = run.needed("model"), adapter_of(run, adapter)
        picture = None if image is None else _picture(str(image))
        for question in ask or ():
            if not question.strip():
                raise RunFileError("--ask: the question is empty")
            require_encodable(question, "question")
        set_up_logs()
        talk = _begin(source, folder, run.config)
        talk.image = picture
        talk.both = both
        if ask:
            _answer(talk, ask)
        else:
            _converse(talk)


def _begin(source: str, adapter: Path | None, config: UnlearnConfig) -> Talk:
    from vgid_core.cli.reports.chat_session import Talk

    console = notices()
    with console.status("loading"):
        return Talk.begin(source, adapter, config, console.print)


def _converse(talk: Talk) -> None:
    """Questions and commands until the input ends. What is wrong with one of them doesn't end the talk."""
    console = notices()
    if sys.stdin.isatty():
        import readline  # noqa: F401  # lines can be edited and called back

        console.print("Ask about the image. /image FILE · /adapter on|off · /both · /quit", markup=False)
    for line in _lines():
        try:
            if line in ("/quit", "/exit"):
                return
            if line.startswith("/"):
                console.print(_command(talk, line), markup=False)
            else:
                _answer(talk, [line])
        except DataError as error:
            console.print(str(error), markup=False)


def _lines() -> Iterator[str]:
    while True:
        try:
            line = input("> ") if sys.stdin.isatty() else input()
        except EOFError:
            return
        if line.strip():
            yield line.strip()


def _command(talk: Talk, line: str) -> str:
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name == "/image" and rest:
        talk.image = _picture(rest)
        return "image: " + rest
    if name == "/adapter" and rest in ("on", "off"):
        talk.adapted, talk.both = rest == "on", False
        return talk.state
    if name == "/both":
        talk.both = not talk.both
        return talk.state
    return "commands: /image FILE · /adapter on|off · /both · /quit"


def _answer(talk: Talk, questions: list[str]) -> None:
    # A model's words are shown as they are: no markup in them is obeyed.
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if talk.both:
        console.print(talk.side_by_side(questions))
        return
    for question in questions:
        console.print(talk.answer(question))


def _picture(path: str) -> EncodedImage:
    """The image at `path`. Raises DataError when it isn't one."""
    try:
        picture = EncodedImage(Path(path).expanduser().read_bytes())
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror})", "image") from None
    _ = picture.size
    return picture
