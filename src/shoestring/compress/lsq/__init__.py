"""LSQ and LSQ+: low bits, trained, with learned steps (and offsets)."""
