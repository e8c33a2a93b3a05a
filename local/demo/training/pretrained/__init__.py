"""The second demo model: a pretrained language tower learns up to 300 people, with reference models."""
