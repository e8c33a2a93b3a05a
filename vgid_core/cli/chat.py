"""`vgid chat`: asks a model about an image, with and without its adapter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from terminal.console import stderr_console
from vgid_core.cli.exit_codes import exit_on_errors
from vgid_core.cli.inputs import options
from vgid_core.cli.inputs.run_file import RunFileError, adapter_folder, flag_settings, load_run
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import DataError, EncodedImage, require_encodable

if TYPE_CHECKING:
    from vgid_core.cli.reports.chat_session import ChatSession


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
    with exit_on_errors():
        settings = flag_settings({"device": device}, setting)
        run = load_run(file, {"model": model}, settings)
        source, folder = run.require("model"), adapter_folder(run, adapter)
        picture = None if image is None else _picture(str(image))
        for question in ask or ():
            if not question.strip():
                raise RunFileError("--ask: the question is empty")
            require_encodable(question, "question")
        set_up_logs()
        session = _load(source, folder, run.config)
        session.image = picture
        session.both = both
        if ask:
            _answer(session, ask)
        else:
            _chat(session)


def _load(source: str, adapter: Path | None, config: UnlearnConfig) -> ChatSession:
    from vgid_core.cli.reports.chat_session import ChatSession

    console = stderr_console()
    with console.status("loading"):
        return ChatSession.load(source, adapter, config, console.print)


def _chat(session: ChatSession) -> None:
    """Answers questions and obeys commands until the input ends. Prints errors and continues."""
    console = stderr_console()
    if sys.stdin.isatty():
        import readline  # noqa: F401  # makes input() editable, with a history

        console.print("Ask about the image. /image FILE · /adapter on|off · /both · /quit", markup=False)
    for line in _lines():
        try:
            if line in ("/quit", "/exit"):
                return
            if line.startswith("/"):
                console.print(_command(session, line), markup=False)
            else:
                _answer(session, [line])
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


def _command(session: ChatSession, line: str) -> str:
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name == "/image" and rest:
        session.image = _picture(rest)
        return "image: " + rest
    if name == "/adapter" and rest in ("on", "off"):
        session.adapted, session.both = rest == "on", False
        return session.state
    if name == "/both":
        session.both = not session.both
        return session.state
    return "commands: /image FILE · /adapter on|off · /both · /quit"


def _answer(session: ChatSession, questions: list[str]) -> None:
    # Without markup: a model's answer can hold rich's control sequences.
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if session.both:
        console.print(session.side_by_side(questions))
        return
    for question in questions:
        console.print(session.answer(question))


def _picture(path: str) -> EncodedImage:
    """Reads the image at `path`. Raises DataError if it isn't an image."""
    try:
        picture = EncodedImage(Path(path).expanduser().read_bytes())
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror})", "image") from None
    _ = picture.size
    return picture
