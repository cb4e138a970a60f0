"""The fused loss on a GPU: formulas that torch.compile fuses, and their check."""
