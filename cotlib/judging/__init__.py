"""Is the picture what the prompt asks for?  GenEval's rules, two judges of pictograms, and honest intervals."""
