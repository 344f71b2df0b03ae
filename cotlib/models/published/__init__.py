"""The published models, read from the files their authors gave out; each plugs into the interfaces of `cotlib`."""
