"""The fused loss on a GPU: Triton kernels."""
