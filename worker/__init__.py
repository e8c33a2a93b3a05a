"""The worker: it claims jobs, runs each in a process of its own, reports, and reaps."""
