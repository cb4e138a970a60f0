"""The fused loss on a GPU: closed forms of the sums, which torch.compile fuses, and their check."""
