"""What commands print: bars, tables, errors in words."""
