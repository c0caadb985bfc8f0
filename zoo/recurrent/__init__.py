"""Networks that read a sequence step by step and keep what they need in a state."""
