"""GPU kernels, each with its plain reference, its count of bytes and FLOPs, and one rule for which form runs.

`cotlib.kernels.launch` says which form runs when; each module's head holds formula, shapes and cost.
"""
