"""Calls the whole API with generated requests, valid and not: none may get a 5xx, or an answer that isn't documented.

    python -m bench.counter.generated_calls [--examples 1300]

schemathesis makes them from the OpenAPI document, case by case, at random, and in sequences. A short form of this is a
test. Two of its checks aren't asked, `negative_data_rejection` and `positive_data_acceptance`, since what the document
can't say decides there. A generated request that fits the schema names no model of the catalog and holds no readable
image, so it is rightly refused; one that doesn't fit may be read as one that does, such as `total=1` in a query.

Prints its report, writes bench/results/generated_calls.json, and exits with 3 if an answer is wrong.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version

from bench.parts.bars import exit_if_missed
from bench.parts.machine import save
from bench.serving.stack import private_stack

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "unsupported_method",
    "ignored_auth",
)
SEED = 1
_GENERATED = re.compile(r"(\d+) generated")


def main() -> None:
    """Calls, prints and saves. Exits with what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1300, help="of each operation, in each phase")
    arguments = parser.parse_args()
    with private_stack() as stack, tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{stack.api.port}/openapi.json"]
        options = ["--max-examples", str(arguments.examples), "--continue-on-failure", "--seed", str(SEED)]
        phases = ["--phases", "examples,coverage,fuzzing,stateful", "--checks", ",".join(CHECKS)]
        header = ["-H", f"Authorization: Bearer {stack.key}"]
        done = subprocess.run([*command, *options, *phases, *header], cwd=folder, capture_output=True, text=True)
    print(done.stdout)
    found = _GENERATED.search(done.stdout)
    calls = int(found[1]) if found else 0
    record = {"calls": calls, "exit_status": done.returncode, "schemathesis": version("schemathesis")}
    print("written:", save("generated_calls", record | {"arguments": vars(arguments)}, seed=SEED, runs=1))
    exit_if_missed([] if done.returncode == 0 else [f"wrong answers: schemathesis ended with {done.returncode}"])


if __name__ == "__main__":
    main()
