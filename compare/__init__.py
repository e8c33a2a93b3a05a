"""Methods side by side on one dataset: the same budget of trials for each, several seeds, attacks, a table, a figure.

`plan` says what is run on what, `race.compare` runs it and fills a `record.Record`, `table` and `figure` show that.
"""
