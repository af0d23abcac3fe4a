"""No method of a layer: gives a network exits on its way, by which inputs that are clear already leave early."""
