"""What single notebooks draw and count, so that their cells stay short."""
