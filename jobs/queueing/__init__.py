"""The queue: which job comes next, how long others wait, and the message that wakes a worker."""
