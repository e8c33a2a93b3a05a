"""A bare FastAPI route that reads one job's row. `bench.counter.service` compares the service's own GET with it.

    python -m bench.serving.bare DESCRIPTOR

It uses the same engine and sessions as the service, and answers with the columns that the service shows, through a
response model. It has no authentication, log, request id, tenant, metrics or artifact.
"""

from __future__ import annotations

import argparse
import socket
from typing import Any, get_args, get_type_hints
from uuid import UUID

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import ConfigDict, create_model

from jobs.database import make_engine, session_factory
from jobs.settings import get_settings
from jobs.tables import Job

# The columns that no client sees.
_HIDDEN = {
    "client_id", "idempotency_key", "request_hash", "wrapped_data_key", "attempt_token", "worker", "lease_expires_at",
    "leads_since", "updated_at", "last_progress_at",
}  # fmt: skip
_SHOWN: dict[str, Any] = {
    name: get_args(hint)[0]  # of Mapped[...]
    for name, hint in get_type_hints(Job).items()
    if name in Job.__table__.columns and name not in _HIDDEN
}
JobRow = create_model("JobRow", __config__=ConfigDict(from_attributes=True), **_SHOWN)


def create_app() -> FastAPI:
    """The application. It reads VGID_* variables as the service does."""
    sessions = session_factory(make_engine(get_settings()))
    app = FastAPI()

    @app.get("/jobs/{job_id}", response_model=JobRow)
    def get_job(job_id: UUID) -> Any:
        with sessions() as s:
            job = s.get(Job, job_id)
        if job is None:
            raise HTTPException(404)
        return JobRow.model_validate(job)

    return app


def main() -> None:
    """Serves on an open socket, as local.serve does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("descriptor", type=int, help="of a socket that is listened on")
    descriptor = parser.parse_args().descriptor
    config = uvicorn.Config(create_app, factory=True, access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main()
