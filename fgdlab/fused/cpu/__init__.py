"""The fused loss on the CPU: loops compiled by numba."""
