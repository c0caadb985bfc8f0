"""Models that encode data into few numbers and decode them again."""
