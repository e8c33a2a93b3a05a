"""The report: evidence as one HTML page that needs nothing else. Doesn't import torch."""
