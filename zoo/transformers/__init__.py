"""Networks in which each place of a sequence looks at the others, over keras-hub."""
