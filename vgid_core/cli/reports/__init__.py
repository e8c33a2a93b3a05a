"""What commands print: progress bars, tables and error messages."""
