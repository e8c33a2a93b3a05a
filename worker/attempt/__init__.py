"""The process of one attempt at a job, the only one that loads torch and uses the accelerator."""
