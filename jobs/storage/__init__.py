"""What a job keeps on disk: its encrypted uploads and its artifact, and the keys that open the uploads."""
