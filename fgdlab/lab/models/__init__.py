"""What detectors are made of: backbones, heads of our own, MMDetection's flavour, weights in and out; ``detectors.py`` is the door."""
