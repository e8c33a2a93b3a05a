"""The whole service on one machine without any installed server, and the demo: its model, its data, its command."""
