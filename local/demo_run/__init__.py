"""`vgid demo`: one forget request from end to end on this machine, in front of your eyes."""
