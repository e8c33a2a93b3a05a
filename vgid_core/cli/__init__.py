"""The library's own commands, which need no service: a file each, and torch is imported only once there is work."""
