"""From judged pairs to a better generator."""
