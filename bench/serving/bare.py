"""What the service's GET is compared with: FastAPI, the same engine and pool, one read of the same row, no more.

    python -m bench.serving.bare DESCRIPTOR

No authentication, no log, no request id, no tenant, no metrics or artifact. It reads the row through the same sessions
as the service and answers with the columns that the service shows, through a response model.
"""

from __future__ import annotations

import argparse
import socket
from datetime import datetime
from typing import Any
from uuid import UUID

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict

from jobs.database import make_engine, session_factory
from jobs.settings import get_settings
from jobs.states import Phase, State
from jobs.tables import Job


class JobRow(BaseModel):
    """The row's columns, but for those that no client sees."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    state: State
    phase: Phase | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    model: str
    config: dict[str, Any]
    retain_set: str | None
    forget_pairs: int
    retain_pairs: int | None
    probes: dict[str, int]
    external_id: str | None
    subject_hash: str | None
    legal_basis: str | None
    due_at: datetime | None
    job_metadata: dict[str, str]
    attempt: int
    cancel_requested_at: datetime | None
    step: int
    total_steps: int
    progress: float
    loss_forget: float | None
    loss_retain: float | None
    estimated_finish_at: datetime | None
    inputs_deleted_at: datetime | None
    error_type: str | None
    error_detail: str | None
    stop_reason: str | None


def create_app() -> FastAPI:
    """The application; it reads VGID_* variables as the service does."""
    sessions = session_factory(make_engine(get_settings()))
    app = FastAPI()

    @app.get("/jobs/{job_id}")
    def get_job(job_id: UUID) -> JobRow:
        with sessions() as s:
            job = s.get(Job, job_id)
        if job is None:
            raise HTTPException(404)
        return JobRow.model_validate(job)

    return app


def main() -> None:
    """Serves on a socket that is listened on already, as local.serve does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("descriptor", type=int, help="of a socket that is listened on")
    descriptor = parser.parse_args().descriptor
    config = uvicorn.Config(create_app, factory=True, access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main()
