"""Compares methods on one dataset: the same tuning budget for each, several seeds, attacks, a table and a figure.

`plan` defines a comparison, `runner` runs it and fills a `record.Record`, `table` and `figure` show the record.
"""
