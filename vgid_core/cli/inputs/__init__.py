"""What a command is given: flags and run files, their options and errors, and the sets that they name."""
