"""What a command is told: flags and run files, their options and errors, and the sets that they name."""
