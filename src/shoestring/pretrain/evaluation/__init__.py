"""Protocols: one a file. Features or a network in, one score a split out, the same splits for all."""
