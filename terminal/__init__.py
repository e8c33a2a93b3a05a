"""What all commands read and print alike: progress, tables of figures, units, NAME=VALUE, errors.

It imports nothing of ours: the client and the library, which know nothing of each other, both stand on it.
"""
