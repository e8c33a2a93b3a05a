"""`vgid combine`: a release's adapter and one of your own as one, audited again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from terminal.console import result_console
from vgid_core.cli.evaluate import measure, show, spec_of
from vgid_core.cli.exit_codes import TARGETS_MISSED, exit_on_errors
from vgid_core.cli.inputs.run_file import load_run
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.cli.out_folder import require_free


def combine(
    adapter: Annotated[Path, typer.Argument(help="The folder of a release's adapter, unpacked.")],
    others: Annotated[
        list[Path], typer.Option("--with", metavar="FOLDER", help="An adapter of the same base. Repeatable.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the one adapter goes.")],
    rank: Annotated[
        int | None, typer.Option(min=1, help="The largest that it may have; else the sum, which loses nothing.")
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(metavar="RUN.toml", help="Judge the result by this run file's sets, as `evaluate`.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an adapter that is there.")] = False,
) -> None:
    """Make one adapter of several for the same base: their updates are added up, and cut to a rank if asked.

    Whether the forgetting survives that is for an audit to say: the adapters were never trained together.
    """
    with exit_on_errors():
        require_free(out, overwrite)
        spec = None if audit is None else spec_of(load_run(audit, {}, []), None)  # before anything is written
        set_up_logs()
        from vgid_core.lora.combine import combine as combine_adapters

        made = combine_adapters([adapter, *others], out, rank)
        cut = f", {made.lost:.1%} of an update lost at most" if made.lost else ""
        result_console().print(f"{out}: rank {made.rank}{cut}", soft_wrap=True)
        if spec is None:
            result_console().print("not audited: `vgid evaluate RUN.toml --adapter` says whether it still forgets")
            return
        found = measure(replace(spec, adapter=out))
        show(found, as_json=False)
        if not found.evidence.verdict.passed:
            raise typer.Exit(TARGETS_MISSED)
