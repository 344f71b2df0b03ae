"""Training of the published models on the user's own files: LLaVA-OneVision as ORM or PARM, Show-o by DPO."""
