"""Learned threshold pruning: `single` is `ltp`, `blocks` is `block_ltp`."""
