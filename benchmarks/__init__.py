"""Timings, each as a ratio to a named rival measured in the same run."""
