"""The fused loss on CUDA: kernels written in Triton."""
