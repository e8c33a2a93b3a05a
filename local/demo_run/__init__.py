"""The command `vgid demo`: one forget request from end to end on this machine, shown step by step."""
