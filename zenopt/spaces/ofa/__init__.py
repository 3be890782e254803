"""Once-for-all's MobileNetV3 space: kernels, expansions and depths of five stages."""
