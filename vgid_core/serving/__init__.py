"""What is served: the name and the limits of an adapter on a server, and a check of what a server answers.

Doesn't import torch.
"""
