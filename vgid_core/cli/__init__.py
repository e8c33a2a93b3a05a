"""The library's commands, which need no service. Each is a module; torch is imported only when there is work."""
