"""Learned threshold pruning: `plain` is `ltp`, `blocks` is `block_ltp`."""
