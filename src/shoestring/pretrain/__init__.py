"""Self-supervised objectives, their loop, and what features are judged by."""
