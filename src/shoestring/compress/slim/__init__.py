"""No method of a layer: trains one network that works at many widths, depths, kernels and input sizes."""
