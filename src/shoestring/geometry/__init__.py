"""Points in space: who is near whom, and which to keep. Dense float tensors (B, N, C); indices are int64."""
