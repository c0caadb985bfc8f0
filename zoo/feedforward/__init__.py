"""Networks that run once, from input to output."""
