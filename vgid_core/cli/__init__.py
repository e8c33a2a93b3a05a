"""The library's commands, which need no service, a module each; torch is imported only when there is work.

What they are given is read in `inputs`, what they show is made in `reports`; the other modules say how a command ends,
is interrupted, logs and writes.
"""
