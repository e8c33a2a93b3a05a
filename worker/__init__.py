"""The worker: claim a job, run it in a fresh process, report, reap."""
