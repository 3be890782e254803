"""The MnasNet space of Accel-NASBench: seven blocks of inverted bottlenecks, EfficientNet-B0 among them."""
